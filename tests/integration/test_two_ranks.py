import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def on_two_ranks(script, tiny_model, output):
    """Run a script on two ranks and return what it wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = Path(__file__).with_name(script)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(path.parents[1])}
    done = subprocess.run(
        [*command, str(path), tiny_model, str(output)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((output / "results.json").read_text())


@pytest.fixture(scope="module")
def everything(tiny_model, tmp_path_factory):
    return on_two_ranks("two_ranks.py", tiny_model, tmp_path_factory.mktemp("two_ranks"))


@pytest.fixture(scope="module")
def results(everything):
    return {case: result for case, result in everything.items() if case != "run"}


@pytest.mark.slow
def test_a_run_directory_has_each_step_once_and_the_rollouts_of_both_ranks(everything):
    found = everything["run"]
    assert found["steps"] == [1, 2] and found["rollouts"] == [16, 16] and found["refused"] == [1, 1]


@pytest.mark.slow
def test_predictions_of_the_whole_model_on_two_ranks_are_those_of_one_process(tiny_model, tmp_path):
    results = on_two_ranks("two_ranks_whole_model.py", tiny_model, tmp_path)
    assert results.keys() == {"ddp", "fsdp2"}
    assert results["ddp"]["relative_error"] < 1e-4
    assert results["fsdp2"]["relative_error"] < 0.01  # differences, not derivatives
    assert all(result["identical"] for result in results.values())  # the weights, bit for bit


@pytest.mark.slow
def test_a_surrogate_adds_up_over_two_ranks_which_stay_alike(tiny_model, tmp_path):
    results = on_two_ranks("two_ranks_surrogate.py", tiny_model, tmp_path)
    assert results == {"exchanges": 4, "alike": True, "added_up": True, "differ": True}


@pytest.mark.slow
def test_dropping_is_masking_on_two_ranks_even_if_one_keeps_nothing(results):
    assert len(results) == 16
    for case, result in results.items():
        assert result["size"] > 1e-3, case
        assert result["relative_error"] < 1e-6, case
        assert 0 < result["kept"] < 1, case
        if "one_sided=True" in case:
            assert result["kept"] == 0.25, case


@pytest.mark.slow
def test_entropy_is_measured_over_the_tokens_of_both_ranks(results):
    for case, result in results.items():
        if "micro_batches=1" in case:  # with more, TRL averages the micro-batches' means
            assert result["entropy"] == pytest.approx(result["trl_entropy"], abs=1e-5), case
