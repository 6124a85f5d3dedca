"""The pure core needs torch and nothing heavier, and its public names stay."""

import subprocess
import sys

import pytest

import entrocraft as ec

HEAVY = ("transformers", "trl", "datasets", "accelerate", "matplotlib", "pydantic", "verl", "ray")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_core_imports_no_framework():
    loaded = python(f"import sys; from entrocraft import *; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_nothing_is_imported_before_it_is_asked_for():
    loaded = python("import sys, entrocraft, entrocraft.tasks, entrocraft.cli; print('torch' in sys.modules)")
    assert loaded.strip() == "False"
    assert set(ec.__all__) <= set(dir(ec))
    with pytest.raises(AttributeError, match="no attribute 'linaer'"):
        ec.linaer  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        "schedules",
        "runs",
        "runs.metrics",
        "control",
        "control.steering",
        "config",
        "models",
        "models.sampling_config",
        "analysis",
        "analysis.explanation",
        "reports",
        "reports.run",
        "reports.explanation",
        "reports.diagnosis",
        "reports.metrics_page",
        "cli",
    ],
)
def test_what_needs_no_tensors_does_not_load_torch(module):
    assert python(f"import sys, entrocraft.{module}; print('torch' in sys.modules)").strip() == "False"


def test_importing_the_core_takes_less_than_a_second_beyond_torch():
    seconds = python(
        "import torch, numpy, time; t = time.process_time(); from entrocraft import *; print(time.process_time() - t)"
    )
    assert float(seconds) < 1.0


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "constant",
        "cosine",
        "exponential",
        "polynomial",
        "steps",
        "piecewise",
        "join",
        "warmup",
        "cyclic",
        "schedule_from",
        "Band",
        "token_entropy",
        "batch_entropy",
        "predicted_entropy_change",
        "BatchStats",
        "decide",
        "RejectionController",
        "pass_at_k",
        "plot",
    ],
)
def test_the_contract_names_are_there(name):
    assert name in ec.__all__ and callable(getattr(ec, name))


def test_registries_answer():
    assert "rejection" in ec.controllers.available()
    assert {"grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "raft_plus_plus", "nsr", "psr", "w_reinforce"} <= set(
        ec.advantages.available()
    )


def test_errors_are_standard_errors_too():
    with pytest.raises(ValueError, match="schedule"):
        ec.schedule_from("nonsense(1)")
    with pytest.raises(ec.EntrocraftError):
        ec.schedule_from("nonsense(1)")
