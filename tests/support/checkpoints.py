"""Checkpoints as training leaves them, small."""

import json

import torch
from safetensors.torch import save_file


def write_checkpoint(run, step):
    """Write a whole checkpoint of a run under control and return its folder."""
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"weight": torch.zeros(3, 2)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.zeros(5)}, folder / name)
    (folder / "entrocraft.json").write_text(json.dumps({"counts": {}}))
    (folder / "trainer_state.json").write_text("{}")
    return folder
