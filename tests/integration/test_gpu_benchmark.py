"""The benchmark for a GPU, run tiny on a CPU: it must work the day that one is to be had."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_dry_run_writes_every_part(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--dry-run", "--output", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, timeout=900)
    parts = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("vocabulary", "step", "batch")}
    assert {"plain log-probs", "entropy"} <= parts["vocabulary"]["table"]["bfloat16"].keys()
    assert parts["step"]["over_trl_alone"].keys() == {"keep_all", "half"}
    assert len(parts["batch"]["table"]["curve"]["entropy"]) == 3
    assert parts["batch"]["table"]["grpo"]["mean_distance"] is None  # there is no curve to be far from
