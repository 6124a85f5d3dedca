"""What a loop may hand to `ec.decide`, and what it gets back."""

import copy
import json

import numpy as np
import pytest
import torch
from support.loops import ADVANTAGES, BATCH, ENTROPIES, LOG_PROBS, MASK, TOO_HIGH, decided, rows

import entrocraft as ec
from entrocraft.engines.loop.arrays import group_index
from entrocraft.errors import InvalidValueError, MeasurementError

pytestmark = pytest.mark.filterwarnings("error")


def as_numpy(value):
    return value.numpy() if isinstance(value, torch.Tensor) else np.array(value)


# ---- kinds of arrays --------------------------------------------------------------------------------


def test_tensors_come_back_as_tensors_masked_and_detached():
    use = decided(log_probs=LOG_PROBS.clone().requires_grad_())
    assert use.advantages.shape == (4, 3) and use.advantages.dtype == torch.float32
    assert not use.advantages.requires_grad and not use.advantages[MASK == 0].any()
    assert use.keep.dtype == torch.bool and torch.equal(use.kept.bool(), use.advantages != 0)
    assert 0 < use.kept.sum() < MASK.sum()


def test_numpy_arrays_come_back_as_numpy_arrays_with_the_same_numbers():
    expected = decided()
    use = decided(**{name: as_numpy(value) for name, value in BATCH.items()})
    assert all(isinstance(value, np.ndarray) for value in (use.advantages, use.keep, use.kept))
    assert (use.advantages == expected.advantages.numpy()).all() and (use.keep == expected.keep.numpy()).all()


def test_lists_of_rows_come_back_as_lists_of_rows_and_need_no_mask():
    expected = decided()
    lists = {name: [row.tolist() for row in rows(BATCH[name])] for name in ("log_probs", "entropies")}
    use = decided(mask=None, advantages=ADVANTAGES.tolist(), **lists)
    assert use.advantages == [row.tolist() for row in rows(expected.advantages)]
    assert use.keep == expected.keep.tolist() and use.kept == [row.tolist() for row in rows(expected.kept)]
    json.dumps([use.advantages, use.keep, use.kept, use.knobs, use.metrics, use.state])


@pytest.mark.parametrize("made", [lambda row: row, lambda row: row.numpy()], ids=["tensors", "numpy"])
def test_rows_come_back_as_what_each_of_them_was(made):
    expected = decided()
    columns = {name: [made(row) for row in rows(BATCH[name])] for name in ("log_probs", "entropies", "mask")}
    use = decided(**columns)
    assert type(use.advantages[1]) is type(columns["log_probs"][1])
    assert [row.tolist() for row in use.advantages] == [row.tolist() for row in rows(expected.advantages)]
    assert torch.equal(use.keep, expected.keep)  # as `advantages` came


def test_rows_without_a_token_take_no_part():
    use = decided(
        mask=None,
        log_probs=[[-0.1, -2.0], [], [-0.5], []],
        entropies=[[0.4, 0.9], [], [0.3], []],
        advantages=[1, -1, 2, 0],
    )
    assert [len(row) for row in use.advantages] == [2, 0, 1, 0] and use.keep[1] is False
    with pytest.warns(UserWarning, match="the loss counts no token of any rollout"):
        nothing = decided(
            mask=None, log_probs=[[], []], entropies=[[], []], advantages=[1, -1], groups=[0, 1], rewards=None
        )
    assert nothing.empty and nothing.advantages == [[], []] and nothing.metrics["uncounted_batches"] == 1.0


def test_advantages_of_single_tokens_are_weighed_as_they_are():
    by_token = ADVANTAGES[:, None] * MASK
    assert torch.equal(decided(advantages=by_token).advantages, decided().advantages)
    use = decided(
        advantages=[row.tolist() for row in rows(by_token)],
        mask=None,
        **{name: [row.tolist() for row in rows(BATCH[name])] for name in ("log_probs", "entropies")},
    )
    assert use.advantages == [row.tolist() for row in rows(decided().advantages)]
    assert use.keep == decided().keep.tolist()


def test_masks_of_truths_and_arrays_that_torch_would_not_take_are_read():
    expected = decided()
    frozen = ENTROPIES.numpy().copy()
    frozen.flags.writeable = False
    reversed_ = LOG_PROBS.numpy()[::-1][::-1]
    use = decided(mask=MASK.bool(), entropies=frozen, log_probs=np.flip(np.flip(reversed_, 0).copy(), 0))
    assert (use.advantages == expected.advantages.numpy()).all()
    assert torch.equal(decided(mask=MASK.numpy().astype(bool)).advantages, expected.advantages)


def test_half_precision_is_read_as_float32():
    halves = decided(log_probs=LOG_PROBS.bfloat16(), entropies=ENTROPIES.bfloat16())
    floats = decided(log_probs=LOG_PROBS.bfloat16().float(), entropies=ENTROPIES.bfloat16().float())
    assert torch.equal(halves.advantages, floats.advantages) and halves.metrics == floats.metrics


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["b", "b", "a"], [0, 0, 1]),
        ([("x", 1), ("y", 1), ("x", 1)], [0, 1, 0]),
        ([7, 7, 3], [7, 7, 3]),
        (np.array([1, 0, 1]), [1, 0, 1]),
        (np.array(["x", "y", "x"]), [0, 1, 0]),
        (np.array(["x", "y", "x"], dtype=object), [0, 1, 0]),
        (torch.tensor([2, 2, 0]), [2, 2, 0]),
        ([2**24, 2**24 + 1, 2**24], [2**24, 2**24 + 1, 2**24]),  # the same number in float32
        (np.array([2**53 + 1, 2**53, 2**53 + 1]), [2**53 + 1, 2**53, 2**53 + 1]),
    ],
)
def test_prompts_are_numbers_or_names(groups, expected):
    assert group_index(groups, 3).tolist() == expected


# ---- what comes back --------------------------------------------------------------------------------


def test_in_band_the_advantages_are_those_that_were_given():
    use = decided({"lower": 0.0, "upper": 9.0, "method": "advantage"})
    assert torch.equal(use.advantages, ADVANTAGES[:, None] * MASK) and use.keep.all() and torch.equal(use.kept, MASK)
    assert use.metrics["entropy"] == pytest.approx((ENTROPIES * MASK).sum() / 9) and not use.empty


@pytest.mark.parametrize(("loss", "factor"), [("token_mean", 9 / 5), ("sequence_mean", 2.0), ("sequence_sum", 2.0)])
def test_advantages_make_good_what_the_loss_divides_by(loss, factor):
    """Rollouts 0 and 2 are kept, 5 of 9 tokens: Eq. 5 averages over what is kept, and the loop goes on as it was."""
    use = decided(TOO_HIGH | {"method": "advantage"}, loop=ec.Loop(loss=loss))
    assert use.keep.tolist() == [True, False, True, False]
    expected = (ADVANTAGES * factor * torch.tensor([1, 0, 1, 0]))[:, None] * MASK
    assert torch.allclose(use.advantages, expected)


def test_a_loss_of_whole_rollouts_has_one_advantage_each():
    use = decided(TOO_HIGH, loop=ec.Loop(whole_rollouts=True, loss="sequence_sum"))
    assert use.advantages.shape == (4,) and use.state["method"] == "budget"
    assert not use.advantages[~use.keep].any()


def test_knobs_are_for_loops_that_set_them():
    control = {"schedule": 0.9, "method": "entropy_bonus"}
    use = decided(control, loop=ec.Loop(knobs=["entropy_coef"]))
    assert use.knobs.keys() == {"entropy_coef"} and use.knobs["entropy_coef"] > 0
    with pytest.raises(InvalidValueError, match=r"sets entropy_coef, which your loop cannot.*Loop\(knobs="):
        decided(control)


def test_nothing_to_learn_from_is_empty():
    use = decided(advantages=torch.zeros(4), rewards=[1.0] * 4)
    assert use.empty and not use.keep.any() and not use.advantages.any()
    assert not decided(advantages=torch.zeros(4), loop=ec.Loop(other_terms=True)).empty


def test_a_call_leaves_its_arguments_alone_and_repeats_itself():
    state = json.loads(json.dumps(decided().state))
    before, batch = copy.deepcopy(state), {name: copy.deepcopy(value) for name, value in BATCH.items()}
    one, other = decided(state=state, step=2), decided(state=state, step=2)
    assert state == before and one.state == other.state != before and torch.equal(one.advantages, other.advantages)
    assert all(torch.equal(torch.as_tensor(batch[name]), torch.as_tensor(BATCH[name])) for name in BATCH)


def test_another_curve_is_followed_from_the_next_call_on():
    state = decided({"schedule": "linear(1.0, 0.5, unit='initial')", "method": "advantage"}).state
    use = decided({"schedule": "constant(0.5, unit='initial')", "method": "advantage"}, state, step=2)
    assert use.metrics["target"] == pytest.approx(0.5 * float((ENTROPIES * MASK).sum() / 9))


def test_the_guard_hears_of_gradients():
    first = decided()
    assert decided(state=first.state, step=2, gradient_norm=3.0).state != decided(state=first.state, step=2).state


class KeepSuccesses(ec.Method):
    """Keeps what has an advantage above a limit."""

    def __init__(self, limit: float = 0.0):
        self.limit, self.calls = limit, 0

    def decide(self, batch, goal):
        self.calls += 1
        return ec.Decision.keeping(batch, batch.advantages > self.limit)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_a_method_of_ones_own_is_taken_with_its_state():
    control = {"schedule": 0.5, "method": {"name": KeepSuccesses, "limit": 1.5}}
    first = decided(control)
    assert first.keep.tolist() == [False, False, True, False]
    assert decided(control, first.state, step=2).state["state"] == {"calls": 2}


# ---- exact signals ----------------------------------------------------------------------------------


def test_exact_predictions_take_exact_sensitivities():
    generator = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(4, 3, 7, generator=generator), torch.randint(7, (4, 3), generator=generator)
    exact = TOO_HIGH | {"method": "predicted", "predictor": "exact"}
    given = {
        "log_probs": ec.token_log_probs(logits, tokens),
        "entropies": ec.token_entropy(logits),
        "sensitivity": ec.entropy_sensitivity(logits, tokens),
    }
    use = decided(exact, **given)
    change = ec.predicted_entropy_change(logits, tokens, ADVANTAGES, MASK)
    assert use.keep.tolist() == (change <= 0).tolist() and not use.keep.all()
    with pytest.raises(InvalidValueError, match=r"needs `sensitivity`, entrocraft\.entropy_sensitivity"):
        decided(exact)


@pytest.mark.parametrize(
    "changed, error, said",
    [
        ({"state": "x"}, InvalidValueError, "state must be what the call before returned as `state`.* got 'x'"),
        ({"loop": {"loss": "token_mean"}}, InvalidValueError, r"loop must be an entrocraft\.Loop.* got \{'loss'"),
        ({"gradient_norm": "x"}, InvalidValueError, "gradient norm must be a number of at least 0, got 'x'"),
        ({"gradient_norm": -1.0}, InvalidValueError, "gradient norm must be a number of at least 0, got -1.0"),
        ({"rewards": [np.inf, 1.0, 0.0, 0.0]}, MeasurementError, "step 1, rank 0: 1 of 4 rewards are not finite"),
    ],
)
def test_what_is_no_state_no_loop_no_norm_and_no_reward_is_refused(changed, error, said):
    with pytest.raises(error, match=said):
        decided(**changed)


def test_a_gradient_norm_that_overflowed_is_no_mistake():
    decided(gradient_norm=torch.tensor(np.inf))  # half precision skips such a step
