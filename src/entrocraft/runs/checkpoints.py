"""Checkpoints of a run: which are whole, judged by their files alone, and which may go."""

import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrocraft.runs.files import open_regular, read_regular

FINISHED = "trainer_state.json"
"""The file that is written last: a folder without it belongs to a process that was killed while it saved."""
CONTROL = "entrocraft.json"
"""The state of entropy control."""
_NAME = re.compile(r"checkpoint-(\d{1,18})")
_RESUMPTION = ("optimizer.pt", "scheduler.pt")
_RESUMPTION_SHARDED = ("optimizer.bin", "pytorch_model_fsdp.bin", "scheduler.pt")
"""What FSDP goes on from, put together from all processes."""
_HEADER_BYTES, _LARGEST_HEADER = 8, 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A folder that training can resume from, if it is whole."""

    step: int
    """Optimizer steps that had been made."""
    folder: Path

    @property
    def is_finished(self) -> bool:
        """True if the process that wrote it came to its end."""
        return _damage_of_json(self.folder / FINISHED) is None

    @property
    def num_ranks(self) -> int:
        """Processes that wrote it: each of several leaves its random numbers, under its own number."""
        numbers = [file.stem.rpartition("_")[2] for file in self.folder.glob("rng_state_*.pth")]
        return max((max(2, int(number) + 1) for number in numbers if number.isdecimal()), default=1)

    def damage(self, *, controlled: bool, ranks: int = 1) -> list[str]:
        """Return what exact resumption needs and is missing or cannot be read; nothing if the checkpoint is whole.

        Args:
            controlled: Whether the run has entropy control, whose state must be there, too.
            ranks: Processes that go on from it.
        """
        found = [_damage_of_json(self.folder / FINISHED), *self.damage_of_weights()]
        found += [_damage_of_archive(file) for file in self._files_of_training(ranks)]
        scaler = self.folder / "scaler.pt"
        found += [_damage_of_archive(scaler)] if scaler.exists() else []
        found += [_damage_of_json(self.folder / CONTROL)] if controlled else []
        return [each for each in found if each is not None]

    def missing(self, *, ranks: int = 1) -> list[str]:
        """Return what transformers would go on without, and without a word: optimizer, its schedule, random numbers."""
        return [file.name for file in self._files_of_training(ranks) if not file.exists()]

    def _files_of_training(self, ranks: int) -> list[Path]:
        states = {*self.folder.glob("rng_state*.pth")}
        # Each rank of several writes its own, and the main one does not wait for the others to say that all is there.
        if ranks > 1 and any(file.stem != "rng_state" for file in states):
            states |= {self.folder / f"rng_state_{rank}.pth" for rank in range(ranks)}
        is_sharded = any((self.folder / name).exists() for name in _RESUMPTION_SHARDED[:2])
        names = _RESUMPTION_SHARDED if is_sharded else _RESUMPTION
        return [self.folder / name for name in names] + (sorted(states) or [self.folder / "rng_state.pth"])

    def damage_of_weights(self) -> list[str]:
        """Return what of the model or its adapter is missing or cannot be read."""
        adapter = self.folder / "adapter_config.json"
        is_adapter = adapter.exists() or (self.folder / "adapter_model.safetensors").exists()
        found = [_damage_of_json(adapter if is_adapter else self.folder / "config.json")]
        found += [_damage_of_weights(file) for file in self._weight_files(is_adapter=is_adapter)]
        return [each for each in found if each is not None]

    def _weight_files(self, *, is_adapter: bool) -> Iterable[Path]:
        if is_adapter:
            return [self.folder / "adapter_model.safetensors"]
        index = self.folder / "model.safetensors.index.json"
        if not index.exists():
            return [self.folder / "model.safetensors"]
        try:
            return [self.folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [index]


def checkpoints_in(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints of a folder by their number, whole or not, oldest first."""
    return sorted(_checkpoints(folder), key=lambda each: each.step)


def _checkpoints(folder: Path) -> Iterator[Checkpoint]:
    for child in folder.glob("checkpoint-*"):
        match = _NAME.fullmatch(child.name)
        if match is not None and child.is_dir():
            yield Checkpoint(int(match[1]), child)


def rotate(folder: Path, keep: int | None, *, newest: int) -> None:
    """Delete checkpoints of before `newest` by their number, whatever the clock said when they were written.

    Args:
        folder: The folder of the checkpoints.
        keep: How many to keep, the newest included; None or less than 1 for all.
        newest: Step of the checkpoint that was just written, which always stays.
    """
    if keep is None or keep < 1:
        return
    older = [each for each in checkpoints_in(folder) if each.step < newest]
    finished = [each for each in older if each.is_finished]
    stay = finished[-(keep - 1) :] if keep > 1 else []
    for each in older:
        if each not in stay:
            shutil.rmtree(each.folder)


def _read_json(file: Path) -> Any:
    return json.loads(read_regular(file, _LARGEST_HEADER))


def _damage_of_json(file: Path) -> str | None:
    try:
        return None if isinstance(_read_json(file), dict) else f"{file.name} holds no settings"
    except FileNotFoundError:
        return f"{file.name} is missing"
    except (OSError, ValueError, RecursionError):
        return f"{file.name} cannot be read"


def _damage_of_archive(file: Path) -> str | None:
    """Judge a file of torch's, a zip archive: its list of contents stands at the end, with a checksum of each."""
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            broken = archive.testzip()
            has_data = any(name.endswith("data.pkl") for name in archive.namelist())
    except FileNotFoundError:
        return f"{file.name} is missing"
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return f"{file.name} cannot be read"
    return None if broken is None and has_data else f"{file.name} is damaged"


def _damage_of_weights(file: Path) -> str | None:
    """Judge a safetensors file: a header says how long the rest must be."""
    try:
        size = file.stat().st_size
        with open_regular(file) as opened:
            length = int.from_bytes(opened.read(_HEADER_BYTES), "little")
            if length > min(size, _LARGEST_HEADER):
                return f"{file.name} cannot be read"
            header = json.loads(opened.read(length))
        ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        wanted = _HEADER_BYTES + length + max(ends)
    except FileNotFoundError:
        return f"{file.name} is missing"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return f"{file.name} cannot be read"
    return None if size == wanted else f"{file.name} has {size:,} bytes of {wanted:,}"
