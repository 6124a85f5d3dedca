"""Checkpoints that lack something, under a trainer of one's own: transformers would go on without a word."""

from pathlib import Path

import pytest
from trl import GRPOTrainer

from entrocraft.engines.trl import with_entropy_control
from entrocraft.errors import InvalidValueError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_trainer_does_not_go_on_from_a_checkpoint_that_lacks_something(make_trainer, tmp_path, name):
    def trainer(steps):
        config = {"save_strategy": "steps", "save_steps": 1, "max_steps": steps}
        return make_trainer(with_entropy_control(GRPOTrainer), config=config, entropy_control="linear(0.6, 0.3)")

    trainer(1).train()
    checkpoint = Path(tmp_path / "out" / "checkpoint-1")
    (checkpoint / name).rename(tmp_path / name)
    with pytest.raises(InvalidValueError, match=f"cannot resume exactly from .*{name} is missing. Resume from"):
        trainer(2).train(resume_from_checkpoint=str(checkpoint))
    (tmp_path / name).rename(checkpoint / name)
    resumed = trainer(2)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 2
