"""The controller's state on TRL is saved with checkpoints and goes on from them; those without one are refused."""

import json
from pathlib import Path

import pytest
from support.trainers import train_logs
from trl import GRPOTrainer

from entrocraft.control import EntropyControl
from entrocraft.engines.checkpoints import STATE_FILE
from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.errors import InvalidValueError

WIDE = EntropyControl(lower=0.0, upper=100.0, method="predicted")  # in band it keeps everything


def test_state_is_saved_with_checkpoints_and_restored(make_trainer):
    control = EntropyControl(schedule="linear(1.0, 0.5, unit='initial')")
    config = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    first = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=control)
    first.train()
    folder = f"{first.args.output_dir}/checkpoint-1"
    state = json.loads(Path(folder, STATE_FILE).read_text())
    assert state["course"]["initial_entropy"] == pytest.approx(train_logs(first)[0]["entrocraft/entropy"])
    assert state["counts"]["decisions"] == 1

    resumed = make_trainer(EntropyControlledGRPOTrainer, config=config, entropy_control=control)
    resumed.train(resume_from_checkpoint=folder)
    assert resumed.entropy_controller.state_dict() == first.entropy_controller.state_dict()
    for name in ("loss", "reward", "entrocraft/entropy", "entrocraft/target"):
        assert train_logs(resumed)[-1][name] == train_logs(first)[-1][name]


def test_a_checkpoint_of_another_trainer_is_refused(make_trainer):
    config = {"save_strategy": "steps", "save_steps": 1}
    plain = make_trainer(GRPOTrainer, config=config)
    plain.train()
    controlled = make_trainer(EntropyControlledGRPOTrainer, config=config | {"max_steps": 2}, entropy_control=WIDE)
    with pytest.raises(InvalidValueError, match=r"holds no entrocraft\.json"):
        controlled.train(resume_from_checkpoint=f"{plain.args.output_dir}/checkpoint-1")
