"""The rate first, tokens where it is at a limit: what each does, and a small world in which a curve is held by both."""

import json
from functools import partial

import pytest
import torch

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.goal import Goal
from entrocraft.control.methods.learning_rate import LearningRate
from entrocraft.control.methods.rate_and_token import RateAndToken
from entrocraft.control.methods.token import Token
from entrocraft.control.planning.ranking import binned
from entrocraft.errors import InvalidValueError

TARGET = 0.5
GOAL = Goal(lower=0.48, target=TARGET, upper=0.52)
CHANGES = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, 4.0])


def batch_of(entropy, change=CHANGES, step=1):
    signals = {"advantages": torch.ones(2), "change": torch.zeros(2), "reading": binned(change)}
    return Batch(step=step, entropy=entropy, **signals)


def weights(method, decision, change=CHANGES):
    """Return the weight of each token; all 1 if the method has none."""
    ones = torch.ones(1, len(change))
    columns = {"log_probs_BT": ones, "entropy_BT": ones, "advantages_BT": ones, "mask_BT": ones}
    factors = method.weigh(Tokens(**columns, change_BT=change[None]), decision)
    return (ones if factors is None else factors)[0]


def test_between_the_limits_the_rate_is_that_of_learning_rate_and_every_token_counts():
    ours, rate = RateAndToken(), LearningRate(least=0.1)
    for step, entropy in enumerate([0.5, 0.505, 0.51, 0.5, 0.49, 0.495]):
        decision = ours.decide(batch_of(entropy, step=step), GOAL)
        assert decision.knobs == rate.decide(batch_of(entropy, step=step), GOAL).knobs
        assert 0.1 < decision.knobs["learning_rate"] < 1.0
        assert weights(ours, decision).tolist() == [1.0] * 6 and decision.kept_share == 1.0
        assert decision.metrics["saturated"] == 0.0  # logged at every step


@pytest.mark.parametrize(
    ("entropy", "factor", "change"),
    [(0.3, 0.2, CHANGES), (0.9, 1.0, -CHANGES)],
    ids=["below the curve, at the smallest rate", "above it, at the greatest"],
)
def test_at_a_limit_the_tokens_that_move_entropy_away_are_left_out(entropy, factor, change):
    method = RateAndToken(least=0.2)
    decision = method.decide(batch_of(entropy, change), GOAL)
    assert decision.knobs["learning_rate"] == pytest.approx(factor)
    assert weights(method, decision, change).tolist() == [0, 0, 0, 1, 1, 1]
    assert decision.kept_share == 0.5


def test_the_plan_knows_that_a_smaller_step_does_less():
    """All six count, at half the rate and at a tenth of it: the effects are 3 / sqrt(6) in units of the root of 43."""
    whole = 3 / 6**0.5 / 43**0.5
    for rate in (1.0, 0.5, 0.1):
        token = Token(momentum=0.0)
        decision = token.decide_at(rate, batch_of(TARGET), GOAL, leaves_out=False)
        assert decision.metrics["effect_0"] == pytest.approx(rate * whole)


class World:
    """A policy whose entropy falls by what it learns, and is moved by tokens, more so at a higher rate."""

    def __init__(self, method, schedule, speed=0.02, num_tokens=400):
        self.errors, self.factors, self.kept = [], [], []
        noise, entropy = torch.Generator().manual_seed(0), 0.6
        for step in range(300):
            target = schedule(step / 300)
            ahead = partial(self.ahead, schedule, step)
            goal = Goal(lower=target - 0.03, target=target, upper=target + 0.03, ahead=ahead)
            change = torch.randn(num_tokens, generator=noise) - 0.1
            reading = entropy * (1 + 0.01 * float(torch.randn(1, generator=noise)))
            decision = method.decide(batch_of(reading, change, step + 1), goal)
            kept = weights(method, decision, change)
            factor = decision.knobs.get("learning_rate", 1.0)
            entropy += factor * speed * entropy * float((kept * change).sum() / kept.sum() ** 0.5) / 2
            self.errors.append(abs(entropy - target))
            self.factors.append(factor)
            self.kept.append(float(kept.mean()))

    @staticmethod
    def ahead(schedule, step, count):
        return [schedule((step + k) / 300) for k in range(1, count + 1)]

    def mean(self, values):
        return sum(values[60:]) / 240


@pytest.mark.parametrize(
    "schedule", [lambda share: 0.6, lambda share: 0.6 + 0.1 * share], ids=["a constant", "a rising line"]
)
def test_a_curve_that_holds_or_rises_is_followed_where_no_rate_would(schedule):
    held, waiting = World(RateAndToken(), schedule), World(LearningRate(), schedule)
    assert held.mean(held.errors) < 0.01 < waiting.mean(waiting.errors)
    assert min(held.factors) == pytest.approx(0.1)  # and goes on learning at a tenth of the rate
    assert 0.5 < held.mean(held.kept) < 1.0


def test_a_line_that_learning_follows_by_itself_costs_no_token():
    world = World(RateAndToken(), lambda share: 0.6 - 0.15 * share, speed=0.005)
    assert world.mean(world.errors) < 0.01
    assert world.mean(world.kept) > 0.97
    assert 0.1 < world.mean(world.factors) < 0.5


def test_a_curve_that_falls_faster_than_learning_does_is_followed_at_the_full_rate():
    world = World(RateAndToken(), lambda share: 0.6 * (1 - share) ** 4 + 0.02, speed=0.01)
    assert max(world.factors) == 1.0
    assert min(world.kept) < 0.9


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped():
    method, resumed = RateAndToken(), RateAndToken()
    readings = [0.52, 0.49, 0.42, 0.41]
    for step, entropy in enumerate(readings):
        method.decide(batch_of(entropy, step=step), GOAL)
    resumed.load_state_dict(json.loads(json.dumps(method.state_dict())))
    for step, entropy in enumerate(readings):
        one, other = (each.decide(batch_of(entropy, step=step), GOAL) for each in (method, resumed))
        assert one.knobs == other.knobs and one.note == other.note and one.metrics == other.metrics
    with pytest.raises(InvalidValueError, match="controller state of the rate and tokens"):
        resumed.load_state_dict(Token().state_dict())


@pytest.mark.parametrize("options", [{"least": 0.5}, {"most": 0.2}, {"min_kept": 0.0}, {"momentum": 1.0}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidValueError):
        RateAndToken(**options)
