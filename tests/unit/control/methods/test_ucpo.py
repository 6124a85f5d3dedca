"""UCPO: how the advantages of a prompt's successes are dealt out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.samples import GOAL

from entrocraft import Batch
from entrocraft.advantages import estimate
from entrocraft.control.methods.ucpo import Ucpo

rollouts = st.lists(st.tuples(st.booleans(), st.floats(-30.0, -0.1), st.integers(1, 20)), min_size=5, max_size=5)


def batch_of(rows):
    rewards = torch.tensor([float(row[0]) for row in rows])
    return Batch(
        step=1,
        entropy=0.5,
        advantages=estimate("grpo", rewards[None])[0].double(),
        rewards=rewards,
        groups=torch.zeros(len(rows)),
        num_tokens=torch.tensor([row[2] for row in rows]),
        sequence_log_probs=torch.tensor([row[1] for row in rows], dtype=torch.float64),
    )


@given(rollouts, st.floats(0.0, 1.0))
def test_successes_share_what_they_had_by_how_unlikely_they_are(rows, tau):
    batch = batch_of(rows)
    decision = Ucpo(tau=tau).decide(batch, GOAL)
    own = batch.advantages.tolist()
    correct = [index for index, row in enumerate(rows) if row[0]]
    weights = {i: math.exp(rows[i][1] / rows[i][2]) for i in correct}
    inverse = {i: sum(weights.values()) / weights[i] for i in correct}  # 1 / q of the normalised q
    expected = list(own)
    for i in correct:
        expected[i] = own[i] * len(correct) * ((1 - tau) / len(correct) + tau * inverse[i] / sum(inverse.values()))
    assert decision.advantages.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert decision.advantages.sum().item() == pytest.approx(sum(own), abs=1e-9)


def test_prompts_without_two_successes_are_left_as_they_are():
    batch = batch_of([(True, -1.0, 2), (False, -2.0, 2), (False, -3.0, 2)])
    assert torch.equal(Ucpo(tau=1.0).decide(batch, GOAL).advantages, batch.advantages)
    batch = batch_of([(False, -1.0, 2), (False, -2.0, 2)])
    assert not Ucpo(tau=1.0).decide(batch, GOAL).advantages.any()


def test_a_rollout_without_a_token_keeps_its_advantage():
    batch = batch_of([(True, -1.0, 2), (True, 0.0, 0), (False, -3.0, 2)])
    assert torch.equal(Ucpo(tau=1.0).decide(batch, GOAL).advantages, batch.advantages)
