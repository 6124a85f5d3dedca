"""GRPODropout: which rollouts are left out, and how the rest is centred."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.samples import GOAL

from entrocraft import Batch
from entrocraft.advantages import estimate
from entrocraft.control.methods.grpo_dropout import GrpoDropout

G = 6
prompts = st.lists(st.tuples(st.booleans(), st.floats(-30.0, -0.1), st.integers(1, 20)), min_size=G, max_size=G)


def batch_of(prompts, groups=None):
    rows = [row for prompt in prompts for row in prompt]
    rewards = torch.tensor([float(row[0]) for row in rows])
    return Batch(
        step=1,
        entropy=0.5,
        advantages=estimate("grpo", rewards.view(len(prompts), -1)).flatten().double(),
        groups=torch.arange(len(prompts)).repeat_interleave(len(prompts[0])) if groups is None else groups,
        num_tokens=torch.tensor([row[2] for row in rows]),
        sequence_log_probs=torch.tensor([row[1] for row in rows], dtype=torch.float64),
    )


def by_hand(advantages, surprisals, threshold):
    """The procedure of the paper for one prompt: take out, put back, centre."""
    mean = sum(surprisals) / len(surprisals)
    change = [a * (s - mean) / len(surprisals) for a, s in zip(advantages, surprisals, strict=True)]
    kept = set(range(len(advantages)))
    for index in sorted(kept, key=lambda index: change[index]):
        if sum(change[i] for i in kept) >= threshold - 1e-9 or change[index] >= 0:
            break
        kept.remove(index)
    kept |= {index for index, advantage in enumerate(advantages) if advantage <= 0}
    weights = {index: math.exp(-surprisals[index]) for index in kept}
    centre = sum(weights[i] * advantages[i] for i in kept) / sum(weights.values()) if kept else 0.0
    return kept, [a - centre if i in kept else 0.0 for i, a in enumerate(advantages)]


@given(st.lists(prompts, min_size=1, max_size=3), st.sampled_from([0.0, 0.0, 0.05, -0.05]))
def test_each_prompt_is_treated_as_the_paper_says(drawn, threshold):
    batch = batch_of(drawn)
    decision = GrpoDropout(threshold=threshold).decide(batch, GOAL)
    surprisals = (-batch.sequence_log_probs / batch.num_tokens).tolist()
    for start in range(0, len(surprisals), G):
        rows = slice(start, start + G)
        kept, advantages = by_hand(batch.advantages[rows].tolist(), surprisals[rows], threshold)
        changes = [a * s for a, s in zip(batch.advantages[rows].tolist(), surprisals[rows], strict=True)]
        if len(set(changes)) < len(changes) and any(batch.advantages[rows]):
            continue  # of two that change as much either may go
        assert decision.keep[rows].nonzero().flatten().tolist() == sorted(kept)
        assert decision.advantages[rows].tolist() == pytest.approx(advantages, abs=1e-9)
    assert decision.normalize == "kept"


def test_unlikely_rollouts_are_centred_like_likely_ones():
    drawn = [[(False, -28.0, 1), (False, -29.0, 1), (True, -1.0, 1), (True, -1.5, 1)]]
    decision = GrpoDropout().decide(batch_of(drawn), GOAL)
    assert decision.keep.tolist() == [True, True, False, False]
    assert decision.advantages.tolist() == pytest.approx([0.0] * 4, abs=1e-9)


def test_what_is_kept_does_not_lower_entropy_by_its_own_measure_where_successes_are_to_blame():
    # Likely successes and unlikely failures; failures stay, whatever they do.
    drawn = [[(True, -1.0, 10), (True, -2.0, 10), (True, -9.0, 10), (False, -5.0, 10), (False, -5.0, 10)]]
    batch = batch_of(drawn)
    decision = GrpoDropout().decide(batch, GOAL)
    assert decision.keep.tolist() == [False, True, True, True, True]
    surprisal = batch.surprisal
    assert (batch.advantages * decision.keep * (surprisal - surprisal.mean())).sum() >= 0


def test_prompts_that_teach_nothing_are_left_exactly_as_they_are():
    equal = [[(True, -1.0, 3), (True, -2.0, 3)], [(False, -1.0, 3), (False, -4.0, 3)]]
    decision = GrpoDropout().decide(batch_of(equal), GOAL)
    assert decision.keep.all() and not decision.advantages.any()
    alone = GrpoDropout().decide(batch_of([[(True, -1.0, 3)], [(False, -2.0, 3)]]), GOAL)
    assert alone.keep.all() and not alone.advantages.any()


def test_a_rollout_without_a_token_is_not_compared():
    batch = batch_of([[(True, -1.0, 5), (False, -3.0, 5), (True, 0.0, 0)]])
    decision = GrpoDropout().decide(batch, GOAL)
    assert decision.advantages[2] == batch.advantages[2] and decision.keep[2]
    kept, advantages = by_hand(batch.advantages[:2].tolist(), [0.2, 0.6], 0.0)
    assert decision.keep[:2].tolist() == [index in kept for index in range(2)]
    assert decision.advantages[:2].tolist() == pytest.approx(advantages)
