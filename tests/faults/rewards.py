"""Rewards that raise, leave, die or hang amid a run."""

import signal
import time
from collections.abc import Iterator
from functools import partial

from entrocraft.runs import RunDirectory
from faults.bench import RESUME, Bench, Verdict
from faults.fault import Fault
from faults.trainings import REWARDED

_CALL = 6
"""At which call of the reward it goes wrong: after some steps, before the last."""
ENDINGS = {
    "raise": ([2], ("the sandbox is not there", "--resume")),
    "exit": ([2], ("SystemExit", "--resume")),
    "die": ([3], ()),
}
"""By harm: the exit status that is right, and what must be said."""
PATIENCE = {
    "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM and, as a cluster does, SIGKILL": [signal.SIGTERM, signal.SIGKILL],
    "SIGHUP twice": [signal.SIGHUP, signal.SIGHUP],
}


def failing_rewards() -> Iterator[Fault]:
    """Yield rewards that end by themselves, and some that must be ended."""
    for harm in ENDINGS:
        yield Fault("rewards", f"{harm}s at call {_CALL}", partial(fail, harm))
    for name, signals in PATIENCE.items():
        yield Fault("rewards", f"hangs at call {_CALL}, ended by {name}", partial(hang, signals))


def fail(harm: str, bench: Bench) -> Verdict:
    """Train with a reward that goes wrong, and go on with one that does not."""
    folder = bench.new_folder(REWARDED)
    (folder / "harm.txt").write_text(f"{harm} {_CALL}")
    ended = bench.train(folder).ended()
    (folder / "harm.txt").unlink()
    resumed = bench.train(folder, command=RESUME).ended()
    wanted, words = ENDINGS[harm]
    return bench.verdict(REWARDED, folder, ended, wanted=wanted, words=words, resumed=resumed)


def hang(signals: list[int], bench: Bench) -> Verdict:
    """Train with a reward that hangs, end the run by signals, and go on with one that does not."""
    folder = bench.new_folder(REWARDED)
    bench.undisturbed(REWARDED)
    (folder / "harm.txt").write_text(f"hang {_CALL}")
    started = bench.train(folder)
    started.wait_until(lambda: RunDirectory(folder / "out").last_step() >= 2)
    time.sleep(2.0)  # by now it hangs
    for number in signals:
        started.send(number)
        time.sleep(0.5)
    ended = started.ended(seconds=90)
    (folder / "harm.txt").unlink()
    resumed = bench.train(folder, command=RESUME).ended()
    wanted = [-signals[1]] if signals[1] == signal.SIGKILL else [128 + signals[1]]
    return bench.verdict(REWARDED, folder, ended, wanted=wanted, resumed=resumed)
