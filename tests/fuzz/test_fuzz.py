"""A short form of `make fuzz`, and all that was ever found."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import corpus, runner
from fuzz.__main__ import TARGETS, target_of
from fuzz.watch import judge, settled

_FOUND = [(name, file) for name in TARGETS for file in corpus.cases(name)]
_CASES = {"completions": 100, "model_folders": 30, "commands": 20}
_SLOW = ("completions", "model_folders", "commands", "run_directories", "data_files", "configs")


def _prepared(name):
    """Return a target; what commands import for all forks would take longer than so few of them."""
    target = target_of(name)
    if name != "commands":
        target.prepare()
    return target


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param(*found, id=f"{found[0]}-{found[1].stem}", marks=[pytest.mark.slow] * (found[0] in _SLOW))
        for found in _FOUND
    ],
)
def test_what_was_found_stays_mended(name, file):
    judgement = settled(_prepared(name), corpus.load(file))
    assert not judgement.is_fault, judgement


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in TARGETS])
def test_no_case_is_a_fault(name):
    target = _prepared(name)
    for number in range(_CASES.get(name, 300)):
        case = runner.case_of(target, 1, number)
        judgement = settled(target, case)
        assert not judgement.is_fault, f"case {number}: {judgement}, {case!r:.2000}"


@pytest.mark.parametrize("name", ["schedule_strings", "steering_files", "record_files"])
def test_no_case_that_hypothesis_thinks_of_is_a_fault(name):
    target = target_of(name)

    @settings(max_examples=100, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def tried(rng):
        judgement = judge(target, target.draw(rng))
        assert not judgement.is_fault, judgement

    tried()


def test_a_fault_is_seen_for_what_it_is():
    """The watch itself: time, memory, messages and results that are wrong."""
    from fuzz.target import Target, expect

    def faulty(case):
        if case == "slow":
            while True:
                pass
        if case == "large":
            return b"x" * 2**29 and "accepted"
        if case == "wrong":
            expect(False, "two and two are five")
        if case == "lines":
            raise OSError("one\ntwo")
        return {}[case]

    target = Target("faulty", lambda rng: "slow", faulty, cpu_seconds=1.0)
    found = {case: judge(target, case).verdict for case in ("slow", "large", "wrong", "lines", "key")}
    wanted = {"slow": "unbounded", "large": "unbounded", "wrong": "silently_wrong"}
    assert found == wanted | {"lines": "traceback", "key": "traceback"}
