"""verl itself, on the CPU; see `verl_on_cpu`."""

import sys
from pathlib import Path

import pytest

collect_ignore = ["agreeing.py", "launch.py", "rewarding.py", "verl_on_cpu"]

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def assets(tmp_path_factory):
    """Return a folder with the embedded model and problems, as verl takes them."""
    from launch import make_assets

    return make_assets(tmp_path_factory.mktemp("verl"))


@pytest.fixture(scope="session")
def compose():
    """Return a function that composes verl's own configuration with overrides, as the command does."""
    from hydra import compose, initialize_config_module

    def composed(*overrides, trainer_mode="entrocraft_sync"):
        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose("ppo_trainer", overrides=[f"trainer.v1.trainer_mode={trainer_mode}", *overrides])

    return composed
