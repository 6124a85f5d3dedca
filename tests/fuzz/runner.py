"""Many cases of one target, in processes that are forked for some thousands each and may die of one.

A case is a function of the target's name, the seed and its number, so any can be made again.
"""

import json
import mmap
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fuzz.target import Case, Target
from fuzz.watch import Judgement, judge, limit_memory, settled

_CHUNK = 5_000
_WARM = 8  # cases that are tried before counting, for what is imported on the way is no case's memory or time
_SECONDS = 30.0  # between two lines about how far it is
_VERDICTS = ("accepted", "refused", "traceback", "unbounded", "silently_wrong")


@dataclass
class Row:
    """What became of a target's cases."""

    target: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    faults: list[tuple[Case, Judgement]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as results hold it."""
        counts = {verdict: self.counts[verdict] for verdict in _VERDICTS}
        return {"target": self.target, "tried": sum(counts.values()), **counts, "seconds": round(self.seconds, 1)}


def case_of(target: Target, seed: int, number: int) -> Case:
    """Return one case of a target."""
    return target.draw(Random(f"{target.name}-{seed}-{number}"))


def run(target: Target, num_cases: int, seed: int) -> Row:
    """Try so many cases of a target."""
    target.prepare()
    row, began, said = Row(target.name), time.monotonic(), 0.0
    done = 0
    while done < num_cases:
        for judgement in _chunk(target, seed, done, min(done + _CHUNK, num_cases)):
            row.counts[judgement.verdict] += 1
            if judgement.is_fault:
                row.faults.append((case_of(target, seed, done), judgement))
                print(f"case {done}: {judgement}", flush=True)
            done += 1
            row.seconds = time.monotonic() - began
            if row.seconds > said + _SECONDS:
                said = row.seconds
                print(json.dumps(row.to_dict()), flush=True)
    return row


def _chunk(target: Target, seed: int, start: int, stop: int) -> Iterator[Judgement]:
    """Yield the judgements of cases, made in another process; if it dies, up to the case that it died of."""
    under_way = mmap.mmap(-1, 8)  # the number of the case, which outlives the process
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        _work(target, seed, range(start, stop), under_way, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        number = start
        for line in pipe:
            yield Judgement(**json.loads(line))
            number += 1
    _, status = os.waitpid(child, 0)
    if number < stop:
        died_of = int.from_bytes(under_way[:], "little")
        yield from [Judgement("traceback", f"the process died with status {status}")] if died_of == number else ()


def _work(target: Target, seed: int, numbers: range, under_way: mmap.mmap, write_end: int) -> None:
    """Judge cases and write a line for each; the process ends here, whatever happens."""
    status = 1
    try:
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for number in numbers[:_WARM]:
                judge(target, case_of(target, seed, number))
            limit_memory()
            for number in numbers:
                under_way[:] = number.to_bytes(8, "little")
                judgement = settled(target, case_of(target, seed, number))
                line = json.dumps({"verdict": judgement.verdict, "why": judgement.why})
                pipe.write(line.encode() + b"\n")
        status = 0
    finally:
        os._exit(status)
