"""Countdown: reach a target by combining numbers, each used exactly once.

The prompt is `4,6,1,9=18:`, and a right answer is any expression such as `4+6-1+9` that uses every number once and
has the target as its value. Most problems have many solutions, so a policy has diversity to lose, which is what makes
the task a test bed for entropy control.
"""

import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.tasks.base import Problem, Split, Task, check_num_problems, text_of

_TOKEN = re.compile(r"\d+|[-+*/()]")
_MAX_ANSWER_CHARS = 256  # bounds the parser's recursion; an answer to eight numbers takes fewer than 40
_ONE_TEST_PROBLEM_IN = 10  # by a hash of the problem itself
_MAX_MISSES = 5000  # draws in a row without a new problem after which a split counts as exhausted
_MAX_DRAWS = 20_000  # of numbers and operators in a row that reach no target
_MOST = 10**9  # that a number or a target may be
_MOST_OPERATORS = 16  # one may stand there several times, to be drawn more often
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}  # how tightly operators bind
_OF_A_NUMBER = 3  # which needs no parentheses beside any operator
_MOST_SEARCHED = 5  # numbers of which all values are found in milliseconds


def parse_expression(text: str) -> tuple[Fraction, list[int]]:
    """Parse an arithmetic expression and return its exact value and the numbers it uses.

    The grammar, with the usual precedence and left association::

        expression := term (("+" | "-") term)*
        term       := factor (("*" | "/") factor)*
        factor     := NUMBER | "(" expression ")"

    Args:
        text: The expression; whitespace is allowed between tokens. There is no unary minus.

    Returns:
        The value as an exact fraction, and the numbers in reading order.

    Raises:
        InvalidValueError: The text is not an expression, is longer than 256 characters, or
            divides by zero.

    Example:
        >>> parse_expression("(7-3)*2")
        (Fraction(8, 1), [7, 3, 2])
    """
    if len(text) > _MAX_ANSWER_CHARS:
        raise InvalidValueError(f"an expression of at most {_MAX_ANSWER_CHARS} characters, got {len(text)}")
    if _TOKEN.sub("", text).strip():
        raise InvalidValueError(f"not an arithmetic expression: {text!r}")
    # Recursive descent, a function for each line of the grammar; each takes its tokens from the front of the list.
    tokens = _TOKEN.findall(text)
    numbers: list[int] = []

    def peek() -> str | None:
        return tokens[0] if tokens else None

    def factor() -> Fraction:
        token = tokens.pop(0) if tokens else "the end"
        if token.isdecimal():
            numbers.append(int(token))
            return Fraction(int(token))
        if token != "(":
            raise InvalidValueError(f"expected a number or '(', got {token!r} in {text!r}")
        value = expression()
        if not tokens or tokens.pop(0) != ")":
            raise InvalidValueError(f"unbalanced '(' in {text!r}")
        return value

    def term() -> Fraction:
        value = factor()
        while peek() in ("*", "/"):
            if tokens.pop(0) == "*":
                value *= factor()
                continue
            divisor = factor()
            if divisor == 0:
                raise InvalidValueError(f"division by zero in {text!r}")
            value /= divisor
        return value

    def expression() -> Fraction:
        value = term()
        while peek() in ("+", "-"):
            value = value + term() if tokens.pop(0) == "+" else value - term()
        return value

    value = expression()
    if tokens:
        raise InvalidValueError(f"expected an operator or the end, got {tokens[0]!r} in {text!r}")
    return value, numbers


@lru_cache(maxsize=100_000)
def reachable_values(numbers: tuple[int, ...], operators: str) -> frozenset[Fraction]:
    """Return the values of all expressions that use every number once, and no other operators.

    Example:
        >>> sorted(map(int, reachable_values((2, 3), "+-*")))
        [-1, 1, 5, 6]
    """
    if len(numbers) == 1:
        return frozenset([Fraction(numbers[0])])
    found: set[Fraction] = set()
    first, *others = numbers
    # Each way to divide the numbers in two, the first of them always on the left: both orders are tried below.
    for chosen in range(2 ** len(others) - 1):
        left = (first, *(number for i, number in enumerate(others) if chosen >> i & 1))
        right = tuple(number for i, number in enumerate(others) if not chosen >> i & 1)
        for a in reachable_values(left, operators):
            for b in reachable_values(right, operators):
                for operator in operators:
                    match operator:
                        case "+":
                            found.add(a + b)
                        case "-":
                            found |= {a - b, b - a}
                        case "*":
                            found.add(a * b)
                        case _:
                            found |= {x / y for x, y in ((a, b), (b, a)) if y}
    return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class Countdown(Task):
    """Countdown problems with a solution, seeded, with a held-out test split.

    A problem is drawn by building a random expression and asking for its value, so every problem
    has a solution. Whether a problem belongs to `test` depends on a hash of its numbers and target
    only: no seed and no order of numbers can carry a test problem into training.
    """

    num_numbers: int = 4
    """How many numbers a problem has, 2 to 8."""
    max_number: int = 9
    """Largest number of a problem; the smallest is 1."""
    max_target: int = 99
    """Largest target; the smallest is 1."""
    operators: str = "+-*"
    """Operators of which the solution that a problem is made of is built; an answer may use all four."""
    unreachable_by: str = ""
    """Operators that must not suffice: what they solve by themselves is no problem. For up to 5 numbers."""

    name = "countdown"

    def __post_init__(self) -> None:
        if not 2 <= self.num_numbers <= 8:
            raise InvalidValueError(f"countdown: num_numbers must be 2 to 8, got {self.num_numbers}")
        if not (1 <= self.max_number <= _MOST and 1 <= self.max_target <= _MOST):
            raise InvalidValueError(
                f"countdown: max_number and max_target must be at least 1 and at most {_MOST:,}, got {self.max_number} "
                f"and {self.max_target}"
            )
        if not 1 <= len(self.operators) <= _MOST_OPERATORS or set(self.operators) - set(_PRECEDENCE):
            raise InvalidValueError(f"countdown: operators must be some of '+-*/', got {self.operators!r:.60}")
        if self.unreachable_by and not set(self.unreachable_by) < set(self.operators):
            raise InvalidValueError(
                f"countdown: unreachable_by must be some of operators {self.operators!r}, but not all, got "
                f"{self.unreachable_by!r:.60}"
            )
        if self.unreachable_by and self.num_numbers > _MOST_SEARCHED:
            raise InvalidValueError(
                f"countdown: unreachable_by is found out by trying all expressions, which takes too long for more than "
                f"{_MOST_SEARCHED} numbers, got num_numbers={self.num_numbers}"
            )

    @property
    def max_completion_tokens(self) -> int:  # type: ignore[override]
        """Number of tokens of the longest answer, where every character is one.

        Numbers, operators between them, a pair of parentheses for each operation but the outermost, and the end.
        """
        digits = len(str(self.max_number))
        return self.num_numbers * digits + (self.num_numbers - 1) + 2 * (self.num_numbers - 2) + 1

    def solved_problem(self, rng: random.Random) -> Problem:
        """Return a random problem of either split with a `solution`, an expression that solves it.

        Raises:
            InvalidValueError: Numbers as large as these hardly ever reach a target as small.
        """
        for _ in range(_MAX_DRAWS):
            numbers = [rng.randint(1, self.max_number) for _ in range(self.num_numbers)]
            value, solution, _ = self._random_expression(numbers, rng)
            if value.denominator == 1 and 1 <= value <= self.max_target and not self._is_too_easy(numbers, value):
                rng.shuffle(numbers)  # in the order of the solution they would give it away
                return {
                    "prompt": f"{','.join(map(str, numbers))}={value}:",
                    "numbers": numbers,
                    "target": int(value),
                    "solution": solution,
                }
        raise InvalidValueError(
            f"countdown: {_MAX_DRAWS:,} draws of {self.num_numbers} numbers up to {self.max_number:,} with "
            f"{self.operators!r} reached no target up to {self.max_target:,}"
            + (f" that {self.unreachable_by!r} does not" if self.unreachable_by else "")
            + "; lower max_number, or raise max_target"
        )

    def _is_too_easy(self, numbers: Sequence[int], value: Fraction) -> bool:
        """Return whether the operators that must not suffice do."""
        own = "".join(sorted(set(self.unreachable_by)))
        return bool(own) and value in reachable_values(tuple(sorted(numbers)), own)

    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return problems of `split` that differ in numbers or target; see `Task.problems`.

        Raises:
            InvalidValueError: The split holds fewer problems than were asked for.
        """
        check_num_problems(split, num_problems, self.name)
        rng = random.Random(f"countdown-{split}-{seed}")
        found: dict[str, Problem] = {}
        misses = 0
        # At most so many different collections of numbers, each with `max_target` targets: more cannot be found.
        num_multisets = math.comb(self.max_number + self.num_numbers - 1, self.num_numbers)
        while len(found) < num_problems:
            problem = self.solved_problem(rng)
            key = self._key(problem)
            if self.split_of(problem) == split and key not in found:
                misses = 0
                del problem["solution"]  # the policy must find one by itself
                found[key] = problem
                continue
            misses += 1
            if misses > _MAX_MISSES or num_problems > num_multisets * self.max_target:
                raise InvalidValueError(
                    f"countdown: {num_problems} distinct {split} problems were asked for, and there are not so many; "
                    "ask for fewer, or raise num_numbers, max_number or max_target"
                )
        return list(found.values())

    @staticmethod
    def _key(problem: Mapping[str, Any]) -> str:
        """Return text that is the same for the same numbers, in whatever order, and target."""
        return f"{sorted(problem['numbers'])}={problem['target']}"

    @staticmethod
    def split_of(problem: Mapping[str, Any]) -> Split:
        """Return the split a problem belongs to, whatever the order of its numbers."""
        return "test" if zlib.crc32(Countdown._key(problem).encode()) % _ONE_TEST_PROBLEM_IN == 0 else "train"

    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return 1.0 if `completion` uses each number once and equals the target, else 0.0."""
        try:
            value, used = parse_expression(completion)
        except InvalidValueError:
            return 0.0
        return float(value == problem["target"] and Counter(used) == Counter(problem["numbers"]))

    def _random_expression(self, numbers: list[int], rng: random.Random) -> tuple[Fraction, str, int]:
        """Return value, text and precedence of the outermost operator of a random tree over `numbers`, in order."""
        if len(numbers) == 1:
            return Fraction(numbers[0]), str(numbers[0]), _OF_A_NUMBER
        cut = rng.randint(1, len(numbers) - 1)
        left, left_text, left_precedence = self._random_expression(numbers[:cut], rng)
        right, right_text, right_precedence = self._random_expression(numbers[cut:], rng)
        # Nothing is divided by zero. What is zero came of a "-", so some operator other than "/" is left to choose.
        operator = rng.choice(self.operators if right else self.operators.replace("/", ""))
        precedence = _PRECEDENCE[operator]
        if left_precedence < precedence:
            left_text = f"({left_text})"
        # On the right, a-(b+c) and a/(b*c) need parentheses at equal precedence; a+(b-c) and a*(b/c) do not.
        if right_precedence < precedence or (right_precedence == precedence and operator in "-/"):
            right_text = f"({right_text})"
        match operator:
            case "+":
                value = left + right
            case "-":
                value = left - right
            case "*":
                value = left * right
            case _:
                value = left / right
        return value, f"{left_text}{operator}{right_text}", precedence


def reached(
    completions: Sequence[Any], numbers: Sequence[Sequence[int]], target: Sequence[int], **columns: Any
) -> list[float]:
    """Return 1.0 for each completion that reaches its target; the reward for Countdown problems from a file of yours.

    It takes columns `numbers` and `target`, and is named `reward: entrocraft.tasks.countdown:reached`.

    Example:
        >>> reached(["4+6-1+9", "18"], numbers=[[4, 6, 1, 9]] * 2, target=[18, 18])
        [1.0, 0.0]
    """
    task = Countdown()
    rows = zip(completions, numbers, target, strict=True)
    return [task.score(text_of(answer), {"numbers": list(given), "target": goal}) for answer, given, goal in rows]
