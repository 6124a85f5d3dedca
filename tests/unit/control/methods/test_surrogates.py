"""Methods that look at each mini-batch: their gradients are those of the losses that were published."""

import pytest
import torch
from support import published

from entrocraft import Batch, Goal
from entrocraft.control.batch import Tokens
from entrocraft.control.capabilities import Capabilities
from entrocraft.control.decision import TURNABLE
from entrocraft.control.methods import METHODS, Method, build_method
from entrocraft.control.methods.bapo import Bapo
from entrocraft.control.methods.ce_gppo import CeGppo
from entrocraft.control.methods.kl_cov import KlCov
from entrocraft.control.methods.siren import Siren
from entrocraft.control.signals import SIGNALS
from entrocraft.control.surrogate import MiniBatch
from entrocraft.errors import InvalidValueError

GOAL = Goal(lower=0.4, target=0.5, upper=0.6)
B, T = 6, 40


def alone(sums):
    return sums


def drawn(seed, moved=0.6):
    """A mini-batch after some updates: ratios from far below to far above 1, some advantages 0, a ragged mask."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(B, T, generator=generator, dtype=torch.float64) * 3
    log_probs = old + moved * torch.randn(B, T, generator=generator, dtype=torch.float64)
    advantages = torch.randn(B, 1, generator=generator, dtype=torch.float64).expand(B, T).clone()
    advantages[0] = 0.0
    mask = (torch.arange(T) < torch.randint(5, T, (B, 1), generator=generator)).long()
    entropy = torch.rand(B, T, generator=generator, dtype=torch.float64) * 2
    return {
        "log_probs_BT": log_probs,
        "old_log_probs_BT": old,
        "entropy_BT": entropy,
        "advantages_BT": advantages,
        "mask_BT": mask,
    }


def decided(method, **fields):
    return method.decide(Batch(step=1, entropy=0.5, advantages=torch.ones(2), **fields), GOAL)


def gradients(method, columns, loss_of):
    """The gradients by the log-probabilities: of `-ratio * A'`, and of the loss that was published."""
    seen = MiniBatch(**columns)
    asked = method.surrogate(seen, decided(method), alone)
    log_probs = columns["log_probs_BT"].clone().requires_grad_()
    ratio, mask = (log_probs - columns["old_log_probs_BT"]).exp(), columns["mask_BT"]
    (ours,) = torch.autograd.grad((-ratio * asked.advantages_BT * mask).sum(), log_probs)
    (theirs,) = torch.autograd.grad((loss_of(log_probs, columns) * mask).sum(), log_probs)
    return ours, theirs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [1e-4, 0.05, 1.0])
def test_kl_cov_has_the_gradient_of_the_penalised_loss(seed, share):
    def loss_of(log_probs, c):
        return published.kl_cov(log_probs, c["old_log_probs_BT"], c["advantages_BT"], c["mask_BT"], share, 0.7)

    torch.testing.assert_close(*gradients(KlCov(share=share, beta=0.7), drawn(seed), loss_of))


@pytest.mark.parametrize("seed", range(5))
def test_ce_gppo_has_the_gradient_of_the_loss_that_keeps_clipped_tokens(seed):
    def loss_of(log_probs, c):
        return published.ce_gppo(log_probs, c["old_log_probs_BT"], c["advantages_BT"], 0.5, 0.9)

    ours, theirs = gradients(CeGppo(beta_low=0.5, beta_high=0.9), drawn(seed, moved=1.0), loss_of)
    torch.testing.assert_close(ours, theirs)


def test_ce_gppo_with_factors_of_zero_is_clipping():
    def loss_of(log_probs, c):
        return published.clipped(log_probs, c["old_log_probs_BT"], c["advantages_BT"], dual=3.0)

    torch.testing.assert_close(*gradients(CeGppo(beta_low=0.0, beta_high=0.0), drawn(0, moved=1.0), loss_of))


@pytest.mark.parametrize("balance", [0.0, 0.5, 0.9, 1.0, 1.1, 100.0])
@pytest.mark.parametrize("seed", range(5))
def test_bapo_clips_to_the_range_that_a_search_finds(seed, balance):
    columns = drawn(seed)
    own = [columns[name] for name in ("old_log_probs_BT", "advantages_BT", "mask_BT")]
    low, high = published.bapo_range(columns["log_probs_BT"], *own, balance)

    def loss_of(log_probs, c):
        return published.clipped(log_probs, c["old_log_probs_BT"], c["advantages_BT"], low, high, dual=3.0)

    torch.testing.assert_close(*gradients(Bapo(balance=balance), columns, loss_of))


def test_bapo_by_hand():
    # Ratios of 1.5, rewarded, and 0.85, punished: 1.2 / 0.85 = 1.41, 1.2 / 0.95 = 1.26; 1.4 / 0.95 = 1.47; 1.58.
    ratio, advantages = torch.tensor([[1.5, 0.85]]), torch.tensor([[1.0, -1.0]])
    ones = torch.ones(1, 2)
    seen = MiniBatch(
        log_probs_BT=ratio.log(), old_log_probs_BT=0 * ones, entropy_BT=ones, advantages_BT=advantages, mask_BT=ones
    )
    expected = {1.41: [0.0, -1.0], 1.42: [0.0, 0.0], 1.6: [1.0, 0.0]}
    for balance, kept in expected.items():
        asked = Bapo(balance=balance).surrogate(seen, decided(Bapo()), alone)
        assert asked.advantages_BT.tolist() == [kept], balance


def test_bapo_adds_up_over_ranks():
    columns = drawn(1)
    parts = [MiniBatch(**{name: value[rows] for name, value in columns.items()}) for rows in (slice(0, 3), slice(3, 6))]
    method, sums = Bapo(balance=0.9), []
    for part in parts:
        method.surrogate(part, decided(method), lambda own: sums.append(own) or own)
    together = [method.surrogate(part, decided(method), lambda own: sums[0] + sums[1]).advantages_BT for part in parts]
    whole = method.surrogate(MiniBatch(**columns), decided(method), alone).advantages_BT
    assert torch.equal(torch.cat(together), whole)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_siren_has_the_gradient_of_the_squared_distance(seed, share):
    columns = drawn(seed)
    method, mask = Siren(coef=0.3, share=share), columns["mask_BT"]
    tokens = {name: value for name, value in columns.items() if name != "old_log_probs_BT"}
    decision = decided(method, reading=method.read(Tokens(**tokens), alone))
    # The target is where entropy is, and so the anchor where the peaks are; then the policy moves on.
    assert decision.note == pytest.approx(published.siren_peak(columns["entropy_BT"], mask, share).item())
    entropy = (columns["entropy_BT"] * torch.linspace(0.7, 1.0, T)).requires_grad_()
    seen = MiniBatch(**columns | {"entropy_BT": entropy.detach()})
    asked = method.surrogate(seen, decision, alone)
    (ours,) = torch.autograd.grad(-(asked.entropy_coef_BT * entropy * mask).sum() / mask.sum(), entropy)
    term = 0.3 * (published.siren_peak(entropy, mask, share) - decision.note) ** 2
    (theirs,) = torch.autograd.grad(term, entropy)
    torch.testing.assert_close(ours, theirs)
    assert asked.advantages_BT is None


def test_sirens_anchor_moves_with_the_curve_and_goes_on_after_a_resume():
    method, resumed = Siren(), Siren()
    first = Batch(step=1, entropy=1.0, advantages=torch.ones(2), reading=[6.0, 2.0])  # peaks at 3 nats
    assert method.decide(first, GOAL).note == pytest.approx(1.5)
    resumed.load_state_dict(method.state_dict())
    later = Batch(step=2, entropy=0.7, advantages=torch.ones(2), reading=[2.0, 2.0])
    for one in (method, resumed):
        assert one.decide(later, Goal(lower=0.1, target=0.2, upper=0.3)).note == pytest.approx(0.6)


def test_siren_without_a_peak_asks_for_nothing():
    flat = drawn(0) | {"entropy_BT": torch.ones(B, T)}
    method = Siren()
    assert method.surrogate(MiniBatch(**flat), decided(method, reading=[0.0, 0.0]), alone) is None


SURROGATES = sorted(name for name, method in METHODS.items() if "surrogate" in method.turns)


@pytest.mark.parametrize("name", SURROGATES)
def test_mini_batches_with_little_in_them_are_answered(name):
    for change in ({"mask_BT": torch.zeros(B, T).long()}, {"advantages_BT": torch.zeros(B, T)}):
        method = METHODS[name]()
        asked = method.surrogate(MiniBatch(**drawn(0) | change), decided(method, reading=[0.0, 0.0]), alone)
        for part in (asked and asked.advantages_BT, asked and asked.entropy_coef_BT):
            assert part is None or (
                part.shape == (B, T) and part[change.get("mask_BT", torch.ones(B, T)) > 0].isfinite().all()
            )


@pytest.mark.parametrize("name", [name for name in SURROGATES if METHODS[name].acts_on_ratio])
def test_where_the_ratio_is_one_they_are_plain_grpo(name):
    columns = drawn(0, moved=0.0)
    method = METHODS[name]()
    asked = method.surrogate(MiniBatch(**columns), decided(method), alone)
    counted = columns["mask_BT"].bool()
    assert torch.equal(asked.advantages_BT[counted], columns["advantages_BT"][counted])


def test_a_surrogate_that_is_not_declared_is_refused():
    class Silent(Method):
        def decide(self, batch, goal):
            return None

        def surrogate(self, seen, decision, total):
            return None

    with pytest.raises(InvalidValueError, match="has a surrogate, .* add 'surrogate' to `turns`"):
        build_method(Silent, {})


@pytest.mark.parametrize("name", SURROGATES)
def test_engines_that_do_not_carry_it_refuse_it(name):
    engine = Capabilities(
        engine="the test's engine",
        carries=TURNABLE - {"surrogate"},
        offers=frozenset(SIGNALS),
        why_not={"surrogate": "its loss is elsewhere"},
    )
    with pytest.raises(InvalidValueError, match=f"'{name}' sets surrogate, which the test's engine cannot: its loss"):
        engine.check(METHODS[name](), name)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (KlCov, {"share": 0.0}),
        (KlCov, {"share": 1.5}),
        (KlCov, {"beta": -1.0}),
        (CeGppo, {"clip_low": 1.5}),
        (CeGppo, {"dual_clip": 1.0}),
        (Bapo, {"low_most": 0.7}),
        (Bapo, {"high_start": 0.9}),
        (Bapo, {"low_step": 0.0}),
        (Siren, {"share": 1.0}),
        (Siren, {"coef": -1.0}),
    ],
)
def test_numbers_out_of_range_are_refused(method, options):
    with pytest.raises(InvalidValueError):
        method(**options)
