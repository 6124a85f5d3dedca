"""What makes models, pictures and figures still runs with the library as it is."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_whatever_a_script_imports_is_there(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.slow
def test_a_base_model_is_built_and_measured(tmp_path):
    folder = tmp_path / "base"
    command = [sys.executable, "scripts/build_base_model.py", "--steps", "2", "--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    card = (folder / "README.md").read_text()
    parameters = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert f"of {parameters:,} parameters" in card
    assert card.count("[0.000, 0.000]") == 6  # pass@1, @8 and @32 at two temperatures, after two steps
