"""A temperature that follows the curve: the numbers, step by step, and where they are kept."""

import json
import math

import pytest
import torch

import entrocraft as ec
from entrocraft import Band, Batch, Decision, Goal
from entrocraft.control.controller import BatchStats, Controller
from entrocraft.control.course import Course
from entrocraft.control.methods.adaptive_temperature import AdaptiveTemperature
from entrocraft.errors import InvalidValueError

GOAL = Goal(lower=0.4, target=0.5, upper=0.6)
# ln 24 + ln ln 24 = 3.178054 + 1.156269 = 4.334323 for a vocabulary of 24 tokens, and ln 2 = 0.693147.
SMALL = {"vocabulary": 24}


def batch(entropy, **fields):
    return Batch(step=1, entropy=entropy, advantages=torch.tensor([1.0, -2.0]), **fields)


def temperatures(method, entropies):
    return [method.decide(batch(entropy), GOAL).knobs["temperature"] for entropy in entropies]


def test_it_rises_below_the_target_falls_above_it_and_stands_still_on_it():
    # A step of ln 2 is 0.693147 / 4.334323 = 0.1599205 of T * T: from 1 to 1.1599205, from there down by
    # 1.3454156 * 0.1599205 = 0.2151595, and up again by 0.8925733 * 0.1599205 = 0.1427408.
    moved = temperatures(AdaptiveTemperature(**SMALL), [0.25, 0.5, 1.0, 0.25])
    assert moved == pytest.approx([1.1599205, 1.1599205, 0.9447610, 1.0875018], abs=1e-6)


def test_a_real_vocabulary_takes_smaller_steps():
    # ln 151936 + ln ln 151936 = 11.931214 + 2.479158 = 14.410373.
    assert temperatures(AdaptiveTemperature(), [0.25]) == pytest.approx([1 + 0.693147 / 14.410373], abs=1e-6)


def test_it_starts_from_what_the_batch_was_sampled_at():
    # 2 + 4 * 0.1599205 = 2.639682, whatever it takes for its own start.
    method = AdaptiveTemperature(start=0.5, **SMALL)
    decision = method.decide(batch(0.25, temperature=2.0), GOAL)
    assert decision.knobs["temperature"] == pytest.approx(2.639682, abs=1e-6)
    assert decision.metrics == {"temperature": 2.0} and method.state_dict() == {"temperature": pytest.approx(2.639682)}


@pytest.mark.parametrize(
    ("entropy", "target", "expected"),
    [
        (1e-9, 1.0, 2.0),  # 1 + 20.7 / 4.33 = 5.8
        (1.0, 1e-9, 0.5),  # 1 - 20.7 / 4.33 is no temperature
        (0.0, 1.0, 2.0),
        (1.0, 0.0, 0.5),
        (0.0, 0.0, 1.0),
    ],
)
def test_it_stays_within_its_limits_even_where_there_is_no_entropy(entropy, target, expected):
    method = AdaptiveTemperature(least=0.5, most=2.0, **SMALL)
    goal = Goal(lower=0.0, target=target, upper=9.0)
    assert method.decide(batch(entropy), goal).knobs == {"temperature": expected}


def test_every_rollout_is_kept_as_it_is():
    decision = AdaptiveTemperature().decide(batch(0.1), GOAL)
    assert decision.keep.all() and decision.advantages.tolist() == [1.0, -2.0]
    assert decision.turned.keys() == {"temperature"} and not decision.turned_now


def test_the_curve_of_its_authors_is_ours_written_down():
    curve = ec.schedule_from("join([constant(1.0, unit='initial'), cosine(1.0, 0.9, unit='initial')], at=[0.6])")
    for progress in (0.0, 0.5, 0.6, 0.65, 0.8, 0.95, 1.0):
        done = max(0.0, (progress - 0.6) / 0.4)  # of the last 40 % of the steps
        assert curve.at(progress) == pytest.approx(0.9 + 0.1 * 0.5 * (1 + math.cos(math.pi * done))), progress


@pytest.mark.parametrize(
    "options",
    [
        {"vocabulary": 2},
        {"start": 0.0},
        {"least": 0.0},
        {"start": 0.05},
        {"start": 11.0},
        {"least": 3.0, "most": 2.0, "start": 2.5},
        {"most": math.inf},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        AdaptiveTemperature(**options)


# ---- what the controller keeps -----------------------------------------------------------------------


class Deciding(ec.Method):
    """Decides on the temperatures it is given, one after the other; None for no word."""

    turns = frozenset({"temperature"})

    def __init__(self, *temperatures):
        self.temperatures = list(temperatures)

    def decide(self, batch, goal):
        temperature = self.temperatures.pop(0)
        return Decision.everything(batch, knobs={} if temperature is None else {"temperature": temperature})


def controller_of(method):
    return Controller(Course(Band(0.5, width=0.1)), method, type(method).__name__)


def stats(step):
    return BatchStats(step=step, total_steps=9, entropy=0.5, advantages=torch.tensor([1.0, -1.0]))


@pytest.mark.filterwarnings("ignore:step 3")
def test_a_temperature_stays_until_another_is_decided_and_goes_through_a_resume():
    controller = controller_of(Deciding(1.3, None))
    assert controller.temperature is None
    controller.decide(stats(1))
    assert controller.temperature == 1.3
    controller.decide(stats(2))
    controller.pass_over(3, 2)
    resumed = controller_of(Deciding())
    resumed.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert controller.temperature == resumed.temperature == 1.3


def test_methods_that_turn_no_temperature_have_none_in_their_state():
    assert "temperature" not in controller_of(ec.control.methods.METHODS["token"]()).state_dict()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_temperature_ends_the_run(temperature):
    with pytest.raises(InvalidValueError, match="temperature"):
        controller_of(Deciding(temperature)).decide(stats(1))
    with pytest.raises(InvalidValueError, match="temperature must be a positive number"):
        batch(0.5, temperature=temperature)


# ---- in a loop of one's own --------------------------------------------------------------------------

GIVEN = {
    "total_steps": 9,
    "log_probs": [[-0.1, -0.2], [-0.3]],
    "entropies": [[0.2, 0.3], [0.25]],
    "advantages": [1.0, -1.0],
    "groups": [0, 0],
}
CONTROL = {"schedule": 0.5, "method": {"name": "adaptive_temperature", **SMALL}}


def test_a_loop_that_sets_the_temperature_is_told_the_next_batchs():
    loop = ec.Loop(knobs=["temperature"])
    first = ec.decide(CONTROL, step=1, loop=loop, **GIVEN)  # the entropy is 0.25
    assert first.knobs == {"temperature": pytest.approx(1.1599205, abs=1e-6)} and first.metrics["temperature"] == 1.0
    # 1.1599205 + 1.3454156 * 0.1599205 = 1.3750801
    second = ec.decide(CONTROL, json.loads(json.dumps(first.state)), step=2, loop=loop, **GIVEN)
    assert second.knobs == {"temperature": pytest.approx(1.375080, abs=1e-6)}
    assert second.metrics["temperature"] == first.knobs["temperature"] and not second.empty
    assert second.advantages == [[1.0, 1.0], [-1.0]]


def test_a_batch_without_advantages_is_empty_though_the_temperature_moves():
    nothing = GIVEN | {"advantages": [0.0, 0.0]}
    use = ec.decide(CONTROL, step=1, loop=ec.Loop(knobs=["temperature"]), **nothing)
    assert use.empty and use.knobs["temperature"] > 1


def test_a_loop_that_does_not_say_so_is_refused():
    with pytest.raises(
        InvalidValueError, match=r"sets temperature, which your loop cannot.*Loop\(knobs=\('temperature"
    ):
        ec.decide(CONTROL, step=1, **GIVEN)
