"""Disks that are full, limited or read-only: small tmpfs mounts and immutable folders, which need root; a limit of the
size of files, which does not.

Mounts are made in a mount namespace of the harness's own, so that none outlives it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from entrocraft.runs import RunDirectory
from faults.bench import RESUME, TRAIN, Bench, Verdict
from faults.fault import Fault
from faults.processes import Started, command_line
from faults.trainings import ADAPTER, PLAIN, Training

_NEW_MOUNT_NAMESPACE = 0x00020000
_AMPLE = "300m"
# A checkpoint is 14.6 MB; three are there before the oldest goes.
SIZES = {
    "4k": "after the configuration",
    "40k": "amid the first records",
    "3m": "amid the first weights",
    "9m": "amid the first optimizer",
    "24m": "amid the second optimizer",
    "33m": "amid the last weights",
}
ADAPTER_SIZES = {"120k": "amid the first adapter", "600k": "amid the second checkpoint"}
KILOBYTES = {2000: "the weights", 7000: "the optimizer"}


@cache
def why_no_mounts() -> str:
    """Return why nothing can be mounted here; nothing if it can."""
    if not sys.platform.startswith("linux"):
        return "tmpfs is Linux's"
    if os.geteuid() != 0:
        return "mounting needs root"
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNT_NAMESPACE):
        return f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return done.stderr.strip()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of so many bytes on a folder, which is made."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder.parent, ignore_errors=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk, such as its size."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disks() -> Iterator[Fault]:
    """Yield disks that are full at different places of a run, and limits of the size of a file."""
    for training, sizes in ((PLAIN, SIZES), (ADAPTER, ADAPTER_SIZES)):
        for size, when in sizes.items():
            yield Fault("full disk", f"tmpfs of {size}, full {when}", partial(full, training, size))
    yield Fault("full disk", "filled up by others after the first step", filled_up)
    for kilobytes, what in KILOBYTES.items():
        yield Fault("full disk", f"RLIMIT_FSIZE below {what}", partial(limited, kilobytes))


def read_only() -> Iterator[Fault]:
    """Yield output that cannot be written, from the beginning or from some step on."""
    yield Fault("read-only output", "mounted read-only", mounted_read_only)
    for name in ("out", "out/checkpoints", "out/metrics.jsonl", "out/rollouts.jsonl"):
        yield Fault("read-only output", f"{name} immutable from the first step on", partial(immutable, name))


def full(training: Training, size: str, bench: Bench) -> Verdict:
    """Train on a small disk until it is full, make it larger, and go on."""
    folder = bench.new_folder(training)
    bench.undisturbed(training)
    with small_disk(folder / "out", size):
        ended = bench.train(folder).ended()
        has_begun = RunDirectory(folder / "out").last_step() > 0
        remount(folder / "out", f"size={_AMPLE}")
        resumed = bench.train(folder, command=RESUME).ended()
        words = ("--resume",) if has_begun else ("No space left on device", "Make room")
        return bench.verdict(training, folder, ended, wanted=[2], words=words, resumed=resumed)


def filled_up(bench: Bench) -> Verdict:
    """Train on a disk that somebody else fills up, wait until there is room, and go on."""
    folder = bench.new_folder(PLAIN)
    bench.undisturbed(PLAIN)
    with small_disk(folder / "out", _AMPLE):
        started, ballast = bench.train(folder), folder / "out" / "checkpoints" / "ballast"
        started.wait_until(lambda: _has_steps(folder, 1))
        _fill(ballast)
        ended = started.ended()
        ballast.unlink()
        resumed = bench.train(folder, command=RESUME).ended()
        return bench.verdict(PLAIN, folder, ended, wanted=[2], resumed=resumed)


def _fill(ballast: Path) -> None:
    """Fill a disk to its last page."""
    ballast.parent.mkdir(exist_ok=True)
    with ballast.open("wb", buffering=0) as file:
        size = 2**20
        while size >= 512:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def limited(kilobytes: int, bench: Bench) -> Verdict:
    """Train under a limit of the size of a file, and go on without it."""
    folder = bench.new_folder(PLAIN)
    command = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *command_line(*TRAIN)]
    ended = Started(command, folder).ended()
    resumed = bench.train(folder, command=RESUME).ended()
    return bench.verdict(PLAIN, folder, ended, wanted=[2], resumed=resumed)


def mounted_read_only(bench: Bench) -> Verdict:
    """Train where nothing can be written, which must leave nothing and say why; then where it can."""
    folder = bench.new_folder(PLAIN)
    with small_disk(folder / "out", _AMPLE):
        remount(folder / "out", "ro")
        ended = bench.train(folder).ended()
        remount(folder / "out", "rw")
        resumed = bench.train(folder).ended()
        return bench.verdict(
            PLAIN, folder, ended, wanted=[2], words=["Read-only file system", "--output"], resumed=resumed
        )


def immutable(name: str, bench: Bench) -> Verdict:
    """Make a part of the output immutable after the first step, which stops root, too; and go on when it is not."""
    folder = bench.new_folder(PLAIN)
    started = bench.train(folder)
    started.wait_until(lambda: _has_steps(folder, 1))
    (folder / name).mkdir(exist_ok=True) if name.endswith("checkpoints") else None
    subprocess.run(["chattr", "+i", str(folder / name)], check=True)
    try:
        ended = started.ended()
    finally:
        subprocess.run(["chattr", "-i", str(folder / name)], check=True)
    # A record that cannot be written is warned of, and the run goes on without it.
    is_record = name.endswith("rollouts.jsonl")
    resumed = bench.train(folder, command=RESUME).ended()
    wanted = [0] if is_record else [2]
    verdict = bench.verdict(PLAIN, folder, ended, wanted=wanted, resumed=resumed, rollouts=not is_record)
    is_said = not is_record or "rollouts are no longer recorded; the run goes on" in ended.said
    return bench.also(verdict, [] if is_said else ["nobody said that rollouts are no longer recorded"])


def _has_steps(folder: Path, count: int) -> bool:
    return RunDirectory(folder / "out").last_step() >= count
