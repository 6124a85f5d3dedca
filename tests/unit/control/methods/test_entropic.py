"""Controllers that reweigh: the numbers of their formulas, computed by hand."""

import json

import pytest
import torch

import entrocraft as ec
from entrocraft import controllers
from entrocraft.control import EntropyControl
from entrocraft.control.methods.entropic import Entropic, EntropicPort, EntropicReleased
from entrocraft.errors import InvalidValueError

FALLING = ec.Band(ec.linear(0.6, 0.4), width=0.02)


def stats(step, entropy):
    return ec.BatchStats(step=step, total_steps=10, entropy=entropy, advantages=torch.tensor([2.0, -1.0, 0.0]))


def test_entropic_follows_a_curve_with_its_authors_gains():
    controller = controllers.build("entropic", FALLING)
    # Targets are 0.58 and 0.56; errors -0.1 and 0.04.
    first, second = controller.decide(stats(1, 0.48)), controller.decide(stats(2, 0.60))
    alpha_1, alpha_2 = -0.1 - 0.01 * 0.1, 0.04 + 0.01 * (0.04 - 0.1)
    assert first.metrics["alpha"] == pytest.approx(alpha_1)
    assert first.advantages.tolist() == pytest.approx([2 * (1 + alpha_1), -(1 - alpha_1), 0.0])
    assert second.metrics["alpha"] == pytest.approx(alpha_2)
    assert second.advantages.tolist() == pytest.approx([2 * (1 + alpha_2), -(1 - alpha_2), 0.0])
    assert first.keep.all() and first.loss_scale() == 1.0


@pytest.mark.parametrize(("entropy", "advantages"), [(9.0, [4.0, 0.0, 0.0]), (0.0, [0.0, -2.0, 0.0])])
def test_entropic_leaves_out_one_side_at_most(entropy, advantages):
    controller = controllers.build("entropic", FALLING, proportional_gain=50.0)
    assert controller.decide(stats(1, entropy)).advantages.tolist() == advantages


def test_entropic_goes_on_where_it_was():
    controller = controllers.build("entropic", FALLING)
    for step in (1, 2, 3):
        controller.decide(stats(step, 0.5))
    resumed = controllers.build("entropic", FALLING)
    resumed.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert resumed.decide(stats(4, 0.5)).metrics == controller.decide(stats(4, 0.5)).metrics


def test_entropic_is_a_method_of_every_engine():
    control = EntropyControl(method="entropic", schedule="linear(0.6, 0.4)")
    assert isinstance(control.build().method, Entropic)
    with pytest.raises(InvalidValueError, match="proportional_gain"):
        controllers.build("entropic", FALLING, proportional_gain=float("nan"))


def released(entropies, log_probs, advantages, **options):
    """Each decision's balance, and the factor it gives each token."""
    method = EntropicReleased(**options)
    columns = {"log_probs_BT": log_probs, "entropy_BT": -log_probs, "mask_BT": torch.ones_like(log_probs)}
    tokens = ec.Tokens(**columns, advantages_BT=advantages)
    for entropy in entropies:
        reading = method.read(tokens, lambda values: values)
        batch = ec.Batch(step=1, entropy=entropy, advantages=advantages[:, 0], reading=reading)
        decision = method.decide(batch, ec.Goal(lower=0.4, target=0.5, upper=0.6))
        yield decision.metrics["alpha"], method.weigh(tokens, decision)


def test_the_released_form_weighs_confident_tokens_alone_by_their_share():
    log_probs = torch.tensor([[0.99, 0.96, 0.95, 0.1], [0.97, 0.5, 0.5, 0.5]]).log()
    advantages = torch.tensor([[2.0], [-1.0]])
    ((alpha, factors),) = released([0.3], log_probs, advantages)
    assert alpha == pytest.approx(-0.2)  # the newest error is not in the integral yet
    # 8 tokens of which 3 are above 0.95: A + alpha |A| 8/3 there.
    weight = -0.2 * 8 / 3
    expected = torch.tensor([[1 + weight, 1 + weight, 1, 1], [1 - weight, 1, 1, 1]])
    torch.testing.assert_close(factors, expected)
    torch.testing.assert_close(advantages * factors, advantages + alpha * advantages.abs() * (factors != 1) * 8 / 3)


def test_the_released_form_adds_an_error_after_it_has_been_used():
    log_probs, advantages = torch.zeros(1, 2), torch.ones(1, 1)
    (first, _), (second, _) = released([0.3, 0.4], log_probs, advantages)
    assert first == pytest.approx(-0.2) and second == pytest.approx(-0.1 + 0.01 * -0.2)


def test_the_released_form_without_a_confident_token_leaves_all_alone():
    ((_, factors),) = released([0.3], torch.full((1, 3), -1.0), torch.ones(1, 1))
    assert (factors == 1).all()


def test_the_port_weighs_rewards_without_a_limit_and_adds_an_error_after_it_has_been_used():
    method, alphas, last = EntropicPort(), [], 0.0
    rewards = torch.tensor([1.0, -1.0, 0.0, torch.nan])
    for entropy in (0.3, 3.0, 0.4):
        batch = ec.Batch(step=1, entropy=entropy, advantages=torch.zeros(4), rewards=rewards)
        decision = method.decide(batch, ec.Goal(lower=0.4, target=0.5, upper=0.6))
        alphas.append(decision.metrics["alpha"])
        # The reference keeps `last`, which takes in a hundredth of each error after its use.
        expected = last + (entropy - 0.5)
        last = expected - 0.99 * (entropy - 0.5)
        assert alphas[-1] == pytest.approx(expected)
        balance = [1 + expected, -(1 - expected), -(1 - expected), 0.0]
        assert decision.advantages.tolist() == pytest.approx(balance)
    assert alphas[1] > 2 and decision.keep.all() and decision.normalize == "all"
