"""Verifiers by name: they read what a completion answers, and say whether it is right."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from entrocraft.errors import UnknownNameError
from entrocraft.grading.numbers import is_part_of_more, last_number
from entrocraft.grading.patterns import check_pattern, last_match
from entrocraft.grading.time_limit import TimeLimited, check_seconds, time_limited
from entrocraft.registry import build_with, name_and_options


class Verifier(ABC):
    """A comparison of what completions answer with the right answers.

    A subclass reads the answer out of text; a completion is right if its answer is that of the right answer's text.
    """

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        """Return what each completion answers, equal text for equal answers; None where it answers nothing."""
        return [self.answer_of(completion) for completion in completions]

    @abstractmethod
    def answer_of(self, completion: str) -> str | None:
        """Return what one completion answers, equal text for equal answers; None if it answers nothing."""

    def expected(self, answer: Any) -> str | None:
        """Return the right answer in the form of `answer_of`."""
        return self.answer_of(str(answer))

    def mistake_in(self, answer: str) -> str | None:
        """Return why no completion could be held against this right answer; None if nothing is wrong with it."""
        return "holds no answer that reward can find" if self.expected(answer) is None else None

    def scores(self, completions: Sequence[str], answers: Sequence[Any]) -> list[float]:
        """Return 1.0 for each completion that is right, else 0.0."""
        return [
            float(got is not None and got == self.expected(answer))
            for got, answer in zip(self.answers_of(completions), answers, strict=True)
        ]


class Exact(Verifier):
    """The verifier for which the whole completion is the answer, but for white space around it.

    Args:
        ignore_case: Whether capital and small letters are the same.

    Example:
        >>> Exact().scores([" Paris ", "paris"], ["Paris", "Paris"])
        [1.0, 0.0]
        >>> Exact(ignore_case=True).scores(["paris"], ["Paris"])
        [1.0]
    """

    def __init__(self, ignore_case: bool = False):
        self.ignore_case = ignore_case

    def answer_of(self, completion: str) -> str | None:
        text = completion.strip()
        return (text.casefold() if self.ignore_case else text) or None


class Number(Verifier):
    """The verifier for which the last number is the answer, of a right answer, too, as in GSM8K's `#### 42`.

    Numbers are read as a person reads them; see `numbers.last_number`. A right answer of which the last number is but
    a part, such as `3/4`, `2:30` or `3,14`, is refused when the data are read.

    Example:
        >>> Number().scores(["It is 1,200.0 euro.", "12 or 13", "10-7"], ["so #### 1200", 12, 7])
        [1.0, 0.0, 1.0]
    """

    def answer_of(self, completion: str) -> str | None:
        return last_number(completion)

    def mistake_in(self, answer: str) -> str | None:
        if is_part_of_more(answer):
            return "must hold one number for reward 'number', which reads the last one alone (reward 'math' reads more)"
        return super().mistake_in(answer)


class Regex(Verifier):
    """The verifier for which the last match of a regular expression is the answer: its first group, or all of it.

    Matching runs in processes of its own, which are ended where an expression takes too long on what a model wrote.

    Args:
        pattern: The expression, in Python's syntax; begin it with `(?s)` for a dot that matches line breaks.
        seconds: Time for one completion.

    Raises:
        InvalidValueError: The pattern is no regular expression.

    Example:
        >>> Regex("<answer>(.*?)</answer>").scores(["<answer> 4 </answer>", "4"], ["4", "4"])
        [1.0, 0.0]
    """

    def __init__(self, pattern: str, seconds: float = 5.0):
        check_pattern(pattern)
        check_seconds(seconds)
        self.pattern, self.seconds = pattern, seconds
        self._expected: dict[str, str | None] = {}  # of each right answer so far

    def answer_of(self, completion: str) -> str | None:
        return self.answers_of([completion])[0]

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        limited = time_limited("entrocraft.grading.patterns:last_match", self.seconds)
        return limited.map([(self.pattern, completion) for completion in completions], late=None, failed=None)

    def expected(self, answer: Any) -> str | None:
        """Return what a right answer says: its own last match, as in GSM8K's `#### 42`, or all of it without one."""
        text = str(answer)
        if text not in self._expected:
            (match,) = self.answers_of([text])  # a pattern may take forever on a right answer, too
            self._expected[text] = match or text.strip() or None
        return self._expected[text]


class Tagged(Regex):
    """The verifier for which the answer stands between the last pair of `<answer>` tags.

    Example:
        >>> Tagged().answer_of("<answer>3</answer>, no: <answer> 4 </answer>")
        '4'
    """

    def __init__(self) -> None:
        super().__init__("(?s)<answer>(.*?)</answer>")

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        # In this process: unlike a user's, this pattern takes time in proportion to the text.
        return [last_match(self.pattern, completion) for completion in completions]


class Math(Verifier):
    r"""The verifier for which the answer is a mathematical expression, boxed or last, and right if math-verify says so.

    Grading runs in processes of its own, which are ended where they take too long: a completion such as
    `9^{9^{9}}` cannot hang a run. It then scores 0, which is warned of once. Of a right answer with a `####`, as in
    GSM8K, what follows counts.

    Args:
        seconds: Time for one completion.

    Example:
        >>> Math().scores([r"so \boxed{\frac{1}{2}}", "it is 0.25"], ["0.5", "0.5"])
        [1.0, 0.0]
    """

    def __init__(self, seconds: float = 5.0):
        check_seconds(seconds)
        self.seconds = seconds

    def _graded(self, function: str) -> TimeLimited:
        return time_limited(f"entrocraft.grading.mathematics:{function}", self.seconds, package="math-verify")

    def answer_of(self, completion: str) -> str | None:
        return self.answers_of([completion])[0]

    def expected(self, answer: Any) -> str | None:
        return str(answer).strip() or None  # read together with each completion

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        return self._graded("normal_form").map([(completion,) for completion in completions], late=None, failed=None)

    def scores(self, completions: Sequence[str], answers: Sequence[Any]) -> list[float]:
        right = [str(answer).rpartition("####")[2].strip() for answer in answers]
        pairs = list(zip(right, completions, strict=True))
        return [float(equal) for equal in self._graded("is_equal").map(pairs, late=False, failed=False)]


_VERIFIERS: dict[str, Callable[..., Verifier]] = {"exact": Exact, "math": Math, "number": Number, "regex": Regex}


def available() -> list[str]:
    """Return the names that `build` knows."""
    return sorted(_VERIFIERS)


def build(spec: str | Mapping[str, Any]) -> Verifier:
    """Build a verifier from its name, or from a mapping of `name` and its options.

    Raises:
        UnknownNameError: No verifier has that name.
        InvalidValueError: An option is missing, of another type or cannot be used.

    Example:
        >>> build({"name": "exact", "ignore_case": True}).answer_of(" Yes ")
        'yes'
    """
    name, options = name_and_options(spec)
    if not isinstance(name, str) or name not in _VERIFIERS:
        raise UnknownNameError.of("reward", name, [*_VERIFIERS, "or your own as package.module:function"])
    return build_with(_VERIFIERS[name], options, f"reward {name!r}")
