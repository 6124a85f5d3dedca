"""Rewards of a user's own: what they may return, and what is said of anything else."""

import sys
import warnings
from pathlib import Path

import pytest

from entrocraft.errors import RewardError
from entrocraft.grading.rewards import own_reward

OWN = """
import itertools, sys
from fractions import Fraction

import numpy as np
import torch

def array(completions, **columns): return np.array([len(c) for c in completions])
def floats32(completions, **columns): return [np.float32(len(c)) for c in completions]
def tensor(completions, **columns): return torch.tensor([float(len(c)) for c in completions])
def generator(completions, **columns): return (len(c) for c in completions)
def fractions(completions, **columns): return [Fraction(len(c)) for c in completions]
def booleans(completions, **columns): return tuple(len(c) > 0 for c in completions)

def none(completions, **columns): return None
def nan(completions, **columns): return [float("nan") for _ in completions]
def a_dict(completions, **columns): return {len(c): 1.0 for c in completions}
def a_set(completions, **columns): return {1.0 * len(c) for c in completions}
def text(completions, **columns): return "12"
def number(completions, **columns): return 1.0
def scalar_array(completions, **columns): return np.array(1.0)
def matrix(completions, **columns): return np.ones((len(completions), 1))
def nested(completions, **columns): return [np.ones(1) for _ in completions]
def texts(completions, **columns): return ["1.0" for _ in completions]
def long(completions, **columns): return [1.0] * (len(completions) + 1)
def endless(completions, **columns): return itertools.repeat(1.0)
def strange(completions, **columns): return object()
def leaves(completions, **columns): sys.exit(0)
def shouts(completions, **columns): raise ValueError("first\\nsecond")
def fails_late(completions, **columns): return (1 / 0 for _ in completions)
async def waits(completions, **columns): return [1.0 for _ in completions]
def empties(completions, **columns): return [float(len(completions.pop(0))) for _ in range(len(completions))]
"""


@pytest.fixture(params=[None, pytest.param(20.0, marks=pytest.mark.slow)], ids=["here", "with seconds"])
def reward(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("strange_rewards.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "strange_rewards", raising=False)
    return lambda name: own_reward({"name": f"strange_rewards:{name}", "seconds": request.param})


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        *((name, [1.0, 2.0]) for name in ("array", "floats32", "tensor", "generator", "fractions", "empties")),
        ("booleans", [1.0, 1.0]),
    ],
)
def test_numbers_in_a_row_are_rewards(reward, name, rewards):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reward(name)(["a", "bc"], prompts=["p", "q"]) == rewards


@pytest.mark.parametrize(
    "name",
    [
        *("none", "nan", "a_dict", "a_set", "text", "number", "scalar_array", "matrix", "nested", "texts", "long"),
        *("endless", "strange", "leaves", "shouts", "fails_late", "waits"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_anything_else_is_one_line_that_names_the_reward(reward, name):
    with pytest.raises(RewardError) as error:
        reward(name)(["a", "bc"], prompts=["p", "q"])
    assert f"strange_rewards:{name}" in str(error.value) and len(str(error.value)) < 700
    assert "\n" not in str(error.value)
