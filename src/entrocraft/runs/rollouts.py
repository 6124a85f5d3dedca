"""What each rollout of a run did: `rollouts.jsonl`, a line for each recorded step, bounded in size.

Recording is never in the way of a run: a file that cannot be written is warned of once, and the run goes on.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from entrocraft.errors import InvalidValueError
from entrocraft.runs.files import open_regular

LIMIT_BYTES = 64 * 2**20
"""Size of the file at most, by default."""
TEXT_BYTES = 4096
"""Bytes of a prompt or completion, or of a completion's tokens, at most; the rest is cut off."""
GROUPS_WITH_TEXTS = 2
"""Prompts of a step whose texts are recorded, all of their rollouts."""
_FIRST_SHARE = 0.1  # of the limit, which a run's beginning may use up at once
_DIGITS = 6  # significant ones, of numbers
_TOKEN_DIGITS = 3  # the same, of which there is one per token
_STEP = re.compile(rb'\{"step": (\d+)[,}]')


class RolloutText(NamedTuple):
    """What a rollout says, and what each of its tokens does."""

    prompt: str
    completion: str
    tokens: Sequence[str] = ()
    """Texts of the completion's tokens."""
    changes: Sequence[float] | None = None
    """Predicted entropy change of each of them, NaN where there is none; None if none was predicted."""
    kept: Sequence[bool] = ()
    """Which of them the update used."""


Texts = Callable[[Sequence[int]], Sequence[RolloutText]]
"""Takes rows of the batch; returns the text of each."""


class RolloutFile:
    """The file that rollouts are recorded in.

    Every step is recorded until a tenth of the limit is full; from then on as many as spread the rest over the run.

    Args:
        path: The file; it is made when the first step is recorded.
        total_steps: Optimizer steps of the whole run.
        limit_bytes: Size of the file at most.

    Example:
        >>> import tempfile
        >>> file = RolloutFile(Path(tempfile.mkdtemp()) / "rollouts.jsonl", total_steps=10)
        >>> columns = {"group": [0, 0], "reward": [1.0, 0.0], "advantage": [1.0, -1.0], "tokens": [3, 2]}
        >>> said = RolloutText("1+1=", "2.", ["2", "."], [-0.12345, math.nan], [True, False])
        >>> file.append(1, columns, lambda rows: [said for _ in rows])
        >>> json.loads(file.path.read_text())["texts"][1]  # doctest: +NORMALIZE_WHITESPACE
        {'row': 1, 'prompt': '1+1=', 'completion': '2.',
         'tokens': ['2', '.'], 'changes': [-0.123, None], 'kept': '10'}
    """

    def __init__(self, path: Path | str, total_steps: int, limit_bytes: int = LIMIT_BYTES):
        self.path = Path(path)
        self._total_steps, self._limit = max(1, total_steps), limit_bytes
        self._num_recorded = 0
        self._broken = False

    @cached_property
    def _num_before(self) -> int:
        """Steps that are there already, of a run that goes on."""
        try:
            with open_regular(self.path) as file:
                return sum(1 for _ in file)
        except (OSError, InvalidValueError):  # none is there, or what is said when it is written to
            return 0

    def wants(self, step: int) -> bool:
        """Return whether this step is to be recorded."""
        if self._broken:
            return False
        allowed = max(_FIRST_SHARE, step / self._total_steps) * self._limit
        return self._size() < allowed

    def append(
        self,
        step: int,
        columns: Mapping[str, Sequence[float] | None],
        texts: Texts | None = None,
        num_texts: int | None = None,
    ) -> None:
        """Record one step; whatever the file system says to it is warned of, and never raised.

        Args:
            step: The optimizer step that the rollouts were sampled for, counted from 1.
            columns: One value per rollout of all ranks: `group`, the index of its prompt; `reward`; `advantage`, before
                any decision; `change`, its predicted entropy change, or None; `tokens`, those that the loss counts;
                `kept_tokens`, those that the update used. What is not finite becomes null.
            texts: Gives the texts of rows, of which a few are asked for: other prompts at each step.
            num_texts: How many rows have texts, from the first; by default all.
        """
        rows = self._rows_with_texts((columns["group"] or ())[:num_texts])
        line: dict[str, Any] = {"step": step}
        line |= {name: None if values is None else [_short(v) for v in values] for name, values in columns.items()}
        if texts is not None:
            line["texts"] = [{"row": row} | _written(text) for row, text in zip(rows, texts(rows), strict=True)]
        # Nothing after commas: there are many.
        encoded = (json.dumps(line, allow_nan=False, separators=(",", ": ")) + "\n").encode()
        if self._size() + len(encoded) > self._limit:
            return
        self._num_recorded += 1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(encoded)
        except OSError as error:
            self._broken = True
            warnings.warn(
                f"{self.path} cannot be written ({error.strerror}): rollouts are no longer recorded; the run goes on",
                stacklevel=2,
            )

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _rows_with_texts(self, groups: Sequence[float]) -> list[int]:
        """Return the rows of a few prompts, others at each recorded step, in turn."""
        prompts = sorted(set(groups))
        if not prompts:
            return []
        first = (self._num_before + self._num_recorded) * GROUPS_WITH_TEXTS
        chosen = {prompts[(first + turn) % len(prompts)] for turn in range(GROUPS_WITH_TEXTS)}
        return [row for row, group in enumerate(groups) if group in chosen]


def rewind_rollouts(path: Path, step: int) -> None:
    """Forget what was recorded of steps after `step`, which will be made again; a torn last line goes, too."""
    if not path.exists():
        return
    kept = 0
    with open_regular(path) as file:
        for line in file:
            found = _STEP.match(line)
            if found is None or int(found[1]) > step or not line.endswith(b"\n"):
                break
            kept += len(line)
    os.truncate(path, kept)


def _written(text: RolloutText) -> dict[str, Any]:
    """Return what is written of a text: as many tokens as `TEXT_BYTES` hold, and which are kept as a digit of each."""
    ends = accumulate(len(token.encode("utf-8", errors="replace")) for token in text.tokens)
    count = sum(end <= TEXT_BYTES for end in ends)
    return {
        "prompt": _cut(text.prompt),
        "completion": _cut(text.completion),
        "tokens": list(text.tokens[:count]),
        "changes": None if text.changes is None else [_short(each, _TOKEN_DIGITS) for each in text.changes[:count]],
        "kept": "".join("1" if kept else "0" for kept in text.kept[:count]),
    }


def _short(value: float | None, digits: int = _DIGITS) -> float | int | None:
    """Return a number of a few digits, a whole one as it is; None for what is none."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{digits}g}")


def _cut(text: str) -> str:
    """Return a text of at most `TEXT_BYTES` bytes, in characters that every reader takes."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= TEXT_BYTES:
        return encoded.decode("utf-8")
    return encoded[:TEXT_BYTES].decode("utf-8", errors="ignore") + " ..."
