"""The visitation term against exact enumeration and against real steps of tabular policies."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entrocraft import dynamics, entropy_sensitivity, token_log_probs
from entrocraft.errors import InvalidValueError

LENGTH, VOCABULARY, STEP = 3, 3, 1e-5


class Tabular:
    """A policy with free logits for every context, in float64; with `eos`, token 0 ends the sequence."""

    def __init__(self, seed, eos):
        generator = torch.Generator().manual_seed(seed)
        prefixes = [p for n in range(LENGTH) for p in itertools.product(range(VOCABULARY), repeat=n)]
        self.logits = {p: torch.randn(VOCABULARY, generator=generator, dtype=torch.float64) for p in prefixes}
        self.eos = eos

    def sequences(self, prefix=()):
        if len(prefix) == LENGTH or (self.eos and prefix and prefix[-1] == 0):
            return [prefix]
        return [y for v in range(VOCABULARY) for y in self.sequences((*prefix, v))]

    def rows(self, y):
        """The logits at each position of y."""
        return torch.stack([self.logits[y[:t]] for t in range(len(y))])

    def log_prob(self, y):
        return self.rows(y).log_softmax(-1)[range(len(y)), list(y)].sum()

    def entropies(self, y):
        log_probs = self.rows(y).log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def stepped(self, y, advantage, size, positions=None):
        """The policy after one policy-gradient step on rollout y, or some of its tokens; a mean over its tokens."""
        new = Tabular.__new__(Tabular)
        new.logits, new.eos = dict(self.logits), self.eos
        for t in range(len(y)) if positions is None else positions:
            direction = -self.logits[y[:t]].softmax(-1)
            direction[y[t]] += 1.0
            new.logits[y[:t]] = self.logits[y[:t]] + size * advantage / len(y) * direction
        return new


def derivative(f, policy, y, advantage, positions=None):
    sides = (f(policy.stepped(y, advantage, size, positions)) for size in (STEP, -STEP))
    return ((next(sides) - next(sides)) / (2 * STEP)).item()


def log_prob_of(y):
    return lambda policy: policy.log_prob(y)


def mean_entropy(policy, sequences):
    """H = E[h] / E[len], over every sequence there is."""
    weights = torch.stack([policy.log_prob(y) for y in sequences]).exp()
    assert weights.sum().item() == pytest.approx(1.0)
    sums = torch.stack([policy.entropies(y).sum() for y in sequences])
    lengths = torch.tensor([float(len(y)) for y in sequences])
    return (weights * sums).sum() / (weights * lengths).sum()


def kernel(policy, y):
    return dynamics.self_kernel(policy.rows(y)[None], torch.tensor([y]))[0]


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_entropy_of_a_policy_changes_by_the_local_and_the_visitation_part(seed, eos):
    """E[len] dH = sum_t P(visit) dh_t + E[(h - H len) dlog pi], enumerated, for a step on one rollout."""
    policy, advantage = Tabular(seed, eos), -1.5
    sequences = policy.sequences()
    y = sequences[(5 * seed + 3) % len(sequences)]
    actual = derivative(lambda p: mean_entropy(p, sequences), policy, y, advantage)

    probs = torch.stack([policy.log_prob(x) for x in sequences]).exp()
    mean_length = sum(p.item() * len(x) for p, x in zip(probs, sequences, strict=True))
    sensitivity_T = entropy_sensitivity(policy.rows(y)[None], torch.tensor([y]))[0]
    visits_T = [policy.log_prob(y[:t]).exp().item() if t else 1.0 for t in range(len(y))]
    local = sum(-advantage / len(y) * s.item() * v for s, v in zip(sensitivity_T, visits_T, strict=True))
    mean = mean_entropy(policy, sequences).item()
    visitation = sum(
        p.item() * (policy.entropies(x).sum().item() - mean * len(x)) * derivative(log_prob_of(x), policy, y, advantage)
        for p, x in zip(probs, sequences, strict=True)
    )
    assert actual * mean_length == pytest.approx(local + visitation, rel=1e-3, abs=1e-6)
    assert abs(visitation) > 1e-4  # there is something to see


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_is_how_much_a_step_raises_the_log_probability_of_its_own_rollout(seed):
    policy = Tabular(seed, eos=True)
    for y in policy.sequences()[::4]:
        actual = derivative(log_prob_of(y), policy, y, advantage=0.7)
        assert 0.7 * kernel(policy, y).mean().item() == pytest.approx(actual, rel=1e-3)


@pytest.mark.parametrize("eos", [False, True])
def test_the_two_parts_are_the_whole_change_of_a_batch_whose_rollouts_share_no_context(eos):
    """The entropy of the batch, importance-weighted to the stepped policy; one prompt, so one table, a rollout.

    For steps on whole rollouts, and for steps on each token alone.
    """
    policies = [Tabular(seed, eos) for seed in range(6)]
    rollouts = [p.sequences()[(7 * i) % len(p.sequences())] for i, p in enumerate(policies)]
    assert not eos or len({len(y) for y in rollouts}) > 1
    advantages_B = torch.tensor([1.0, -1.0, 2.0, -0.5, 1.5, -2.0])
    old = [p.log_prob(y) for p, y in zip(policies, rollouts, strict=True)]

    def batch_entropy(i, policy):
        of = [policy if j == i else other for j, other in enumerate(policies)]
        weights = torch.stack([p.log_prob(y) - o for p, y, o in zip(of, rollouts, old, strict=True)]).exp()
        sums = torch.stack([p.entropies(y).sum() for p, y in zip(of, rollouts, strict=True)])
        lengths = torch.tensor([float(len(y)) for y in rollouts])
        return (weights * sums).sum() / (weights * lengths).sum()

    actual_B = [
        derivative(lambda p, i=i: batch_entropy(i, p), policies[i], rollouts[i], advantages_B[i].item())
        for i in range(len(rollouts))
    ]

    padded = torch.zeros(len(rollouts), LENGTH)
    kernel_BT, entropy_BT, sensitivity_BT, mask_BT = (padded.clone() for _ in range(4))
    for i, (policy, y) in enumerate(zip(policies, rollouts, strict=True)):
        kernel_BT[i, : len(y)], mask_BT[i, : len(y)] = kernel(policy, y), 1.0
        entropy_BT[i, : len(y)] = policy.entropies(y)
        sensitivity_BT[i, : len(y)] = entropy_sensitivity(policy.rows(y)[None], torch.tensor([y]))[0]
    predicted_B = dynamics.rollout_entropy_change(sensitivity_BT, advantages_B, mask_BT)
    predicted_B += dynamics.visitation_entropy_change(kernel_BT, entropy_BT, advantages_B, mask_BT)
    common = mask_BT.sum()  # B * mean len
    assert (predicted_B / common).tolist() == pytest.approx(actual_B, rel=1e-3, abs=1e-6)

    rise_BT = dynamics.visitation_rise(kernel_BT, entropy_BT, mask_BT) - sensitivity_BT
    for i, t in mask_BT.nonzero().tolist():
        actual = derivative(
            lambda p, i=i: batch_entropy(i, p), policies[i], rollouts[i], advantages_B[i].item(), positions=[t]
        )
        predicted = advantages_B[i] * rise_BT[i, t] / len(rollouts[i]) / common
        assert predicted.item() == pytest.approx(actual, rel=1e-3, abs=1e-6)


def test_ranks_that_are_given_the_mean_of_all_agree_with_the_whole_batch():
    torch.manual_seed(0)
    kernel_BT, entropy_BT, advantages_B = torch.rand(6, 5), torch.rand(6, 5), torch.randn(6)
    mask_BT = torch.rand(6, 5) > 0.3
    whole_B = dynamics.visitation_entropy_change(kernel_BT, entropy_BT, advantages_B, mask_BT)
    mean = entropy_BT[mask_BT].mean().item()
    ranks = [
        dynamics.visitation_entropy_change(kernel_BT[r], entropy_BT[r], advantages_B[r], mask_BT[r], mean_entropy=mean)
        for r in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat(ranks), whole_B)


def test_a_hand_computed_change_in_which_masked_tokens_do_not_count():
    # H = (1 + 3 + 1) / 3 = 5/3; h - H len = 4 - 10/3 and 1 - 5/3; mean K = 0.5 and 1.
    kernel_BT, entropy_BT = torch.tensor([[0.4, 0.6], [1.0, torch.nan]]), torch.tensor([[1.0, 3.0], [1.0, torch.nan]])
    change_B = dynamics.visitation_entropy_change(
        kernel_BT, entropy_BT, torch.tensor([3.0, -1.0]), torch.tensor([[1, 1], [1, 0]])
    )
    torch.testing.assert_close(change_B, torch.tensor([1.0, 2 / 3]))
    rise_BT = dynamics.visitation_rise(kernel_BT, entropy_BT, torch.tensor([[1, 1], [1, 0]]))
    torch.testing.assert_close(rise_BT, torch.tensor([[0.4 * 2 / 3, 0.6 * 2 / 3], [-2 / 3, 0.0]]))


def test_what_a_rollouts_tokens_raise_adds_up_to_what_it_changes():
    torch.manual_seed(1)
    kernel_BT, entropy_BT, advantages_B = torch.rand(6, 5), torch.rand(6, 5), torch.randn(6)
    mask_BT = torch.rand(6, 5) > 0.3
    change_B = dynamics.visitation_entropy_change(kernel_BT, entropy_BT, advantages_B, mask_BT)
    rise_BT = dynamics.visitation_rise(kernel_BT, entropy_BT, mask_BT)
    torch.testing.assert_close(advantages_B * rise_BT.sum(-1), change_B * mask_BT.sum(-1))
    assert not rise_BT[~mask_BT].any()


def test_a_rollout_without_counted_tokens_and_a_batch_of_one_change_nothing():
    ones = torch.ones(2, 3)
    assert dynamics.visitation_entropy_change(ones, ones, torch.ones(2), 0 * ones).tolist() == [0.0, 0.0]
    entropy_BT = torch.tensor([[0.3, 2.0, 1.1]])
    change_B = dynamics.visitation_entropy_change(ones[:1], entropy_BT, torch.ones(1), ones[:1])
    assert change_B.abs().item() < 1e-6


def test_the_kernel_of_certain_impossible_and_uniform_tokens():
    inf = torch.inf
    logits = torch.tensor([[[0.0, -inf, -inf], [-inf, 0.0, -inf], [0.0, 0.0, 0.0], [0.0, 0.0, -inf]]])
    kernel_BT = dynamics.self_kernel(logits, torch.zeros(1, 4, dtype=torch.long))
    torch.testing.assert_close(kernel_BT, torch.tensor([[0.0, 2.0, 2 / 3, 1 / 2]]))


def test_the_kernel_is_one_less_twice_p_plus_the_collision_probability():
    logits_BTV, tokens_BT = torch.randn(3, 4, 7), torch.randint(7, (3, 4))
    p = logits_BTV.double().softmax(-1)
    expected = 1 - 2 * p.gather(-1, tokens_BT[..., None]).squeeze(-1) + p.square().sum(-1)
    torch.testing.assert_close(dynamics.self_kernel(logits_BTV, tokens_BT, chunk_size=5), expected.float())


def collision_of(logits_BTV):
    return logits_BTV.softmax(-1).square().sum(-1)


@given(st.integers(0, 10_000), st.floats(0.1, 8.0))
@settings(max_examples=40, deadline=None)
def test_the_kernel_from_the_sum_of_squares_is_the_kernel_from_the_logits(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits_BTV = scale * torch.randn(3, 4, 9, generator=generator)
    tokens_BT = torch.randint(9, (3, 4), generator=generator)
    kernel_BT = dynamics.self_kernel_from_collision(token_log_probs(logits_BTV, tokens_BT), collision_of(logits_BTV))
    torch.testing.assert_close(kernel_BT, dynamics.self_kernel(logits_BTV, tokens_BT), atol=1e-6, rtol=1e-5)


def test_the_kernel_from_the_sum_of_squares_of_certain_impossible_and_uniform_tokens():
    inf = torch.inf
    logits = torch.tensor([[[0.0, -inf, -inf], [-inf, 0.0, -inf], [0.0, 0.0, 0.0], [0.0, 0.0, -inf]]])
    log_probs_BT = logits.log_softmax(-1)[..., 0]
    kernel_BT = dynamics.self_kernel_from_collision(log_probs_BT, collision_of(logits))
    torch.testing.assert_close(kernel_BT, torch.tensor([[0.0, 2.0, 2 / 3, 1 / 2]]))


def test_a_sum_of_squares_that_is_rounded_leaves_the_kernel_at_its_lower_bound():
    log_probs_BT = torch.tensor([[1 - 1e-4, 0.9]]).log()
    kernel_BT = dynamics.self_kernel_from_collision(log_probs_BT, torch.tensor([[0.9961, 0.8047]]).bfloat16())
    torch.testing.assert_close(kernel_BT, torch.tensor([[1e-8, 1e-2]]), rtol=2e-3, atol=0.0)


def test_sums_of_squares_of_other_tokens_are_refused():
    with pytest.raises(InvalidValueError, match=r"collision probabilities must have shape \(2, 3\), got \(2, 1\)"):
        dynamics.self_kernel_from_collision(torch.zeros(2, 3), torch.ones(2, 1))
