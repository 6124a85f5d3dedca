"""Every method that TRL carries, on two processes under DDP and FSDP2, against one process on the same batches."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_ranks_methods
from safetensors.torch import load_file
from two_ranks_methods import BY_MICRO_BATCH, CASES, train_all

from entrocraft.control.methods import METHODS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def output(tiny_model, tmp_path_factory):
    """Return the folder of what came of all trainings: in one process, under DDP and under FSDP2."""
    folder = tmp_path_factory.mktemp("methods")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    script = two_ranks_methods.__file__
    done = subprocess.run(
        [*launch, script, tiny_model, str(folder)], capture_output=True, text=True, timeout=400, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("grpo_trainer", "rloo_trainer"):
            module = sys.modules[f"trl.trainer.{name}"]
            patch.setattr(module, "shuffle_sequence_dict", module.shuffle_sequence_dict)
        train_all(tiny_model, folder / "one")
    return folder


def log_of(output, kind, case):
    return json.loads((output / kind / "logs.json").read_text())[case]


def test_every_method_is_among_the_cases():
    assert METHODS.keys() <= CASES.keys()


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_on_the_same_completions(output, tiny_model, case, kind):
    start, one, two = (
        load_file(file)
        for file in (
            f"{tiny_model}/model.safetensors",
            output / "one" / f"{case}.safetensors",
            output / kind / f"{case}.safetensors",
        )
    )
    assert one.keys() == two.keys()
    assert max((one[name] - start[name]).abs().max() for name in start) > 0.01
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)
    # TRL's own metrics are means over micro-batches, and its clip ratios of whole sequences count fillers; all of them
    # go by the sign of advantages, which is that of rounding where grpo_dropout centres a group on the one left.
    left_out = ()
    if case in BY_MICRO_BATCH:
        left_out = ("clip_ratio", "entropy", "loss", "policy_loss")
    elif case in ("rloo, budget", "grpo_dropout"):
        left_out = ("clip_ratio",)
    logs = (
        [
            {
                name: math.nan if value is None else value
                for name, value in line.items()
                if not name.startswith(left_out)
            }
            for line in log_of(output, which, case)
        ]
        for which in ("one", kind)
    )
    for alone, together in zip(*logs, strict=True):
        assert alone.keys() == together.keys()
        assert together == pytest.approx(alone, rel=1e-5, abs=1e-6, nan_ok=True)


def test_a_training_on_shards_goes_on_from_its_checkpoint_as_if_it_had_not_been_stopped(output):
    found = json.loads((output / "fsdp2" / "resumed.json").read_text())
    assert found["weights"] == []  # none differs by a bit
    whole, resumed = found["log"]
    assert resumed == whole and len(whole) == 4
    assert {"optimizer.bin", "pytorch_model_fsdp.bin", "rng_state_1.pth", "entrocraft.json"} <= {*found["files"]}


def test_every_method_acts_in_these_runs(output):
    weights = {case: load_file(output / "one" / f"{case}.safetensors")["lm_head.weight"] for case in CASES}
    alike = {case for case in CASES if torch.equal(weights[case], weights["none"])}
    assert alike == {"none"}
