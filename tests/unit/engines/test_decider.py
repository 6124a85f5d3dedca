"""From a batch of rollouts to what the update may use, without an engine."""

import math

import pytest
import torch
from support.decisions import controlled_by

from entrocraft import Decision, Method
from entrocraft.control import EntropyControl
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.errors import InvalidValueError, MeasurementError

MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1]])
GROUPS = torch.tensor([0, 0, 1, 1])


def stats():
    p = torch.tensor([[0.9, 0.2, 0.0], [0.5, 0.5, 0.1], [0.3, 0.0, 0.0], [0.8, 0.05, 0.6]])
    return TokenStats(p.clamp(min=1e-9).log(), torch.full_like(p, 0.6))


def rollouts(advantages):
    return Rollouts(stats=stats(), advantages=advantages, mask_BT=MASK)


def decider(method=None, *, by_rollout=False, **control):
    control = EntropyControl(**control)
    controller = control.build() if method is None else controlled_by(method)
    return Decider(controller, control, OneRank(), by_rollout=by_rollout)


def ruled(decider, advantages, step=1, **more):
    return decider.decide(rollouts(advantages), step=step, total_steps=10, groups=GROUPS, **more)


class KeepTokens(Method):
    """Keeps the tokens whose predicted change lies within limits."""

    needs, turns = frozenset({"change"}), frozenset({"tokens"})

    def __init__(self, limits, normalize):
        self.limits, self.normalize = limits, normalize

    def decide(self, batch, goal):
        return Decision.everything(batch, normalize=self.normalize)

    def weigh(self, tokens, decision):
        low, high = self.limits
        return ((tokens.change_BT >= low) & (tokens.change_BT <= high)).float()


def test_a_rollouts_advantage_is_the_mean_over_its_counted_tokens():
    by_token = torch.tensor([[1.0, 3.0, 99.0], [1.0, 2.0, 3.0], [5.0, 9.0, 9.0], [0.0, 0.0, 0.0]])
    assert rollouts(by_token).advantages_B.tolist() == [2.0, 2.0, 5.0, 0.0]
    assert rollouts(by_token[:, 0]).advantages_B.tolist() == [1.0, 1.0, 5.0, 0.0]


def test_in_band_nothing_is_changed():
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    update = ruled(decider(lower=0.0, upper=9.0, rule="advantage"), advantages)
    assert update.changes_nothing and update.keep_B.all()
    assert update.advantages is not None and torch.equal(update.advantages, advantages)
    assert update.decision.metrics["entropy"] == pytest.approx(0.6)
    assert update.decision.metrics["num_tokens"] == 9
    assert torch.equal(update.kept_BT, MASK) and update.change_BT is None


@pytest.mark.parametrize("by_token", [False, True])
def test_rejected_rollouts_have_no_advantage(by_token):
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    own = advantages[:, None] * MASK if by_token else advantages
    update = ruled(decider(lower=0.0, upper=0.1, rule="advantage"), own)  # too high: keep what lowers it
    assert update.keep_B.tolist() == [True, False, True, False]
    kept = update.advantages[:, 0] if by_token else update.advantages
    assert kept.tolist() == [1.0, 0.0, 2.0, 0.0]
    assert update.loss_scale(by_tokens=False) == 2.0  # 4 rollouts over 2
    assert update.loss_scale(by_tokens=True) == 3.0  # 9 tokens over 3


def test_a_weaker_step_weakens_what_each_token_has():
    """A fallback may take all rollouts at a tenth of their advantages; a critic's differ from token to token."""

    class Weaker(Method):
        def decide(self, batch, goal):
            return Decision.everything(batch, advantages=0.1 * batch.advantages)

    own = torch.tensor([[1.0, 3.0, 0.0], [1.0, -2.0, 3.0], [5.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    update = ruled(decider(Weaker()), own)
    torch.testing.assert_close(update.advantages, 0.1 * own)
    assert not update.changes_nothing


@pytest.mark.parametrize("by_rollout", [False, True])
def test_predictions_weigh_rollouts_as_the_loss_does(by_rollout):
    """One more token of the same kind makes a rollout count for more, unless the loss averages over its tokens."""
    seen = {}

    class Asking(KeepTokens):
        def decide(self, batch, goal):
            seen["change"] = batch.change
            return super().decide(batch, goal)

    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    rise = torch.full((4, 3), 0.5)
    ruled(decider(Asking((-math.inf, math.inf), "all"), by_rollout=by_rollout), advantages, rise=lambda entropy: rise)
    counts = torch.tensor([1.0, 1.0, 1.0, 1.0] if by_rollout else [2.0, 3.0, 1.0, 3.0])
    torch.testing.assert_close(seen["change"], (advantages * 0.5 * counts).double())


@pytest.mark.parametrize(("normalize", "factor"), [("all", 1.0), ("kept", 9 / 3)])
def test_tokens_left_out_have_no_advantage_and_the_others_make_up_for_them(normalize, factor):
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    rise = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    update = ruled(decider(KeepTokens((0.0, math.inf), normalize)), advantages, rise=lambda entropy: rise)
    kept = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    torch.testing.assert_close(update.advantages, factor * advantages[:, None] * kept)
    assert update.keep_B.tolist() == [True, False, True, True]
    assert update.decision.metrics["kept_token_fraction"] == pytest.approx(3 / 9)
    assert update.loss_scale(by_tokens=True) == 1.0  # it is in the advantages
    assert update.kept_BT.tolist() == kept.tolist()
    torch.testing.assert_close(update.change_BT, advantages[:, None] * rise * MASK)


def test_what_each_rank_says_ends_in_the_metrics_once():
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    metrics = ruled(decider(lower=0.0, upper=0.1, rule="advantage"), advantages).decision.metrics
    assert sum(value for name, value in metrics.items() if name.startswith("quadrants/")) != 0
    assert all(math.isfinite(value) for value in metrics.values())


def test_an_entropy_that_is_not_a_number_names_the_step():
    broken = Rollouts(
        stats=TokenStats(torch.zeros(4, 3), torch.full((4, 3), math.nan)), advantages=torch.ones(4), mask_BT=MASK
    )
    with pytest.raises(MeasurementError, match="step 7"):
        decider(lower=0.0, upper=1.0).decide(broken, step=7, total_steps=10, groups=GROUPS)


def test_a_file_steers_it(tmp_path):
    path = tmp_path / "steering.yaml"
    steered = decider(schedule=0.6, width=0.1, rule="advantage", steering=str(path))
    advantages = torch.tensor([1.0, -1.0, 2.0, -2.0])
    assert ruled(steered, advantages).changes_nothing
    path.write_text("constant(0.1)")
    update = ruled(steered, advantages, step=2)
    assert not update.changes_nothing and update.decision.metrics["target"] == pytest.approx(0.1)
    assert update.decision.metrics["steering_accepted"] == 1.0


class Reweigh(Method):
    """Gives rollouts other advantages."""

    turns = frozenset({"rollouts", "advantages"})

    def __init__(self, advantages):
        self.advantages = torch.tensor(advantages)

    def decide(self, batch, goal):
        return Decision(keep=torch.tensor([True, True, True, False]), advantages=self.advantages)


def test_what_tokens_are_worth_follows_what_their_rollout_is():
    """Each rollout's mean becomes what was decided; what its tokens say of each other is left."""
    own = torch.tensor([[1.0, 3.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    update = ruled(decider(Reweigh([1.0, -4.0, 0.5, 0.0])), own)
    assert update.advantages.tolist() == [[0.5, 1.5, 0.0], [-2.0, -4.0, -6.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_what_is_masked_may_be_anything():
    poisoned = stats()
    poisoned.log_probs_BT[0, 2] = poisoned.entropy_BT[0, 2] = math.nan
    sensitivity = torch.full((4, 3), 0.1)
    sensitivity[0, 2] = math.nan
    exact = TokenStats(poisoned.log_probs_BT, poisoned.entropy_BT, sensitivity)
    update = decider(schedule=0.3, rule="predicted").decide(
        Rollouts(stats=exact, advantages=torch.tensor([1.0, -1.0, 1.0, -1.0]), mask_BT=MASK),
        step=1,
        total_steps=10,
        groups=GROUPS,
    )
    assert update.keep_B.tolist() == [True, False, True, False]  # above the band


def test_advantages_that_rounding_left_are_none():
    # Three rewards of 0.1 have a rounded mean, from which TRL and verl make advantages like these.
    left_over = torch.tensor([-7e-5, -7e-5, 1.0, -1.0])
    update = ruled(
        decider(schedule=0.3, rule="advantage"), left_over, rewards=torch.tensor([0.1, 0.1, 1.0, 0.0]).double()
    )
    assert update.keep_B.tolist() == [True, True, True, False]
    assert update.advantages.tolist() == [0.0, 0.0, 1.0, 0.0]
    # In the band, too: the trainer's own step would learn from rounding, by the whole learning rate under Adam.
    inside = ruled(decider(schedule=0.6, rule="advantage"), left_over, rewards=torch.tensor([0.1, 0.1, 1.0, 0.0]))
    assert not inside.changes_nothing and inside.keep_B.all()
    assert inside.advantages.tolist() == [0.0, 0.0, 1.0, -1.0]


def test_large_advantages_of_equal_rewards_stay():
    # Not all estimators compare within a prompt: RLOO with a KL term in the reward does not.
    update = ruled(
        decider(schedule=0.3, rule="advantage"), torch.tensor([0.5, -0.5, 1.0, -1.0]), rewards=torch.ones(4).double()
    )
    assert update.advantages.tolist() == [0.5, 0.0, 1.0, 0.0]


def test_if_what_is_kept_has_no_advantage_nothing_is_left_of_the_update():
    controlled = decider(schedule=0.9, rule="advantage")
    with pytest.warns(UserWarning, match="nothing is learnt"):
        update = ruled(controlled, torch.tensor([1.0, 2.0, 0.0, 0.0]))
    assert update.decision.metrics["empty_batches"] == 1 and update.decision.metrics["kept_fraction"] == 0
    assert not update.keep_B.any()


def test_what_is_kept_without_an_advantage_stays_where_the_loss_has_other_terms():
    control = EntropyControl(schedule=0.9, rule="advantage")
    with_kl = Decider(control.build(), control, OneRank(), by_rollout=False, other_terms=True)
    with pytest.warns(UserWarning, match="nothing is learnt"):
        assert ruled(with_kl, torch.tensor([1.0, 2.0, 0.0, 0.0])).keep_B.tolist() == [False, False, True, True]


@pytest.mark.parametrize("method", ["advantage", "token", "none", "entropic"])
def test_a_batch_of_equal_rewards_is_no_update(method):
    left_over, equal = torch.tensor([-7e-5, -7e-5, 7e-5, 7e-5]), torch.full((4,), 0.1).double()
    update = ruled(decider(schedule=0.9, rule=method), left_over, rewards=equal)
    assert not update.keep_B.any() and not update.changes_nothing and not update.advantages.any()
    assert update.decision.metrics["kept_fraction"] == 0.0
    control = EntropyControl(schedule=0.9, method=method)
    with_kl = Decider(control.build(), control, OneRank(), by_rollout=False, other_terms=True)
    assert ruled(with_kl, left_over, rewards=equal).keep_B.all()


@pytest.mark.parametrize("method", ["token", "none"])
def test_a_batch_of_which_no_token_counts_is_passed_over_and_counted(method):
    controlled = decider(schedule=0.6, rule=method)
    nothing = Rollouts(stats=stats(), advantages=torch.tensor([1.0, -1.0, 2.0, -2.0]), mask_BT=torch.zeros_like(MASK))
    fields = {"total_steps": 10, "groups": GROUPS}
    with pytest.warns(UserWarning, match="step 1: the loss counts no token .* raise max_completion_length"):
        update = controlled.decide(nothing, step=1, **fields)
    assert not update.keep_B.any() and not update.changes_nothing and update.loss_scale(by_tokens=True) == 0.0
    assert math.isnan(update.decision.metrics["entropy"])
    again = controlled.decide(nothing, step=2, **fields)
    assert again.decision.metrics["uncounted_batches"] == 2
    # The curve has not begun: a relative one starts at the first entropy that can be measured.
    assert controlled.controller.course.initial_entropy is None
    assert ruled(controlled, torch.tensor([1.0, -1.0, 2.0, -2.0]), step=3).decision.metrics["uncounted_batches"] == 2
    resumed = decider(schedule=0.6, rule=method).controller
    resumed.load_state_dict(controlled.controller.state_dict())
    assert resumed.counts["uncounted"] == 2


class Told(Method):
    """Keeps everything, and remembers what it was told."""

    needs, turns = frozenset({"covariance", "surprisal"}), frozenset({"tokens"})

    def read(self, tokens, total):
        self.tokens = tokens
        return total(torch.tensor([1.0, 2.0]))

    def decide(self, batch, goal):
        self.batch = batch
        return Decision.everything(batch, normalize="all")

    def weigh(self, tokens, decision):
        return torch.full_like(tokens.log_probs_BT, 0.5)


def test_covariances_are_taken_about_the_means_of_the_counted_tokens():
    told, advantages = Told(), torch.tensor([1.0, -1.0, 2.0, -2.0])
    updated = ruled(decider(told), advantages)
    log_probs, counted = stats().log_probs_BT, MASK.bool()
    each = advantages[:, None].expand_as(log_probs)
    expected = (log_probs - log_probs[counted].mean()) * (each - each[counted].mean())
    torch.testing.assert_close(told.tokens.covariance_BT[counted], expected[counted])
    assert (told.tokens.covariance_BT[~counted] == 0).all()
    assert torch.equal(told.tokens.surprisal_BT, -log_probs)
    assert told.batch.reading.tolist() == [1.0, 2.0] and told.batch.change is None  # which was not asked for
    # A weight that leaves nothing out weighs, and everything is still counted.
    torch.testing.assert_close(updated.advantages, 0.5 * advantages[:, None] * MASK)
    assert not updated.changes_nothing and updated.keep_B.all()
    assert updated.decision.metrics["kept_token_fraction"] == 1.0


def test_knobs_alone_leave_the_advantages_as_they_were():
    class Turning(Method):
        turns = frozenset({"entropy_coef"})

        def decide(self, batch, goal):
            return Decision.everything(batch, knobs={"entropy_coef": 0.01 if batch.step > 1 else 0.0})

    turning, advantages = decider(Turning()), torch.tensor([1.0, -1.0, 2.0, -2.0])
    assert ruled(turning, advantages, step=1).changes_nothing  # a coefficient of 0 turns nothing
    second = ruled(turning, advantages, step=2)
    assert not second.changes_nothing and torch.equal(second.advantages, advantages)
    assert second.decision.turned == {"entropy_coef": 0.01}


@pytest.mark.parametrize(
    ("undeclared", "message"),
    [
        ({"knobs": {"clip_high": 0.3}}, "decided on clip_high, and says that it turns tokens"),
        ({"keep": torch.tensor([True, True, True, False])}, "decided on rollouts"),
        ({"advantages": torch.tensor([1.0, 1.0, 1.0, 1.0]).double()}, "decided on advantages"),
    ],
)
def test_what_a_method_does_not_say_it_turns_is_refused_and_not_ignored(undeclared, message):
    class Silent(Told):
        def decide(self, batch, goal):
            return Decision.everything(batch, **undeclared)

    with pytest.raises(InvalidValueError, match=message):
        ruled(decider(Silent()), torch.tensor([1.0, -1.0, 2.0, -2.0]))


def test_token_weights_that_are_not_declared_are_refused():
    class Silent(Told):
        turns = frozenset()

    with pytest.raises(InvalidValueError, match="add 'tokens' to `turns`"):
        ruled(decider(Silent()), torch.tensor([1.0, -1.0, 2.0, -2.0]))


@pytest.mark.parametrize(("method", "kept"), [("none", False), ("siren", True)])
def test_a_batch_without_advantages_is_left_out_unless_a_surrogate_may_have_terms_of_its_own(method, kept):
    update = ruled(decider(lower=0.0, upper=9.0, rule=method), torch.zeros(4))
    assert update.keep_B.tolist() == [kept] * 4


def test_an_advantage_where_the_batch_has_none_is_refused():
    class Silent(Told):
        def decide(self, batch, goal):
            return Decision.everything(batch, advantages=torch.tensor([1.0, 0.5, 2.0, -2.0]).double())

    with pytest.raises(InvalidValueError, match="decided on advantages"):
        ruled(decider(Silent()), torch.tensor([1.0, 0.0, 2.0, -2.0]))
