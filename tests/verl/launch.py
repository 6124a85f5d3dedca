"""Runs verl's stock command on this machine's CPU, with the embedded Countdown model."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PASS_THROUGH = "{{ messages[-1]['content'] }}"
"""A chat template that leaves the prompt as it is: the embedded model has read nothing else."""

STOCK = {
    "++ray_kwargs.ray_init.num_cpus": 16,  # logical
    "+ray_kwargs.ray_init.include_dashboard": False,
    "+ray_kwargs.ray_init.object_store_memory": 300_000_000,
    "data.train_batch_size": 8,
    "data.max_prompt_length": 24,
    "data.max_response_length": 16,
    "data.dataloader_num_workers": 0,
    "data.filter_overlong_prompts": False,
    "data.seed": 0,
    "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    "actor_rollout_ref.model.use_remove_padding": False,
    "actor_rollout_ref.model.enable_gradient_checkpointing": False,
    "actor_rollout_ref.actor.strategy": "fsdp2",
    "actor_rollout_ref.actor.ppo_mini_batch_size": 8,
    "actor_rollout_ref.actor.use_dynamic_bsz": True,
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 4096,
    "actor_rollout_ref.actor.optim.lr": 1e-4,
    "actor_rollout_ref.actor.use_torch_compile": False,
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype": "fp32",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype": "fp32",
    "actor_rollout_ref.rollout.name": "transformers_cpu",
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.n": 4,
    "actor_rollout_ref.rollout.agent.num_workers": 1,
    "actor_rollout_ref.rollout.free_cache_engine": False,
    "reward.num_workers": 1,
    "reward.custom_reward_function.path": "pkg://entrocraft.engines.verl.tasks",
    "algorithm.adv_estimator": "grpo",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    "trainer.device": "cpu",
    "trainer.nnodes": 1,
    "trainer.logger": "[console,file]",
    "trainer.total_epochs": 100,
    "trainer.val_before_train": False,
    "trainer.test_freq": -1,
    "trainer.save_freq": -1,
    "trainer.resume_mode": "disable",
}


@dataclass
class Outcome:
    """What a run left behind."""

    status: int
    text: str
    """Standard output and error."""
    steps: list[dict]
    """The metrics of each step."""

    def column(self, name):
        """Return one metric, step by step."""
        return [step[name] for step in self.steps]


def make_assets(folder, *, num_problems=256, seed=0):
    """Write the model with a chat template, and problems, as verl takes them."""
    import shutil

    from entrocraft.engines.verl.tasks import write_parquet
    from entrocraft.models import load_tokenizer, resolve_model

    shutil.copytree(resolve_model("countdown-base"), folder / "model")
    tokenizer = load_tokenizer("countdown-base")
    tokenizer.chat_template = PASS_THROUGH
    tokenizer.save_pretrained(folder / "model")
    write_parquet({"name": "countdown"}, "train", num_problems, folder / "train.parquet", seed=seed)
    write_parquet({"name": "countdown"}, "test", 8, folder / "test.parquet", seed=seed)
    return folder


def run_verl(assets, folder, *overrides, steps=3, ranks=1, seconds=400, **settings):
    """Run `python -m verl.trainer.main_ppo` and return its outcome.

    Args:
        assets: From `make_assets`.
        folder: Where the run may write; it becomes the working directory.
        overrides: Hydra overrides, as they are.
        steps: Training steps.
        ranks: Data-parallel ranks, one process each.
        seconds: After which the run is ended, with everything it started.
        settings: Environment variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / "metrics.jsonl"
    options = STOCK | {
        "+ray_kwargs.ray_init.num_gpus": ranks,
        "data.train_files": assets / "train.parquet",
        "data.val_files": assets / "test.parquet",
        "actor_rollout_ref.model.path": assets / "model",
        "trainer.n_gpus_per_node": ranks,
        "trainer.total_training_steps": steps,
        "trainer.default_local_dir": folder / "checkpoints",
    }
    command = [f"{key}={value}" for key, value in options.items()] + list(overrides)  # later ones win
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HYDRA_FULL_ERROR": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "RAY_DEDUP_LOGS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHDYNAMO_DISABLE": "1",
        "VERL_ENGINE_DEVICE": "cuda",  # picks the FSDP engine, which then runs on the platform's device
        "VERL_FILE_LOGGER_PATH": str(metrics),
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "verl_on_cpu",
        **settings,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "verl.trainer.main_ppo", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text = process.communicate()[0] + f"\nended after {seconds} seconds"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return Outcome(
        process.returncode, text, [json.loads(line)["data"] | {"step": json.loads(line)["step"]} for line in lines]
    )
