"""All the faults that there are, by kind."""

from collections.abc import Iterator

from faults.clocks import clock_jumps
from faults.damage import damaged_checkpoints, damaged_runs
from faults.disks import full_disks, read_only, why_no_mounts
from faults.fault import Fault
from faults.interruptions import aimed, random_moments
from faults.ranks import ranks_that_die
from faults.rewards import failing_rewards
from faults.verl_runs import verl_that_dies
from faults.weights import weights_that_are_no_numbers


def all_faults(seed: int, moments: int) -> Iterator[Fault]:
    """Yield every fault that can be tried here, the same for the same seed."""
    yield from weights_that_are_no_numbers()
    yield from failing_rewards()
    yield from random_moments(moments, seed)
    yield from aimed()
    if not why_no_mounts():
        yield from full_disks()
        yield from read_only()
    yield from damaged_checkpoints()
    yield from damaged_runs()
    yield from clock_jumps()
    yield from ranks_that_die(seed)
    yield from verl_that_dies()


def not_tried() -> dict[str, str]:
    """Return the kinds that cannot be tried here, and why."""
    why = why_no_mounts()
    return {"full disk": why, "read-only output": why} if why else {}
