"""From a batch of rollouts to what the update may use, without an engine."""

import math

import pytest
import torch

from entrocraft import Band
from entrocraft.control import EntropyControl
from entrocraft.controllers import Controller, Decision
from entrocraft.engines.decider import Decider, Rollouts
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.tokens import Scores
from entrocraft.errors import MeasurementError

MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1]])
GROUPS = torch.tensor([0, 0, 1, 1])


def scores():
    p = torch.tensor([[0.9, 0.2, 0.0], [0.5, 0.5, 0.1], [0.3, 0.0, 0.0], [0.8, 0.05, 0.6]])
    return Scores(p.clamp(min=1e-9).log(), torch.full_like(p, 0.6))


def rollouts(advantages):
    return Rollouts(scores=scores(), advantages=advantages, mask_BT=MASK)


def decider(controller=None, *, by_rollout=False, **control):
    control = EntropyControl(**control)
    return Decider(controller or control.build(), control, OneRank(), by_rollout=by_rollout)


def ruled(decider, advantages, step=1, **more):
    return decider.decide(rollouts(advantages), step=step, total_steps=10, groups=GROUPS, **more)


class KeepTokens(Controller):
    """Keeps the tokens within limits."""

    predictor_needed = True

    def __init__(self, limits, normalize):
        super().__init__(Band(lower=0.0, upper=9.0))
        self.limits, self.normalize = limits, normalize

    def _decide(self, stats, direction):
        everything = torch.ones_like(stats.advantages, dtype=torch.bool)
        return Decision(
            keep=everything, advantages=stats.advantages, token_limits=self.limits, normalize=self.normalize
        )


def test_a_rollouts_advantage_is_the_mean_over_its_counted_tokens():
    by_token = torch.tensor([[1.0, 3.0, 99.0], [1.0, 2.0, 3.0], [5.0, 9.0, 9.0], [0.0, 0.0, 0.0]])
    assert rollouts(by_token).advantages_B.tolist() == [2.0, 2.0, 5.0, 0.0]
    assert rollouts(by_token[:, 0]).advantages_B.tolist() == [1.0, 1.0, 5.0, 0.0]


def test_in_band_nothing_is_changed():
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    ruling = ruled(decider(lower=0.0, upper=9.0, rule="advantage"), advantages)
    assert ruling.changes_nothing and ruling.keep_B.all()
    assert ruling.advantages is not None and torch.equal(ruling.advantages, advantages)
    assert ruling.decision.metrics["entropy"] == pytest.approx(0.6)
    assert ruling.decision.metrics["num_tokens"] == 9


@pytest.mark.parametrize("by_token", [False, True])
def test_rejected_rollouts_have_no_advantage(by_token):
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    own = advantages[:, None] * MASK if by_token else advantages
    ruling = ruled(decider(lower=0.0, upper=0.1, rule="advantage"), own)  # too high: keep what lowers it
    assert ruling.keep_B.tolist() == [True, False, True, False]
    kept = ruling.advantages[:, 0] if by_token else ruling.advantages
    assert kept.tolist() == [1.0, 0.0, 2.0, 0.0]
    assert ruling.loss_scale(by_tokens=False) == 2.0  # 4 rollouts over 2
    assert ruling.loss_scale(by_tokens=True) == 3.0  # 9 tokens over 3


def test_a_weaker_step_weakens_what_each_token_has():
    """A fallback may take all rollouts at a tenth of their advantages; a critic's differ from token to token."""

    class Weaker(KeepTokens):
        def _decide(self, stats, direction):
            everything = torch.ones_like(stats.advantages, dtype=torch.bool)
            return Decision(keep=everything, advantages=0.1 * stats.advantages)

    own = torch.tensor([[1.0, 3.0, 0.0], [1.0, -2.0, 3.0], [5.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    ruling = ruled(decider(Weaker((0.0, 1.0), "all")), own)
    torch.testing.assert_close(ruling.advantages, 0.1 * own)
    assert not ruling.changes_nothing


@pytest.mark.parametrize("by_rollout", [False, True])
def test_predictions_weigh_rollouts_as_the_loss_does(by_rollout):
    """One more token of the same kind makes a rollout count for more, unless the loss averages over its tokens."""
    seen = {}

    class Asking(KeepTokens):
        def _decide(self, stats, direction):
            seen["change"] = stats.prediction("predicted_change")
            return super()._decide(stats, direction)

    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    rise = torch.full((4, 3), 0.5)
    ruled(decider(Asking((-math.inf, math.inf), "all"), by_rollout=by_rollout), advantages, rise=lambda entropy: rise)
    counts = torch.tensor([1.0, 1.0, 1.0, 1.0] if by_rollout else [2.0, 3.0, 1.0, 3.0])
    torch.testing.assert_close(seen["change"], (advantages * 0.5 * counts).double())


@pytest.mark.parametrize(("normalize", "factor"), [("all", 1.0), ("kept", 9 / 3)])
def test_tokens_left_out_have_no_advantage_and_the_others_make_up_for_them(normalize, factor):
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    rise = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    ruling = ruled(decider(KeepTokens((0.0, math.inf), normalize)), advantages, rise=lambda entropy: rise)
    kept = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    torch.testing.assert_close(ruling.advantages, factor * advantages[:, None] * kept)
    assert ruling.keep_B.tolist() == [True, False, True, True]
    assert ruling.decision.metrics["kept_token_fraction"] == pytest.approx(3 / 9)
    assert ruling.loss_scale(by_tokens=True) == 1.0  # it is in the advantages


def test_what_each_rank_says_ends_in_the_metrics_once():
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    metrics = ruled(decider(lower=0.0, upper=0.1, rule="advantage"), advantages).decision.metrics
    assert sum(value for name, value in metrics.items() if name.startswith("quadrants/")) != 0
    assert all(math.isfinite(value) for value in metrics.values())


def test_an_entropy_that_is_not_a_number_names_the_step():
    broken = Rollouts(
        scores=Scores(torch.zeros(4, 3), torch.full((4, 3), math.nan)), advantages=torch.ones(4), mask_BT=MASK
    )
    with pytest.raises(MeasurementError, match="step 7"):
        decider(lower=0.0, upper=1.0).decide(broken, step=7, total_steps=10, groups=GROUPS)


def test_a_file_steers_it(tmp_path):
    path = tmp_path / "steering.yaml"
    steered = decider(schedule=0.6, width=0.1, rule="advantage", steering=str(path))
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    assert ruled(steered, advantages).changes_nothing
    path.write_text("constant(0.1)")
    ruling = ruled(steered, advantages, step=2)
    assert not ruling.changes_nothing and ruling.decision.metrics["target"] == pytest.approx(0.1)
    assert ruling.decision.metrics["steering_accepted"] == 1.0


class Reweigh(Controller):
    """Gives rollouts other advantages."""

    def __init__(self, advantages):
        super().__init__(Band(lower=0.0, upper=9.0))
        self.advantages = torch.tensor(advantages)

    def _decide(self, stats, direction):
        return Decision(keep=torch.tensor([True, True, True, False]), advantages=self.advantages)


def test_what_tokens_are_worth_follows_what_their_rollout_is():
    """Each rollout's mean becomes what was decided; what its tokens say of each other is left."""
    own = torch.tensor([[1.0, 3.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    ruling = ruled(decider(Reweigh([1.0, -4.0, 0.5, 0.0])), own)
    assert ruling.advantages.tolist() == [[0.5, 1.5, 0.0], [-2.0, -4.0, -6.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_what_is_masked_may_be_anything():
    poisoned = scores()
    poisoned.log_probs_BT[0, 2] = poisoned.entropy_BT[0, 2] = math.nan
    sensitivity = torch.full((4, 3), 0.1)
    sensitivity[0, 2] = math.nan
    exact = Scores(poisoned.log_probs_BT, poisoned.entropy_BT, sensitivity)
    ruling = decider(schedule=0.3, rule="predicted").decide(
        Rollouts(scores=exact, advantages=torch.tensor([1.0, -1.0, 1.0, -1.0]), mask_BT=MASK),
        step=1,
        total_steps=10,
        groups=GROUPS,
    )
    assert ruling.keep_B.tolist() == [True, False, True, False]  # above the band


def test_advantages_that_rounding_left_are_none():
    # Three rewards of 0.1 have a rounded mean, from which TRL and verl make advantages like these.
    left_over = torch.tensor([-7e-5, -7e-5, 1.0, -1.0])
    ruling = ruled(
        decider(schedule=0.3, rule="advantage"), left_over, rewards=torch.tensor([0.1, 0.1, 1.0, 0.0]).double()
    )
    assert ruling.keep_B.tolist() == [True, True, True, False]
    assert ruling.advantages.tolist() == [0.0, 0.0, 1.0, 0.0]
    assert ruled(
        decider(schedule=0.6, rule="advantage"), left_over, rewards=torch.tensor([0.1, 0.1, 1.0, 0.0])
    ).changes_nothing


def test_large_advantages_of_equal_rewards_stay():
    # Not all estimators compare within a prompt: RLOO with a KL term in the reward does not.
    ruling = ruled(
        decider(schedule=0.3, rule="advantage"), torch.tensor([0.5, -0.5, 1.0, -1.0]), rewards=torch.ones(4).double()
    )
    assert ruling.advantages.tolist() == [0.5, 0.0, 1.0, 0.0]


def test_if_what_is_kept_has_no_advantage_nothing_is_left_of_the_update():
    controlled = decider(schedule=0.9, rule="advantage")
    with pytest.warns(UserWarning, match="nothing is learnt"):
        ruling = ruled(controlled, torch.tensor([1.0, 2.0, 0.0, 0.0]))
    assert ruling.decision.metrics["empty_batches"] == 1 and ruling.decision.metrics["kept_fraction"] == 0
    assert not ruling.keep_B.any()


def test_what_is_kept_without_an_advantage_stays_where_the_loss_has_other_terms():
    control = EntropyControl(schedule=0.9, rule="advantage")
    with_kl = Decider(control.build(), control, OneRank(), by_rollout=False, other_terms=True)
    with pytest.warns(UserWarning, match="nothing is learnt"):
        assert ruled(with_kl, torch.tensor([1.0, 2.0, 0.0, 0.0])).keep_B.tolist() == [False, False, True, True]


def test_a_batch_without_any_advantage_is_the_trainers_own():
    assert ruled(decider(schedule=0.9, rule="advantage"), torch.zeros(4)).changes_nothing
