"""Trainings of verl's stock command on the CPU: its driver, or a process of Ray's, is ended."""

import json
import re
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from faults.bench import Bench, Verdict
from faults.fault import Fault
from faults.outcomes import Comparison

sys.path.insert(0, str(Path(__file__).parents[1] / "verl"))  # as verl's own tests do

_SETTINGS = ("trainer.v1.trainer_mode=entrocraft_sync", '+entrocraft.schedule="linear(0.6, 0.3)"')
_SAVING = ("trainer.save_freq=2", "trainer.resume_mode=auto")
_STEPS = 4
_STRIKE_AFTER = 3
_MOST_SECONDS = 300
_GRACE_SECONDS = 120  # two agents of Ray's end by themselves a minute after a driver that was killed
VICTIMS = {"a worker that Ray holds": "ray::WorkerDict"}
DRIVER = "verl.trainer.main_ppo"


def verl_that_dies() -> Iterator[Fault]:
    """Yield ends of the driver and of Ray's processes amid a step."""
    for name, words in VICTIMS.items():
        yield Fault("verl", f"SIGKILL to {name}", partial(end, words, signal.SIGKILL))
    for name, number in (("SIGKILL", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
        yield Fault("verl", f"{name} to the command", partial(end, DRIVER, number))


def end(words: str, number: int, bench: Bench) -> Verdict:
    """End a process of a training once three steps are made, and go on from the checkpoint of the second."""
    wanted = _undisturbed(bench)
    folder = bench.folder / f"verl-{uuid.uuid4().hex[:8]}"
    first = _Run(bench, folder)
    hit = first.strike(words, number)
    problems = [] if hit else [f"the fault did not happen: no process is called {words}"]
    first.wait()
    if hit and first.status == 0:
        problems.append("it ended with 0")
    if "ended after" in first.text[-200:]:
        problems.append(f"it did not end within {_MOST_SECONDS} seconds")
    second = _Run(bench, folder)
    second.wait()
    if second.status != 0:
        problems.append(f"going on ended with {second.status}: {second.text[-300:]}")
    # What was made after the checkpoint is made again; what was made before it must not be.
    resumed_from = min((line["step"] for line in second.steps), default=0) - 1
    lines = [line for line in first.steps if line["step"] <= resumed_from] + second.steps
    have, should = Counter(line["step"] for line in lines), Counter(line["step"] for line in wanted)
    differences = [] if _decisions(lines) == _decisions(wanted) else ["the counts of decisions differ"]
    comparison = Comparison((should - have).total(), (have - should).total(), differences)
    problems += [f"left: {command[:100]}" for command in first.left + second.left]
    said = next((line for line in reversed(first.text.splitlines()) if re.match(r"\S*Error: ", line)), "")
    return bench.judged("verl", said.strip(), first.orphans + second.orphans, comparison, problems)


def _undisturbed(bench: Bench) -> list[dict[str, Any]]:
    file = bench.folder / "undisturbed-verl.json"
    if not file.exists():
        run = _Run(bench, bench.folder / "undisturbed-verl")
        run.wait()
        assert run.status == 0, run.text[-3000:]
        file.write_text(json.dumps(run.steps))
    return json.loads(file.read_text())


def _decisions(lines: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return the target of each step: verl's own sampling is not promised to repeat, but the curve is."""
    return [(line["step"], round(line["entrocraft/target"], 6)) for line in lines]


class _Run:
    """A run of verl's command in a thread of its own."""

    def __init__(self, bench: Bench, folder: Path):
        self._bench, self._folder = bench, folder
        self.orphans, self.left = 0, list[str]()
        self._metrics = folder / "metrics.jsonl"
        self._metrics.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        from launch import make_assets, run_verl

        assets = self._bench.folder / "verl-assets"
        if not assets.exists():
            assets.mkdir()
            make_assets(assets)
        outcome = run_verl(assets, self._folder, *_SETTINGS, *_SAVING, steps=_STEPS, seconds=_MOST_SECONDS)
        self.status, self.text, self.steps = outcome.status, outcome.text, outcome.steps

    def strike(self, words: str, number: int) -> bool:
        """Send a signal to a process of the run, by its command line, once three steps are made."""
        while self._thread.is_alive():
            if self._metrics.exists() and len(self._metrics.read_text().splitlines()) >= _STRIKE_AFTER:
                victims = [each for each in self._family() if words in _command(each)]
                for each in victims[:1]:
                    each.send_signal(number)
                return bool(victims)
            time.sleep(0.05)
        return False

    def wait(self) -> None:
        """Wait for its end, and then for that of all that it has started."""
        self._thread.join()
        deadline = time.monotonic() + _GRACE_SECONDS
        while (left := self._family()) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.orphans, self.left = len(left), [_command(each) for each in left]
        for each in left:
            each.kill()

    def _family(self) -> list[psutil.Process]:
        """Return its processes, the command first."""
        # Ray's processes rename themselves, which overwrites what they have inherited; but they work where it began.
        family = [each for each in psutil.process_iter() if _works_in(each, self._folder)]
        return sorted(family, key=lambda each: each.pid)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False  # gone meanwhile, or another user's
