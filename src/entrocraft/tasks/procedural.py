"""Data sets of reasoning-gym: problems made on demand, with verifiers of their own."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from entrocraft.errors import InvalidValueError, MissingDependencyError, UnknownNameError
from entrocraft.grading.time_limit import time_limited
from entrocraft.grading.verifiers import Number, Tagged, Verifier
from entrocraft.tasks.base import Problem, Split, Task, check_completion_tokens, check_num_problems, is_held_out

_MAX_MISSES = 2000  # entries in a row without a new problem after which a split counts as exhausted
_CHUNK = 20  # entries made at once
_SECONDS = 10.0  # to score one answer in
_SECONDS_TO_MAKE = 300.0  # to make a chunk of entries in
ANSWER_TAGS = "Put your final answer between <answer> and </answer>."


class ReasoningGym(Task):
    r"""Problems of one data set of reasoning-gym.

    A problem belongs to `test` or `train` by a hash of its question, so no seed can carry one into the other. Where
    scoring takes too long, the answer scores 0 (`verifiers.Math` says how).

    Args:
        dataset: Name of the data set, such as `basic_arithmetic`.
        options: Options of the data set's own configuration, such as `{min_digits: 1}`.
        level: Level of the data set's curriculum, 0 the easiest: one for all attributes, each of which takes its
            highest where that is lower; or one for each attribute that is named. Options come on top.
        instruction: Text that follows each question; by default, for `tags`, how to mark the answer.
        chat: Whether to give the prompt as a user's message, for models with a chat template.
        extract: Part of a completion that is its answer: what stands between `<answer>` `tags`, the last `number`, or
            the `whole`.
        max_completion_tokens: Number of tokens after which an answer is cut.

    Raises:
        MissingDependencyError: reasoning-gym is not installed.
        UnknownNameError: There is no such data set, option or attribute.
        InvalidValueError: An option or level cannot be used.

    Example:
        >>> task = ReasoningGym("basic_arithmetic", level=0, extract="number", instruction="Just the number.")
        >>> problem = task.problems("train", 1)[0]
        >>> problem["prompt"], problem["answer"]
        ('Calculate -8 * 7.\nJust the number.', '-56')
        >>> task.score(f"That is {problem['answer']}.", problem)
        1.0
    """

    def __init__(
        self,
        dataset: str,
        *,
        options: Mapping[str, Any] | None = None,
        level: int | Mapping[str, int] | None = None,
        instruction: str | None = None,
        chat: bool = False,
        extract: str = "tags",
        max_completion_tokens: int = 256,
    ):
        if extract not in _EXTRACTS:
            raise UnknownNameError.of("way to extract an answer", extract, _EXTRACTS)
        self.name = f"reasoning-gym/{dataset}"
        check_completion_tokens(max_completion_tokens, self.name)
        self.max_completion_tokens = max_completion_tokens
        self._extract = _EXTRACTS[extract]
        self._instruction = (ANSWER_TAGS if extract == "tags" else "") if instruction is None else instruction
        self._chat = chat
        self._dataset = dataset
        try:
            from entrocraft.tasks.procedural_entries import checked_options
        except ImportError as error:
            raise MissingDependencyError(f"{self.name} needs reasoning-gym: pip install 'entrocraft[tasks]'") from error
        checked_options(dataset, options or {}, level)
        self._settings = json.dumps({"options": dict(options or {}), "level": level}, sort_keys=True)

    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return problems of `split` that differ in their question; see `Task.problems`.

        Raises:
            InvalidValueError: The data set makes fewer problems than were asked for.
        """
        check_num_problems(split, num_problems, self.name)
        found: dict[str, Problem] = {}
        misses = 0
        for dataset_seed, index, question, answer in self._drawn(split, seed):
            if len(found) == num_problems:
                break
            if is_held_out(question) == (split == "test") and question not in found:
                misses = 0
                text = "\n".join(part for part in (question, self._instruction) if part)
                prompt = [{"role": "user", "content": text}] if self._chat else text
                found[question] = {"prompt": prompt, "answer": answer, "seed": dataset_seed, "index": index}
                continue
            misses += 1
            if misses > _MAX_MISSES:
                raise InvalidValueError(
                    f"{self.name}: {num_problems} distinct {split} problems were asked for, and after {len(found)} it "
                    "made no more; ask for fewer, or choose a higher level"
                )
        return list(found.values())

    def _drawn(self, split: Split, seed: int) -> Iterator[tuple[int, int, str, str]]:
        """Yield what makes an entry again, the seed of the data set and its index, and its question and answer."""
        from entrocraft.tasks.procedural_entries import SIZE

        maker = time_limited("entrocraft.tasks.procedural_entries:make_entries", _SECONDS_TO_MAKE)
        for block in count():
            dataset_seed = random.Random(f"reasoning-gym-{split}-{seed}-{block}").randrange(2**31)
            for start in range(0, SIZE, _CHUNK):
                call = (self._dataset, self._settings, dataset_seed, start, start + _CHUNK)
                (entries,) = maker.map([call], late=())
                if not entries:
                    raise InvalidValueError(
                        f"{self.name}: making {_CHUNK} problems took more than {_SECONDS_TO_MAKE:g} s; choose a lower "
                        "level"
                    )
                for index, (question, answer) in enumerate(entries, start):
                    yield dataset_seed, index, question, answer

    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return the data set's own score of one completion, 0 to 1."""
        return self.scores([completion], [problem])[0]

    def scores(self, completions: Sequence[str], problems: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the data set's own score of each completion; 0.0 where there is no answer in it."""
        answers = self.answers_of(completions)
        calls = [
            (self._dataset, self._settings, int(problem["seed"]), int(problem["index"]), answer)
            for answer, problem in zip(answers, problems, strict=True)
            if answer is not None
        ]
        scorer = time_limited("entrocraft.tasks.procedural_entries:score_entry", _SECONDS)
        scores = iter(scorer.map(calls, late=0.0, failed=0.0))
        return [0.0 if answer is None else float(next(scores)) for answer in answers]

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        """Return what each completion answers, as `extract` says."""
        if self._extract is None:
            return super().answers_of(completions)
        return self._extract.answers_of(completions)


# What reads the answer out of a completion; None for all of it.
_EXTRACTS: dict[str, Verifier | None] = {
    "tags": Tagged(),
    "number": Number(),
    "whole": None,
}
