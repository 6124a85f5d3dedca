"""Equal rewards on verl: what rounding leaves of them is taken out of advantages, a KL penalty is left there."""

from pathlib import Path

import pytest
import torch
from launch import run_verl
from safetensors.torch import load_file
from verl_on_cpu.watching import RECORDED


@pytest.mark.slow
def test_a_penalty_in_the_advantages_stays_where_both_rewards_of_a_prompt_are_equal(assets, tmp_path):
    run = run_verl(
        assets,
        tmp_path,
        "trainer.v1.trainer_mode=entrocraft_sync",
        "+entrocraft={lower: 0.0, upper: 9.0, method: advantage}",  # in the band nothing is touched
        f"reward.custom_reward_function.path={Path(__file__).with_name('rewarding.py')}",
        "reward.custom_reward_function.name=by_parity",
        "algorithm.use_kl_in_reward=true",
        "algorithm.kl_ctrl.kl_coef=1e-3",
        "algorithm.adv_estimator=rloo",  # divides by no deviation, which would make a penalty as large as a reward
        "actor_rollout_ref.rollout.n=2",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        steps=2,
        **{RECORDED: str(tmp_path / "batches")},
    )
    assert run.status == 0, run.text[-3000:]
    batch = load_file(tmp_path / "batches" / "2.safetensors")  # of the first, KL is 0
    own = batch["advantages"] * batch["response_mask"]
    assert int(((own != 0) & (own.abs() < 0.02)).sum()) > 0  # penalties alone, of the size of rounding elsewhere
    assert torch.equal(batch["used_advantages"], own.float())


LARGE = """
def graded(data_source, solution_str, ground_truth, extra_info=None, **more):
    return 333.3 if extra_info["index"] % 2 else float(sum(map(ord, solution_str)) % 2)
"""


@pytest.mark.slow
def test_what_rounding_leaves_of_large_rewards_is_no_advantage(assets, tmp_path):
    (tmp_path / "large.py").write_text(LARGE)
    run = run_verl(
        assets,
        tmp_path,
        "trainer.v1.trainer_mode=entrocraft_sync",
        "+entrocraft={lower: 0.0, upper: 9.0, method: advantage}",
        f"reward.custom_reward_function.path={tmp_path / 'large.py'}",
        "reward.custom_reward_function.name=graded",
        "actor_rollout_ref.rollout.n=7",  # seven times 333.3 is rounded
        steps=1,
        **{RECORDED: str(tmp_path / "batches")},
    )
    assert run.status == 0, run.text[-3000:]
    batch = load_file(tmp_path / "batches" / "1.safetensors")
    is_equal = batch["rm_scores"].sum(-1) > 300.0
    assert is_equal.any() and float(batch["advantages"][is_equal].abs().max()) > 0.1  # of nothing but rounding
    assert not batch["used_advantages"][is_equal].any() and batch["used_advantages"][~is_equal].any()
