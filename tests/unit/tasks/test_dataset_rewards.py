"""A user's own reward on a user's own data: what it is given, its limit of time, and what it does amiss."""

import sys
from datetime import date
from pathlib import Path

import pytest
from support.dataset_files import jsonl, task

from entrocraft.errors import InvalidValueError, RewardError, UnknownNameError
from entrocraft.grading import rewards

pytestmark = pytest.mark.usefixtures("workplace")

OWN = """
import time

import numpy as np

def by_level(completions, level, log_metric, trainer_state, **columns):
    log_metric("seen", len(completions))
    said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [len(text) + n for text, n in zip(said, level)]

def raises(completions, level, **columns):
    return [1 / n for n in level]

def none(completions, **columns):
    return [None if completion == "b" else 1 for completion in completions]

def short(completions, **columns):
    return [1.0]

def number(completions, **columns):
    return 1.0

def lazy(completions, **columns):
    return (int(completion) for completion in completions)

def huge(completions, **columns):
    return [10**400 for _ in completions]

def hangs(completions, **columns):
    while "b" in completions: pass
    return [np.float32(len(c)) for c in completions]

def slow(completions, **columns):
    time.sleep(1)
    return [1.0]
"""


@pytest.fixture
def own(monkeypatch):
    Path("own_rewards.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "own_rewards", raising=False)
    jsonl()
    return lambda name, **options: task(reward=f"own_rewards:{name}", **options)


def test_a_reward_of_the_users_own_is_given_all_columns_as_trl_gives_them(own):
    problems = [{"prompt": "p", "level": 5}, {"prompt": "q", "level": 1}]
    assert own("by_level").scores(["abc", ""], problems) == [8.0, 1.0]
    assert own("by_level").problems("train", 1)[0].keys() == {"prompt", "question", "answer", "level"}
    in_chat = [{"prompt": [{"role": "user", "content": "p"}], "level": 5}]
    assert own("by_level", chat=True).scores(["abc"], in_chat) == [8.0]
    trl = {"prompts": ["p"], "level": [5], "trainer_state": object(), "log_metric": lambda name, value: None}
    assert own("by_level").reward(["abc"], **trl) == [8.0]


def test_columns_of_a_reward_of_ones_own_are_unicode(own):
    jsonl(rows=[{"question": str(i), "answer": i, "more": ["\ud83d"]} for i in range(20)])
    with pytest.raises(InvalidValueError, match="row 1: column 'more' is no Unicode text"):
        own("by_level").problems("train", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raised on sample 3 of 3: prompt 'r', completion 'c': ZeroDivisionError: division by zero"),
        ("none", "must return finite numbers, got None for sample 2 of 3: prompt 'q', completion 'b'"),
        ("short", "must return one number per completion, got 1 for 3"),
        ("number", "must return a list of numbers, got 1.0"),
        ("lazy", "raised on sample 1 of 3: prompt 'p', completion 'a': ValueError: invalid literal"),
        ("huge", "must return finite numbers"),
    ],
)
def test_what_a_reward_does_amiss_is_said_with_the_sample(own, name, message):
    problems = [{"prompt": p, "level": n} for p, n in (("p", 2), ("q", 1), ("r", 0))]
    with pytest.raises(RewardError) as error:
        own(name).scores(["a", "b", "c"], problems)
    assert message in str(error.value)


def test_a_reward_that_hangs_on_one_completion_scores_it_zero_and_goes_on(own):
    limited = task(reward={"name": "own_rewards:hangs", "seconds": 2})
    problems = [{"prompt": p, "level": 1} for p in "pqr"]
    with pytest.warns(UserWarning, match=r"own_rewards:hangs took more than 2 s.*'completions': \['b'\]"):
        assert limited.scores(["a", "b", "ccc"], problems) == [1.0, 0.0, 3.0]
    logged = {}
    trl = {"prompts": ["p"], "level": [1], "trainer_state": object(), "log_metric": logged.__setitem__}
    assert limited.reward(["abcd"], **trl) == [4.0]
    assert logged["entrocraft/late_graders"] == 0.0  # of this call; that of another was late
    assert limited.reward(["b", "abc"], **trl | {"prompts": ["p", "q"], "level": [1, 1]}) == [0.0, 3.0]
    assert logged["entrocraft/late_graders"] == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"own_rewards:raises raised ZeroDivisionError: division by zero on \{'completions': \['c'\]"),
        (
            "none",
            r"must return a list of one finite number for one completion, got \[None\] for sample 2 of 3: prompt 'q'",
        ),
        ("number", "must return a list of one finite number for one completion, got 1.0 for sample 1 of 3"),
    ],
)
def test_what_a_limited_reward_does_amiss_is_said_with_the_sample(own, name, message):
    limited = task(reward={"name": f"own_rewards:{name}", "seconds": 20})
    problems = [{"prompt": p, "level": n} for p, n in (("p", 2), ("q", 1), ("r", 0))]
    with pytest.raises(RewardError, match=message):
        limited.scores(["a", "b", "c"], problems)


def test_a_limited_reward_is_given_what_json_can_hold(own):
    limited = task(reward={"name": "own_rewards:hangs", "seconds": 20})
    with pytest.raises(RewardError, match=r"column 'day' is more \(Object of type date is not JSON serializable\)"):
        limited.scores(["a"], [{"prompt": "p", "day": date(2026, 1, 1)}])


def test_options_of_a_reward_are_checked(own):
    with pytest.raises(UnknownNameError, match="did you mean 'seconds'"):
        task(reward={"name": "own_rewards:hangs", "second": 20})
    with pytest.raises(InvalidValueError, match="seconds must be positive and finite, got 0"):
        task(reward={"name": "own_rewards:hangs", "seconds": 0.0})


def test_a_reward_without_a_limit_that_takes_long_is_said_to(own, monkeypatch):
    monkeypatch.setattr(rewards, "_PATIENCE_SECONDS", 0.05)
    with pytest.warns(
        UserWarning, match=r"'own_rewards:slow' has been at work for 0.05 s on 1 completions.*prompt 'p'"
    ):
        assert own("slow").scores(["a"], [{"prompt": "p", "level": 1}]) == [1.0]
