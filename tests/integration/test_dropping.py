from types import SimpleNamespace

import pytest
import torch
from support.trainers import COMMON
from trl import GRPOConfig

from entrocraft.control import EntropyControl
from entrocraft.engines.trl.checks import checked_control
from entrocraft.engines.trl.rows import keep_rows, num_loss_tokens
from entrocraft.engines.trl.settings import optimizer_memory, ratio_stays_at_one, steps_per_decision
from entrocraft.errors import InvalidValueError


def batch():
    return {
        "prompt_ids": torch.arange(12).view(4, 3),
        "prompt_mask": torch.ones(4, 3, dtype=torch.long),
        "completion_ids": torch.arange(20).view(4, 5),
        "completion_mask": torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]),
        "tool_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]),
        "advantages": torch.tensor([1.0, -1.0, 2.0, -2.0]),
        "old_per_token_logps": torch.randn(4, 5),
        "importance_sampling_ratio": torch.rand(4, 1),
        "num_items_in_batch": torch.tensor(9),
        "num_images": [0, 0, 0, 0],
    }


def test_kept_rows_stay_as_they_are_and_columns_none_of_them_reaches_are_cut():
    whole = batch()
    kept = keep_rows(whole, torch.tensor([True, False, True, False]), num_rows=2)
    for name in ("completion_ids", "completion_mask", "tool_mask", "old_per_token_logps"):
        assert torch.equal(kept[name], whole[name][[0, 2], :3]), name
    assert torch.equal(kept["prompt_ids"], whole["prompt_ids"][[0, 2]])
    assert torch.equal(kept["importance_sampling_ratio"], whole["importance_sampling_ratio"][[0, 2]])
    assert kept["advantages"].tolist() == [1.0, 2.0]
    assert kept["num_items_in_batch"] == 9 and kept["num_images"] == [0, 0]


def test_fillers_count_for_nothing():
    kept = keep_rows(batch(), torch.tensor([False, False, True, False]), num_rows=3)
    assert len(kept["completion_ids"]) == 3
    assert kept["completion_mask"].sum(-1).tolist() == [3, 0, 0]
    assert kept["advantages"].tolist() == [2.0, 0.0, 0.0]


def test_where_nothing_is_kept_two_tokens_remain_to_run_the_collectives_on():
    kept = keep_rows(batch(), torch.zeros(4, dtype=torch.bool), num_rows=1)
    assert kept["prompt_ids"].shape == (1, 1)
    # One column would be a value of each whole sequence to TRL's metrics, which do not look at the mask then.
    assert kept["completion_ids"].shape == (1, 2)
    assert kept["completion_mask"].sum() == 0 and num_loss_tokens(kept) == 0


def test_the_batch_itself_is_not_changed():
    whole = batch()
    before = {name: value.clone() for name, value in whole.items() if isinstance(value, torch.Tensor)}
    keep_rows(whole, torch.tensor([True, False, False, False]), num_rows=3)
    assert all(torch.equal(whole[name], value) for name, value in before.items())


def test_loss_tokens_leave_tool_outputs_out():
    assert num_loss_tokens(batch()) == 2 + 3 + 3 + 1


def test_an_unknown_loss_can_be_masked_but_not_dropped():
    class Args:
        loss_type, num_iterations = "brand_new", 1

    with pytest.raises(InvalidValueError, match="rejected='mask'"):
        checked_control(EntropyControl(), Args())
    checked_control(EntropyControl(rejected="mask"), Args())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1.0),
        ({"num_iterations": 4}, 4.0),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 8, "num_iterations": 2}, 4.0),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 1}, 0.25),
    ],
)
def test_a_decision_holds_for_as_many_steps_as_its_batch(tmp_path, settings, expected):
    args = GRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, **COMMON, **settings)
    assert steps_per_decision(args) == expected
    assert optimizer_memory(args) == 0.9


@pytest.mark.parametrize("accumulated", [1, 2, 3, 4])
@pytest.mark.parametrize("per_generation", [1, 2, 3, 4])
@pytest.mark.parametrize("num_iterations", [1, 2])
def test_the_ratio_stays_at_one_where_no_batch_outlives_an_update(accumulated, per_generation, num_iterations):
    """Counted by micro-batches: which update has made the policy that samples, and which the one that learns."""
    passes = per_generation * num_iterations
    ages = [micro // accumulated - (micro - micro % passes) // accumulated for micro in range(48)]
    args = SimpleNamespace(
        gradient_accumulation_steps=accumulated, steps_per_generation=per_generation, num_iterations=num_iterations
    )
    assert ratio_stays_at_one(args) == (not any(ages))


def test_optimizers_other_than_adam_are_taken_to_remember_nothing(tmp_path):
    args = GRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, optim="sgd", **COMMON)
    assert optimizer_memory(args) == 0.0


@pytest.mark.parametrize(
    ("settings", "control", "message"),
    [
        ({"top_entropy_quantile": 0.3}, {"method": "budget"}, "top_entropy_quantile"),
        ({"top_entropy_quantile": 0.3}, {"method": "token", "rejected": "mask"}, "top_entropy_quantile"),
        ({"optim": "adamw_bnb_8bit"}, {"method": "aligned"}, "adamw_bnb_8bit"),
        ({"optim": "adafactor"}, {"method": "budget", "predictor": "whole_model"}, "adafactor"),
    ],
)
def test_arguments_that_would_make_it_wrong_are_refused(tmp_path, settings, control, message):
    args = GRPOConfig(output_dir=str(tmp_path), per_device_train_batch_size=8, **COMMON, **settings)
    with pytest.raises(InvalidValueError, match=message):
        checked_control(EntropyControl(**control), args)
    checked_control(EntropyControl(method="budget", rejected="mask"), args)


def test_with_images_no_column_is_cut():
    whole = batch() | {"token_type_ids": torch.zeros(4, 8, dtype=torch.long)}
    kept = keep_rows(whole, torch.zeros(4, dtype=torch.bool), num_rows=1)
    assert kept["completion_ids"].shape == (1, 5) and kept["prompt_ids"].shape == (1, 3)
