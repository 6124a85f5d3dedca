"""verl's stock command with entropy control, on the CPU: Ray, TransferQueue, FSDP2 on gloo, weights sent back."""

import json
import math
import threading
import time
from pathlib import Path

import psutil
import pytest
from launch import run_verl
from verl_on_cpu.watching import COMPARED

pytestmark = pytest.mark.slow

SYNC = "trainer.v1.trainer_mode=entrocraft_sync"
LOW, HIGH = "+entrocraft={lower: 4.0, upper: 5.0}", "+entrocraft={lower: 0.0, upper: 0.1}"
REWARDING = Path(__file__).with_name("rewarding.py")
ACTOR = "actor_rollout_ref.actor"


def settings(**changes):
    return json.dumps(changes)


def test_three_steps_of_the_stock_command(assets, tmp_path):
    run = run_verl(assets, tmp_path, SYNC, '+entrocraft.schedule="linear(0.6, 0.3)"', f"{ACTOR}.ppo_mini_batch_size=4")
    assert run.status == 0, run.text[-3000:]
    assert run.column("entrocraft/target") == pytest.approx([0.5, 0.4, 0.3])
    for step in run.steps:
        # verl's own figure is a mean over tokens, too, unless it is told otherwise.
        assert step["entrocraft/entropy"] == pytest.approx(step["actor/entropy"], abs=1e-4)
        assert 0 < step["entrocraft/kept_token_fraction"] < 1  # far above: something is left out
        assert step["training/rollout_probs_diff_max"] < 1e-4  # the sampler has the trainer's weights


def test_dropping_is_masking_on_two_ranks(assets, tmp_path):
    """At a learning rate of 0 every update sees the same weights and the same batch: the gradients must agree."""
    variants = {
        f"{rejected}_{normalize}": {"method": "advantage", "rejected": rejected, "normalize": normalize}
        for rejected in ("drop", "mask")
        for normalize in ("kept", "all")
    }
    variants |= {f"{rejected}_token": {"method": "token", "rejected": rejected} for rejected in ("drop", "mask")}
    run = run_verl(
        assets, tmp_path, SYNC, HIGH, f"{ACTOR}.optim.lr=0.0", ranks=2, steps=2, **{COMPARED: json.dumps(variants)}
    )
    assert run.status == 0, run.text[-3000:]
    for step in run.steps:
        for what in ("kept", "all", "token"):
            dropped, masked = step[f"drop_{what}/actor/grad_norm"], step[f"mask_{what}/actor/grad_norm"]
            assert dropped == pytest.approx(masked, rel=1e-6) and dropped > 0
        assert step["drop_kept/entrocraft/trained_rows"] < 32
        share = step["drop_kept/entrocraft/kept_token_fraction"]
        ratio = step["drop_all/actor/grad_norm"] / step["drop_kept/actor/grad_norm"]
        assert ratio == pytest.approx(share, rel=1e-4)  # what `normalize` is about


def test_dropping_is_masking_where_the_loss_averages_over_rollouts(assets, tmp_path):
    variants = {
        f"{rejected}_{normalize}": {"method": "advantage", "rejected": rejected, "normalize": normalize}
        for rejected in ("drop", "mask")
        for normalize in ("kept", "all")
    }
    run = run_verl(
        assets,
        tmp_path,
        SYNC,
        LOW,
        f"{ACTOR}.loss_agg_mode=seq-mean-token-mean",
        f"{ACTOR}.optim.lr=0.0",
        f"{ACTOR}.use_dynamic_bsz=false",
        f"{ACTOR}.ppo_micro_batch_size_per_gpu=4",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4",
        steps=1,
        **{COMPARED: json.dumps(variants)},
    )
    assert run.status == 0, run.text[-3000:]
    for what in ("kept", "all"):
        dropped, masked = (run.steps[0][f"{rejected}_{what}/actor/grad_norm"] for rejected in ("drop", "mask"))
        assert dropped == pytest.approx(masked, rel=1e-6) and dropped > 0


def test_a_step_with_nothing_to_learn_from_is_left_out_and_counted(assets, tmp_path):
    # Rewards are 0 and 1, so none is below the baseline, which is what could raise entropy.
    control = "+entrocraft={lower: 4.0, upper: 5.0, method: reward, reward_baseline: -1.0}"
    run = run_verl(assets, tmp_path, SYNC, control, steps=2)
    assert run.status == 0, run.text[-3000:]
    assert run.column("entrocraft/skipped") == [1.0, 1.0]
    assert run.column("entrocraft/empty_batches") == [1.0, 2.0]
    assert all("actor/grad_norm" not in step for step in run.steps)


def test_a_run_resumes_with_what_its_controller_has_learnt(assets, tmp_path):
    saving = [SYNC, HIGH, "trainer.save_freq=2", "trainer.resume_mode=auto"]
    first = run_verl(assets, tmp_path, *saving, steps=2)
    assert first.status == 0, first.text[-3000:]
    state = json.loads((tmp_path / "checkpoints/global_step_2/entrocraft.json").read_text())
    assert state["counts"]["out_of_band"] == 2
    second = run_verl(assets, tmp_path, *saving, steps=3)
    assert second.status == 0, second.text[-3000:]
    assert second.column("step") == [3] and second.column("entrocraft/out_of_band_batches") == [3.0]

    (tmp_path / "checkpoints/global_step_2/entrocraft.json").unlink()
    third = run_verl(
        assets,
        tmp_path,
        SYNC,
        HIGH,
        "trainer.resume_mode=resume_path",
        f"trainer.resume_from_path={tmp_path}/checkpoints/global_step_2",
        steps=3,
    )
    assert third.status != 0 and "holds no entrocraft.json" in third.text


def test_predictions_that_see_the_whole_model_leave_it_as_it_was(assets, tmp_path):
    """With all that verl does to save memory: weights and optimizer elsewhere, activations and entropy recomputed."""
    run = run_verl(
        assets,
        tmp_path,
        SYNC,
        "+entrocraft={lower: 0.0, upper: 0.1, method: aligned, whole_model_blocks: 1}",
        f"{ACTOR}.fsdp_config.param_offload=true",
        f"{ACTOR}.fsdp_config.optimizer_offload=true",
        f"{ACTOR}.entropy_checkpointing=true",
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
    )
    assert run.status == 0, run.text[-3000:]
    for step in run.steps:
        assert 0 < step["entrocraft/kept_token_fraction"] < 1
        assert step["training/rollout_probs_diff_max"] < 1e-4  # the weights that moved have come back
        assert math.isfinite(step["actor/grad_norm"])


def test_the_asynchronous_trainer_is_controlled_too(assets, tmp_path):
    run = run_verl(assets, tmp_path, "trainer.v1.trainer_mode=entrocraft_colocate_async", HIGH)
    assert run.status == 0, run.text[-3000:]
    assert len(run.steps) == 3 and all(math.isfinite(step["actor/grad_norm"]) for step in run.steps)
    assert all(step["entrocraft/kept_token_fraction"] < 1 for step in run.steps)


def test_rollouts_that_verl_lost_are_neither_measured_nor_trained_on(assets, tmp_path):
    """verl fills the batch up with rows of its own where a reward failed; they must not count as kept or rejected."""
    failing = [f"reward.custom_reward_function.path={REWARDING}", "reward.custom_reward_function.name=sometimes"]
    run = run_verl(assets, tmp_path, SYNC, "+entrocraft={lower: 0.0, upper: 0.1, method: advantage}", *failing, steps=2)
    assert run.status == 0, run.text[-3000:]
    for step in run.steps:
        assert step["entrocraft/trained_rows"] < 32
        assert 0.2 < step["entrocraft/entropy"] < 1.5  # rows without a token would not move it, rows of padding would
        assert math.isfinite(step["actor/grad_norm"])


def test_a_reward_that_raises_ends_the_run_with_its_message(assets, tmp_path):
    failing = [f"reward.custom_reward_function.path={REWARDING}", "reward.custom_reward_function.name=always"]
    seen, over = set(), threading.Event()

    def watch():
        while not over.wait(1.0):
            seen.update(processes_in(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run = run_verl(assets, tmp_path, SYNC, HIGH, *failing, seconds=300)
    finally:
        over.set()
        watcher.join()
    assert run.status not in (0, -9) and "the sandbox is not there" in run.text  # not ended by us
    assert len(seen) > 5  # Ray's own, and its workers
    deadline = time.monotonic() + 120
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(1.0)
    assert not processes_in(tmp_path)


def processes_in(folder):
    """Return the processes that work in a folder: all that a run has started there, whatever they call themselves."""
    return {
        process.pid for process in psutil.process_iter(["cwd"]) if (process.info["cwd"] or "").startswith(str(folder))
    }


def test_a_mistake_is_said_before_ray_starts(assets, tmp_path):
    run = run_verl(assets, tmp_path, SYNC, "+entrocraft.shedule=0.4", seconds=120)
    assert run.status != 0 and "did you mean 'schedule'" in run.text
    assert "ray init kwargs" not in run.text
