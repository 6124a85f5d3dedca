"""Lines and settings of runs that were never trained, as the page reads them."""

CONFIG = {
    "model": "countdown-base",
    "seed": 0,
    "task": {"name": "countdown", "options": {}, "num_problems": None},
    "control": {"schedule": "linear(1.0, 0.5, unit='initial')", "width": 0.1},
    "train": {
        "algorithm": "grpo",
        "steps": 4,
        "prompts_per_step": 2,
        "rollouts_per_prompt": 2,
        "micro_batch_size": None,
        "learning_rate": 1e-4,
        "temperature": 1.0,
        "lora": None,
        "save_every": 2,
        "trl": {},
    },
    "eval": {"every": 0, "num_samples": 2, "k": [1, 2]},
}


def step_line(step, entropy=0.6, **others):
    """Return a line of an optimizer step whose target is 0.1 below its entropy."""
    usual = {
        "target": entropy - 0.1,
        "lower": entropy - 0.13,
        "upper": entropy - 0.07,
        "direction": 1.0,
        "kept_fraction": 1.0,
        "kept_token_fraction": 0.75,
        "reward": 0.25,
        "tokens": 8,
        "seconds": 2.0,
    }
    return {"step": step, "entropy": entropy} | usual | others


def rollout_line(step):
    """Return four rollouts of two prompts, and the texts of the second one."""
    return {
        "step": step,
        "group": [0, 0, 1, 1],
        "reward": [0, 0, 1, 0],
        "advantage": [0, 0, 0.7, -0.7],
        "change": [0, 0, -0.02, 0.01],
        "tokens": [3, 3, 4, 5],
        "kept_tokens": [3, 3, 4, 2],
        "texts": [
            {"row": 2, "prompt": "1,2=3:", "completion": "1+2"},
            {"row": 3, "prompt": "1,2=3:", "completion": "2-1"},
        ],
    }
