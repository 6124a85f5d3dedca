"""The choice between two strategies of benchmarks/choice.py: its closed form against its flow, and against samples."""

import importlib.util
import math
from pathlib import Path

import pytest
from scipy.integrate import solve_ivp

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def choice():
    spec = importlib.util.spec_from_file_location("choice", ROOT / "benchmarks" / "choice.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_the_closed_form_is_where_and_when_the_flow_arrives(choice, rate):
    def flow(t, state):
        pi, skill = 1 / (1 + math.exp(-state[0])), state[1]
        pull = rate * (1 - 1 / choice.GROUP) * pi * (1 - pi) * (skill - choice.HABIT)
        return pull, choice.PRACTICE * pi * skill

    def overtakes(t, state):
        return state[1] - choice.HABIT

    overtakes.terminal = True
    start = [math.log(choice.START / (1 - choice.START)), choice.WORKING]
    end = solve_ivp(flow, (0, 1e5), start, events=overtakes, rtol=1e-10, atol=1e-12)
    assert end.t_events[0][0] == pytest.approx(choice.steps_left_alone(rate), rel=1e-6)
    assert math.exp(end.y_events[0][0][0]) == pytest.approx(choice.odds_when(choice.HABIT, rate), rel=1e-6)


def test_the_odds_that_are_left_fall_exponentially_with_the_rate(choice):
    # log o + o = const - rate * k: where o is small, each unit of the rate takes the same factor.
    odds = [choice.odds_when(choice.HABIT, rate) for rate in (2.0, 3.0, 4.0)]
    factor = math.exp(choice.CENTRED / choice.PRACTICE * (0.5 * math.log(2) - 0.25))  # p log(p / s) - (p - s)
    assert odds[0] / odds[1] == pytest.approx(factor, rel=1e-3)
    assert odds[1] / odds[2] == pytest.approx(factor, rel=1e-3)


def test_holding_takes_as_long_as_the_share_of_working_says(choice):
    assert choice.share_at(math.log(2)) == pytest.approx(0.5, abs=1e-6)
    assert choice.share_at(0.325083) == pytest.approx(0.1, abs=1e-6)  # -0.1 log 0.1 - 0.9 log 0.9
    assert choice.steps_held(0.325083) == pytest.approx(math.log(2) / (0.02 * 0.1), rel=1e-5)
    assert choice.steps_held(0.325083, kept=0.5) == pytest.approx(2 * choice.steps_held(0.325083))


@pytest.mark.filterwarnings("ignore")  # of batches of which nothing is kept
def test_rollouts_that_are_sampled_do_the_same(choice):
    seeds = range(3)
    alone = [choice.sampled(0.5, seed, 2000)["overtook"] for seed in seeds]
    assert sum(alone) / 3 == pytest.approx(choice.steps_left_alone(0.5), rel=0.3)  # 314; few rollouts, much luck
    assert all(choice.sampled(2.0, seed, 2000)["overtook"] is None for seed in seeds)  # in 70,000 steps


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["token", "budget"])
def test_a_choice_that_the_library_holds_open_is_found_when_the_formula_says(choice, method):
    run = choice.sampled(2.0, 0, 1000, entropy=0.3, method=method)
    assert run["entropy"] == pytest.approx(0.3, abs=0.015)
    assert run["overtook"] == pytest.approx(choice.steps_held(0.3, run["kept"]), rel=0.15)
