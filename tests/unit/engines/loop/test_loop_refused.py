"""What `ec.decide` cannot do with what a loop hands to it is refused, with what to do, or warned of once."""

import pytest
import torch
from support.loops import ADVANTAGES, ENTROPIES, LOG_PROBS, MASK, TOO_HIGH, P, decided, rows

import entrocraft as ec
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError

pytestmark = pytest.mark.filterwarnings("error")


# ---- arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": None}, r"padded arrays need a `mask`"),
        ({"mask": MASK * 2}, "mask must hold 1 where your loss counts a token"),
        ({"mask": MASK[:, :2]}, r"mask must have the shape of log_probs, \(4, 3\): got \(4, 2\)"),
        ({"entropies": ENTROPIES[:3]}, r"entropies must have the shape of log_probs, \(4, 3\): got \(3, 3\)"),
        ({"log_probs": LOG_PROBS[0]}, r"log_probs must be an array \(rollouts, tokens\).*got shape \(3,\)"),
        ({"log_probs": [-0.1, -0.2]}, r"expected a list with one row of numbers per rollout, got \[-0.1, -0.2\]"),
        ({"log_probs": []}, r"expected a list with one row of numbers per rollout, got \[\]"),
        ({"log_probs": [LOG_PROBS]}, r"log_probs\[0\] must be a row of numbers, got shape \(4, 3\)"),
        ({"log_probs": "abc"}, "log_probs: expected numbers in a torch tensor, a numpy array or a list, got 'abc'"),
        ({"log_probs": P}, "log_probs must be logarithms of probabilities: at most 0, in nats; got 0.9"),
        ({"entropies": -ENTROPIES}, "entropies must be entropies of distributions: at least 0, in nats; got -0.9"),
        ({"log_probs": rows(LOG_PROBS), "mask": None}, "entropies must be a list of 4 rows, as log_probs is: got"),
        (
            {"log_probs": rows(LOG_PROBS), "mask": None, "entropies": rows(ENTROPIES)[::-1]},
            r"entropies\[1\] must have 1 numbers, as log_probs\[1\] has: got shape \(2,\)",
        ),
        ({"advantages": ADVANTAGES[:3]}, r"advantages must have one number per rollout, 4: got shape \(3,\)"),
        ({"advantages": torch.ones(4, 2)}, r"advantages must have the shape of log_probs, \(4, 3\): got \(4, 2\)"),
        ({"advantages": None}, "advantages"),
        ({"rewards": [1.0]}, "rewards must have one number per rollout, 4: got shape a list of 1"),
        ({"rewards": None}, "needs rewards, which your loop cannot: give `rewards`"),
        ({"step": 0}, "step must be a whole number of at least 1, got 0"),
        ({"step": 1.5}, "step must be a whole number of at least 1, got 1.5"),
        ({"groups": [0, 1]}, "groups must have one number per rollout, 4"),
        ({"groups": ["a", "b"]}, "groups must name the prompt of each of the 4 rollouts"),
        ({"groups": [0.5, 0.5, 1, 1]}, "groups must be whole numbers or names"),
    ],
)
def test_other_shapes_and_missing_things_say_what_to_do(changed, message):
    control = TOO_HIGH | {"method": "reward", "reward_baseline": 0.5}
    with pytest.raises((InvalidValueError, TypeError), match=message):
        decided(control, **changed)


def test_what_is_no_number_names_the_step_or_the_array():
    with pytest.raises(MeasurementError, match="log_probs: 1 of 9 counted tokens have NaN"):
        decided(log_probs=LOG_PROBS.masked_fill(torch.arange(12).view(4, 3) == 1, torch.nan))
    with pytest.raises(MeasurementError, match="step 7.*advantages are not finite"):
        decided(step=7, advantages=torch.tensor([1.0, torch.inf, 0.0, 0.0]))
    decided(log_probs=LOG_PROBS.masked_fill(MASK == 0, torch.nan))  # beyond the mask nothing is read


# ---- without entropies ------------------------------------------------------------------------------


def test_without_entropies_that_of_a_batch_is_the_mean_of_minus_log_p_and_this_is_said_once():
    control = {"schedule": "linear(0.6, 0.2)", "method": "advantage"}
    with pytest.warns(UserWarning, match="gives no entropies: that of a batch is the mean of -log p"):
        use = decided(control, entropies=None)
    assert use.metrics["entropy"] == pytest.approx(-LOG_PROBS.sum().item() / 9)
    decided(control, use.state, step=2, entropies=None)  # warnings are errors here


@pytest.mark.parametrize(("method", "signal"), [("token", "change"), ("budget", "change"), ("clip_b", "token_entropy")])
def test_without_entropies_methods_that_predict_are_refused(method, signal):
    with pytest.raises(InvalidValueError, match=f"{method!r} needs {signal}, which your loop cannot.*`entropies`"):
        decided({"schedule": 0.5, "method": method}, entropies=None)


def test_without_entropies_and_a_method_the_error_says_which_to_take():
    with pytest.raises(InvalidValueError, match="or use method 'advantage'"):
        decided("linear(0.6, 0.2)", entropies=None)


# ---- settings, states, loops ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "message"),
    [
        ({"steering": "steering.yaml"}, "setting 'steering' is for trainers; in your loop, give the next call another"),
        ({"rollouts": "rollouts.jsonl"}, "setting 'rollouts' is for trainers"),
        ({"run": "runs/mine"}, "setting 'run' is for trainers; in your loop, write down .* returns as `metrics`"),
        ({"estimator": "grpo"}, r"setting 'estimator' is for trainers; .*entrocraft\.advantages\.estimate"),
        ({"method": "token", "rejected": "drop"}, "setting 'rejected' is for trainers"),
        ({"method": "aligned"}, "predictor 'whole_model' takes a gradient of the model, which your loop does not hand"),
        ({"method": "kl_cov"}, "sets surrogate, which your loop cannot: it stands in for the loss"),
    ],
)
def test_what_a_call_cannot_carry_out_is_refused(control, message):
    with pytest.raises(InvalidValueError, match=message):
        decided(control)


def test_an_adaptive_schedule_needs_rewards():
    control = {"schedule": "adaptive(linear(0.9, 0.5), patience=3)", "method": "advantage"}
    assert decided(control).metrics["target"] > 0
    with pytest.raises(InvalidValueError, match="an adaptive schedule needs `rewards`"):
        decided(control, rewards=None)


def test_a_state_of_another_run_is_refused():
    state = decided().state
    with pytest.raises(InvalidValueError, match="expected that of method 'budget', got that of 'token'"):
        decided({"method": "budget"}, state)
    with pytest.raises(InvalidValueError, match="controller state: expected the keys"):
        decided(state={"step": 3})


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"loss": "mean"}, UnknownNameError, "loss of a loop"),
        ({"knobs": ["entropy_coeff"]}, UnknownNameError, "did you mean 'entropy_coef'"),
        ({"knobs": "entropy_coef"}, InvalidValueError, "knobs must be a list of names"),
        ({"momentum": 1.0}, InvalidValueError, r"momentum must lie in \[0, 1\)"),
        ({"steps_per_decision": 0}, InvalidValueError, "steps_per_decision must be positive"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        ec.Loop(**fields)


def test_a_method_that_acts_on_the_ratio_of_one_is_warned_of_once():
    control, loop = {"schedule": 0.5, "method": "clip_higher"}, {"knobs": ["clip_low", "clip_high"]}
    with pytest.warns(UserWarning, match="acts on the ratio"):
        state = decided(control, loop=ec.Loop(**loop)).state
    decided(control, state, step=2, loop=ec.Loop(**loop))
    decided(control, loop=ec.Loop(steps_per_decision=4, **loop))
