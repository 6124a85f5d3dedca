"""Samples of an evaluation on file: one line each, so that it can be resumed, looked into and scored anew."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entrocraft.errors import RunDirectoryError
from entrocraft.runs.files import making, naming, take_lock, write_text


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer to one problem."""

    problem: int
    """Number of the problem, from 0."""
    prompt: Any
    """The problem's prompt, text or chat messages."""
    completion: str
    """Text that the model wrote."""
    answer: str | None
    """What the task takes the completion to answer, equal text for equal answers; None for nothing."""
    score: float
    """Score that the task gave, of which more than 0.5 is a right answer."""
    num_tokens: int
    """Tokens of the completion, its end included."""
    truncated: bool
    """Whether the completion was cut before its end."""
    entropy: float | None
    """Sum of the token entropies of the policy at the sampling temperature, in nats; None if they were not seen."""


_TYPES: dict[str, Any] = {
    "problem": int,
    "completion": str,
    "answer": str | None,
    "score": int | float,
    "num_tokens": int,
    "truncated": bool,
    "entropy": int | float | None,
}


class SampleFile:
    """The samples of one evaluation, in order, with the settings that made them.

    It is a context manager: within it no other process can write there.

    Args:
        folder: Folder that holds `settings.json` and `samples.jsonl`; made if it is not there.
        settings: Everything that samples depend on, as JSON can hold it.

    Raises:
        RunDirectoryError: On entering: the folder holds samples of other settings, or another process is at work there.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        # As they will be read again: tuples are lists in JSON.
        self._folder, self._settings = folder, json.loads(json.dumps(settings))
        self._samples = folder / "samples.jsonl"

    def __enter__(self) -> "SampleFile":
        with making(self._folder):
            self._lock = take_lock(self._folder)
            try:
                self._check_settings()
            except BaseException:
                self._lock.release()
                if not (self._folder / "settings.json").exists():  # nothing was begun here
                    with suppress(OSError):
                        (self._folder / ".lock").unlink()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def _check_settings(self) -> None:
        """Write the settings if there are none yet; else refuse any but those that are there."""
        about, now = self._folder / "settings.json", self._settings
        if not about.exists():
            write_text(about, json.dumps(now, indent=2) + "\n")
            return
        try:
            there = dict(json.loads(about.read_text()))
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(
                f"{about} is damaged ({error}); give another --output, or remove {self._folder}"
            ) from error
        differing = sorted(name for name in {**there, **now} if there.get(name) != now.get(name))
        if differing:
            name = differing[0]
            raise RunDirectoryError(
                f"{self._folder} holds samples made with {name} {there.get(name)!r}, not {now.get(name)!r}: give "
                "another --output, or the same settings to go on with them"
            )

    def read(self, numbers: Sequence[int], batch_size: int) -> list[Sample]:
        """Return the samples of whole batches, and drop what a killed process has left of another.

        Args:
            numbers: Number of the problem that each sample of the finished evaluation is of.
            batch_size: Number of samples that are drawn at once.

        Raises:
            RunDirectoryError: The file holds something else than samples, or samples of other problems.
        """
        if not self._samples.exists():
            return []
        try:
            # Split at "\n" alone: text in JSON may hold every other separator of lines.
            with self._samples.open(encoding="utf-8", newline="\n") as file:
                lines = list(file)
        except UnicodeDecodeError as error:
            raise RunDirectoryError(f"{self._samples} holds something else than samples: {error}") from error
        # A line without an end was being written when the process died. Batches are drawn by their own seeds, so that
        # a part of one cannot be gone on with.
        whole = [line for line in lines if line.endswith("\n")]
        kept = len(numbers) if len(whole) >= len(numbers) else len(whole) - len(whole) % batch_size
        try:
            samples = [_checked(Sample(**json.loads(line))) for line in lines[:kept]]
        except (TypeError, ValueError) as error:
            raise RunDirectoryError(f"{self._samples} holds something else than samples: {error}") from error
        if [sample.problem for sample in samples] != list(numbers[:kept]):
            raise RunDirectoryError(f"{self._samples} holds samples out of order; remove it to draw them again")
        if kept < len(lines):
            write_text(self._samples, "".join(lines[:kept]))
        return samples

    def append(self, samples: Sequence[Sample]) -> None:
        """Add the samples of one batch."""
        with naming(self._samples), self._samples.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(asdict(sample)) + "\n" for sample in samples)


def _checked(sample: Sample) -> Sample:
    """Return a sample, of which scores are made, if its values are of their types."""
    for name, kind in _TYPES.items():
        value = getattr(sample, name)
        if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            raise TypeError(f"{name} is {value!r:.60}")
    return sample


def by_problem(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yield the samples of each problem, problem after problem."""
    grouped: dict[int, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.problem, []).append(sample)
    yield from (grouped[problem] for problem in sorted(grouped))
