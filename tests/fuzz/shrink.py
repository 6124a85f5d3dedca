"""The smallest case of a fault: parts are left out for as long as it stays the same fault."""

import copy
import time
from collections.abc import Iterator

from fuzz.target import Case, Target
from fuzz.watch import Judgement, judge

_SECONDS = 20.0


def smallest(target: Target, case: Case, found: Judgement) -> Case:
    """Return a case that is judged alike, with as much left out of its texts and lists as some seconds allow."""
    until = time.monotonic() + (_SECONDS if found.verdict != "unbounded" else 0.0)
    is_shorter = True
    while is_shorter and time.monotonic() < until:
        is_shorter = False
        for shorter in _shorter(case):
            if time.monotonic() > until:
                break
            try:
                judgement = judge(target, shorter)
            except Exception:  # what is left is no case of this target
                continue
            if judgement.verdict == found.verdict and judgement.why[-80:] == found.why[-80:]:
                case, is_shorter = shorter, True
                break
    return case


def _shorter(case: Case) -> Iterator[Case]:
    """Yield cases with one part less, large parts first."""
    if isinstance(case, str):
        size = len(case) // 2
        while size:
            yield from (case[:start] + case[start + size :] for start in range(0, len(case), size))
            size //= 2
    elif isinstance(case, list):
        yield from (case[:i] + case[i + 1 :] for i in range(len(case)))
        for i, inner in enumerate(case):
            yield from ([*case[:i], shorter, *case[i + 1 :]] for shorter in _shorter(inner))
    elif isinstance(case, dict):
        for key, inner in case.items():
            for shorter in _shorter(inner):
                yield copy.copy(case) | {key: shorter}
