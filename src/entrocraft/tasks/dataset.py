"""Problems from the user's own data, with a reward by name or the user's own."""

import random
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from entrocraft.errors import InvalidValueError
from entrocraft.grading import verifiers
from entrocraft.grading.numbers import number_text
from entrocraft.grading.rewards import OwnReward, own_reward
from entrocraft.tasks.base import (
    Problem,
    Split,
    Task,
    check_completion_tokens,
    check_request,
    is_held_out,
    late_graders_logged,
)
from entrocraft.tasks.cells import Selection, cell, check_columns, check_unicode, decoded
from entrocraft.tasks.layouts import layout_of
from entrocraft.tasks.prompt_template import PromptTemplate
from entrocraft.tasks.sources import Row, read_rows

_MOST_COLUMNS = 10_000
MANY_ROWS = 100_000
"""Rows above which copies of a row are taken for an accident: so large a data set would be weighed in another way."""
# Arguments that TRL gives a reward besides columns; outside of training there is nothing to log to.
_OUTSIDE_TRAINING: dict[str, Any] = {
    "trainer_state": None,
    "log_extra": lambda column, values: None,
    "log_metric": lambda name, value: None,
}
# Column names to which TRL gives a meaning of its own, or which it refuses; rewards are not given such columns.
_RESERVED = {
    *("completion", "completion_ids", "completions", "prompt", "prompts"),
    *("environments", "image", "images", "self", "tools"),
    *_OUTSIDE_TRAINING,
}


class DatasetTask(Task):
    """Problems of a data set: files, folders or the hub.

    Each row becomes one problem. Without `test`, a share of the rows is held out, by a hash of the prompt. Rows are
    read when they are first needed, those of a split that nobody asks for never.

    Args:
        train: Source of training problems: a file of rows, a folder or a hub id; see `read_rows`. None if there is
            nothing to train on.
        test: Source of held-out problems; by default `test_share` of `train`.
        test_share: Share of the rows of `train` that is held out where there is no `test`; 0 holds out none.
        where: Columns and the values that rows must hold to be used: `{column: value}`, or a list of values; see
            `Selection`.
        unless: Columns and the values that rows must not hold, likewise.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set.
        prompt: Template of the prompt: text with columns in braces, or `{column}` alone for a column of text or chat
            messages.
        system: System message before the prompt; makes it a chat.
        chat: Whether to give the prompt as a user's message, for models with a chat template.
        answer: Name of the column of right answers, for rewards by name, with dots into cells that hold columns
            themselves; by default `answer`, or `reward_model.ground_truth` in data as verl has them.
        reward: Reward by name: `exact`, `number`, `math` or `{name: regex, pattern: ...}`, by default `exact`, or
            `math` for data as verl has them; or your own `package.module:function` in TRL's signature, which is given
            all columns but those whose names TRL uses itself (`prompt`, `completion`, `tools` and the like).
            `{name: package.module:function, seconds: 5}` gives each completion a time limit; see `OwnReward`.
        max_completion_tokens: Number of tokens after which an answer is cut.
        name: Name of the task in reports.

    Raises:
        InvalidValueError: An option cannot be used. When problems are first asked for: a data set is not there or is
            empty, or a cell cannot be used; the message names file, row and column.
        UnknownNameError: There is no such reward; or, when problems are first asked for, no such column.

    Example:
        >>> import json, pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "sums.jsonl"
        >>> _ = file.write_text("".join(json.dumps({"q": f"{i} + 1?", "a": i + 1}) + "\\n" for i in range(20)))
        >>> task = DatasetTask(train=str(file), prompt="What is {q}", answer="a", reward="number")
        >>> task.problems("train", 1)
        [{'prompt': 'What is 15 + 1?', 'answer': '16'}]
        >>> task.score("It is 12.", {"answer": 12})
        1.0
    """

    def __init__(
        self,
        *,
        train: str | None = None,
        test: str | None = None,
        test_share: float = 0.1,
        where: Mapping[str, Any] | None = None,
        unless: Mapping[str, Any] | None = None,
        config: str | None = None,
        revision: str | None = None,
        prompt: str = "{prompt}",
        system: str | None = None,
        chat: bool = False,
        answer: str | None = None,
        reward: str | Mapping[str, Any] | None = None,
        max_completion_tokens: int = 256,
        name: str = "dataset",
    ):
        if train is None and test is None:
            raise InvalidValueError(f"{name}: say where the data are: `train`, `test` or both")
        if not 0.0 <= test_share < 1.0:
            raise InvalidValueError(f"{name}: test_share must be at least 0 and less than 1, got {test_share}")
        check_completion_tokens(max_completion_tokens, name)
        self.name, self.max_completion_tokens = name, max_completion_tokens
        self._train, self._test, self._test_share = train, test, test_share
        self._config, self._revision = config, revision
        self._where, self._unless = Selection("where", where, name), Selection("unless", unless, name)
        self._template, self._answer = PromptTemplate(prompt, system=system, chat=chat, name=name), answer
        self._own = None if reward is None else own_reward(reward)
        self.scored_by = self._own and self._own.function
        self._verifier = verifiers.build(reward) if reward is not None and self._own is None else None
        self.reads_prompts = self.reads_tokens = self._own is not None
        self.decided = {}
        self._overlap_warned = False
        # What has been read: each source, and of each of its problems the number of the row, from 1, and the problem.
        self._sources: list[tuple[str, list[int], list[Problem]]] = []

    def _problems_in(self, split: Split) -> list[Problem]:
        """Return all problems of one split; what the other one needs is not read."""
        if split == "test" and self._test is not None:
            if self._train is not None:
                self._warn_of_overlap()
            return self._test_problems
        if self._train is None:
            raise InvalidValueError(f"{self.name} has no training problems; give `train`, or another task")
        if self._test is not None:
            return self._train_problems
        if split == "test" and not self._test_share:
            raise InvalidValueError(
                f"{self.name} holds out none of {self._train}; give `test`, or a test_share above 0"
            )
        return self._division[split]

    @cached_property
    def _train_problems(self) -> list[Problem]:
        return self._problems_of(str(self._train))

    @cached_property
    def _test_problems(self) -> list[Problem]:
        return self._problems_of(str(self._test))

    @cached_property
    def _division(self) -> dict[Split, list[Problem]]:
        """Return the problems of `train`, divided into a part to train on and one that is held out."""
        train = self._train_problems
        held_out = [is_held_out(str(problem["prompt"]), self._test_share) for problem in train]
        splits: dict[Split, list[Problem]] = {
            "train": [problem for problem, held in zip(train, held_out, strict=True) if not held],
            "test": [problem for problem, held in zip(train, held_out, strict=True) if held],
        }
        for split, problems in splits.items():
            if not problems and self._test_share:
                raise InvalidValueError(
                    f"{self.name}: {self._train} leaves no problem to {split}, of {len(train)} rows; give `test`, or "
                    f"another test_share than {self._test_share:g}"
                )
        return splits

    def _problems_of(self, source: str) -> list[Problem]:
        """Read a source, and return the problems of those of its rows that are selected."""
        rows = read_rows(source, config=self._config, revision=self._revision)
        # Objects of a .jsonl file may leave out a column that others have: it is then empty.
        columns = dict.fromkeys(name for row in rows for name in row)
        if len(columns) > _MOST_COLUMNS:
            raise InvalidValueError(f"{source}: more than {_MOST_COLUMNS} columns, got {len(columns)}")
        numbered = self._each_once(rows, source)
        rows = [dict.fromkeys(columns) | row for row in numbered.values()]
        answer = self._decide(rows, source)
        needed = [*self._template.columns] + ([] if answer is None else [answer])
        check_columns((*needed, *self._where.columns, *self._unless.columns), rows, source)
        for selection in (self._where, self._unless):
            selection.check(rows, source)
        selected = {
            number: row
            for number, row in zip(numbered, rows, strict=True)
            if self._where.all_hold(row) and not self._unless.any_holds(row)
        }
        numbers = [*selected]
        problems = [self._problem(row, answer, f"{source}, row {number}") for number, row in selected.items()]
        if not problems:
            raise InvalidValueError(f"{source}: none of {len(rows)} rows is what `where` and `unless` ask for")
        is_chat = [isinstance(problem["prompt"], list) for problem in problems]
        if any(is_chat) and not all(is_chat):
            other = numbers[is_chat.index(not is_chat[0])]
            raise InvalidValueError(
                f"{source}: text and chats are mixed: row {numbers[0]} is one, row {other} the other"
            )
        self._sources.append((source, numbers, problems))
        return problems

    def _each_once(self, rows: Sequence[Row], source: str) -> dict[int, Row]:
        """Return rows by their number, from 1; of more than `MANY_ROWS`, each once, with a warning of the copies."""
        first: dict[int, int] = {}
        for number, row in enumerate(rows, start=1):
            first.setdefault(id(row), number)  # copies are one object; see `read_rows`
        num_copies = len(rows) - len(first)
        if len(rows) <= MANY_ROWS or not num_copies:
            return dict(enumerate(rows, start=1))
        warnings.warn(
            f"{self.name}: {num_copies:,} of the {len(rows):,} rows of {source} are exact copies of others and are "
            f"left out, as in all data of more than {MANY_ROWS:,} rows; to weigh rows by copies, tell these apart by "
            "a column, such as a number",
            stacklevel=2,
        )
        return {number: rows[number - 1] for number in first.values()}

    def place_of(self, problem: Mapping[str, Any]) -> str:
        """Return source, row and columns of a prompt; of several that are the same, the first."""
        names = self._template.columns
        columns = f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
        for source, numbers, problems in self._sources:
            for number, other in zip(numbers, problems, strict=True):
                if other["prompt"] == problem["prompt"]:
                    return f"{source}, row {number}, {columns}"
        return super().place_of(problem)

    def _decide(self, rows: Sequence[Row], source: str) -> str | None:
        """Return the column of right answers, None if none is needed; settle by the data what settings left open."""
        if self._own is not None:
            return None
        layout = layout_of(rows, source, graded=self._verifier is not None)
        answer = self._answer or layout.answer
        if self._verifier is None:
            self._verifier = verifiers.build(layout.reward)
            self.decided = {"answer": answer, "reward": layout.reward}
        elif self.decided and self.decided["reward"] != layout.reward:
            raise InvalidValueError(
                f"{self.name}: `train` and `test` are of different layouts, so that {source} would be graded by reward "
                f"{layout.reward!r} and the other by {self.decided['reward']!r}; give `reward`"
            )
        return answer

    @property
    def _grader(self) -> OwnReward | verifiers.Verifier:
        """Return what grades answers; where settings leave that to the data, they are read."""
        if self._own is None and self._verifier is None:
            _ = self._test_problems if self._train is None else self._train_problems
            assert self._verifier is not None
        return self._own or cast(verifiers.Verifier, self._verifier)

    def _warn_of_overlap(self) -> None:
        """Warn once of test problems that are trained on, as soon as the training problems are read, too."""
        if self._overlap_warned or "_train_problems" not in vars(self):
            return
        self._overlap_warned = True
        known = {str(problem["prompt"]) for problem in self._train_problems}
        num_shared = sum(str(problem["prompt"]) in known for problem in self._test_problems)
        if num_shared:
            warnings.warn(
                f"{self.name}: {num_shared} of the {len(self._test_problems)} prompts of {self._test} are in "
                f"{self._train}, too: scores on them say nothing about new problems",
                stacklevel=2,
            )

    def _problem(self, row: Row, answer: str | None, place: str) -> Problem:
        """Return the problem that a row holds, and refuse one with an empty cell among the columns needed."""
        for column in [*self._template.columns] + ([] if answer is None else [answer]):
            value = cell(row, column)
            if value is None or (isinstance(value, str | bytes) and not value.strip()):
                raise InvalidValueError(f"{place}: column {column!r} is empty")
        prompt = self._template.prompt(row, place)
        if answer is not None:
            return {"prompt": prompt, "answer": self._right_answer(cell(row, answer), f"{place}: column {answer!r}")}
        columns = {name: value for name, value in row.items() if name not in _RESERVED}
        for name, value in columns.items():
            check_unicode((name, value), f"{place}: column {name!a}")
        return {"prompt": prompt} | columns

    def _right_answer(self, value: Any, place: str) -> str:
        """Return a right answer as text, and refuse what the verifier could never find in a completion."""
        value = decoded(value, place)
        # Readers of tables make 42 a 42.0 where another row of the column is empty.
        text = value if isinstance(value, str) else number_text(value)
        if text is None:
            raise InvalidValueError(f"{place} must hold text or a number, got {value!r:.80}")
        check_unicode(text, place)
        mistake = cast(verifiers.Verifier, self._verifier).mistake_in(text)
        if mistake is not None:
            raise InvalidValueError(f"{place} {mistake}, got {text!r:.80}")
        return text

    def size(self, split: Split) -> int:
        """Return how many problems `split` holds."""
        return len(self._problems_in(split))

    def problems(self, split: Split, num_problems: int, seed: int = 0) -> list[Problem]:
        """Return problems of `split`, drawn without repetition; see `Task.problems`."""
        check_request(split, num_problems, self.name)
        problems = self._problems_in(split)
        if num_problems > len(problems):
            raise InvalidValueError(
                f"{self.name}: {num_problems} {split} problems were asked for, and there are {len(problems)}; "
                "ask for fewer"
            )
        return random.Random(f"dataset-{split}-{seed}").sample(problems, num_problems)

    def score(self, completion: str, problem: Mapping[str, Any]) -> float:
        """Return the reward of one completion."""
        return self.scores([completion], [problem])[0]

    def scores(
        self,
        completions: Sequence[str],
        problems: Sequence[Mapping[str, Any]],
        completion_ids: Sequence[Sequence[int]] | None = None,
    ) -> list[float]:
        """Return the reward of each completion of each problem.

        Args:
            completions: Texts of the completions.
            problems: Problem that each completion answers.
            completion_ids: Tokens of each completion, for a reward of your own; None where nobody knows them, and the
                reward is then not given any.
        """
        grader = self._grader
        if not isinstance(grader, OwnReward):
            return grader.scores(completions, [problem["answer"] for problem in problems])
        prompts = [problem["prompt"] for problem in problems]
        in_chat = [isinstance(prompt, list) for prompt in prompts]
        # As TRL gives completions to rewards: what is said in a chat is a list of messages.
        messages = [
            [{"role": "assistant", "content": completion}] if chat else completion
            for completion, chat in zip(completions, in_chat, strict=True)
        ]
        columns = {name: [problem[name] for problem in problems] for name in problems[0] if name != "prompt"}
        if completion_ids is None and not any(completions):
            completion_ids = [[] for _ in completions]  # the tokens of empty texts are known
        tokens = {} if completion_ids is None else {"completion_ids": completion_ids}
        return grader(messages, prompts=prompts, **columns, **tokens, **_OUTSIDE_TRAINING)

    def reward(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """Score a batch in TRL's reward-function signature; a reward of your own gets every argument that TRL gives."""
        if self._own is not None:
            with late_graders_logged(columns.get("log_metric")):
                return self._own(completions, **columns)
        return super().reward(completions, **columns)

    def answers_of(self, completions: Sequence[str]) -> list[str | None]:
        """Return what the verifier takes each completion to answer; under a reward of your own, the whole text."""
        grader = self._grader
        return super().answers_of(completions) if isinstance(grader, OwnReward) else grader.answers_of(completions)
