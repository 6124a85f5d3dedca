import json

import pytest
from click.testing import CliRunner

from entrocraft.cli import main
from entrocraft.config import parse_config
from entrocraft.control.steering import parse_steering
from entrocraft.runs import RunDirectory
from entrocraft.runs.state import StateFile


def steered(tmp_path, control, *arguments, lines=1):
    """Steer a run that has measured an entropy of 0.5, and return the band that stands in its file, or the error."""
    run = RunDirectory(tmp_path / "run")
    with run.opened(parse_config({"control": control}).to_dict(), resume=False):
        for step in range(1, lines + 1):
            band = {"target": 0.4, "lower": 0.37, "upper": 0.43}
            run.append_metrics({"step": step, "entropy": 0.5 - 0.1 * (step - 1)} | band)
    result = CliRunner().invoke(main, ["steer", str(run.path), *arguments])
    if result.exit_code:
        assert result.exit_code == 2
        return result.stderr
    return parse_steering(run.steering_file.read_text(), 9.0)


IN_MULTIPLES = {"schedule": "linear(1.0, 0.5, unit='initial')", "width": 0.1}


def test_a_width_in_multiples_stays_as_wide_in_nats(tmp_path):
    assert steered(tmp_path, IN_MULTIPLES, "linear(0.6, 0.2)", lines=3).width == pytest.approx(0.05)


def test_a_width_that_is_asked_for_is_taken(tmp_path):
    assert steered(tmp_path, IN_MULTIPLES, "linear(0.6, 0.2)", "--width", "0.2").width == 0.2


def test_the_unit_of_the_run_keeps_its_width(tmp_path):
    assert steered(tmp_path, IN_MULTIPLES, "linear(0.9, 0.2, unit='initial')").width == 0.1


def test_edges_keep_their_distance(tmp_path):
    assert steered(tmp_path, {"lower": 0.37, "upper": 0.43}, "linear(0.6, 0.2)").width == pytest.approx(0.06)


def test_before_the_first_step_the_width_must_be_said(tmp_path):
    assert "say the width, too" in steered(tmp_path, IN_MULTIPLES, "linear(0.6, 0.2)", lines=0)


def test_the_run_of_a_script_is_steered_whatever_its_method_is(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    control = IN_MULTIPLES | {"method": "MethodOfTheScript"}
    run.config_file.write_text(json.dumps({"script": "mine.py", "control": control, "train": {"steps": 9}}))
    run.append_metrics({"step": 1, "entropy": 0.5, "target": 0.4, "lower": 0.37, "upper": 0.43})
    result = CliRunner().invoke(main, ["steer", str(run.path), "0.4"])
    assert result.exit_code == 0, result.output
    assert parse_steering(run.steering_file.read_text(), 9.0).width == pytest.approx(0.05)
    run.config_file.write_text(json.dumps({"script": "mine.py", "control": {"steering": "mine.yaml"}, "train": {}}))
    result = CliRunner().invoke(main, ["steer", str(run.path), "0.4"])
    assert result.exit_code == 2 and "follows mine.yaml" in result.stderr


def test_what_is_said_of_a_run_is_true_of_it(tmp_path):
    said = {}
    for why in (None, "completed", "stopped by SIGTERM"):
        run = RunDirectory(tmp_path / str(why))
        with run.opened(parse_config({"control": 0.5}).to_dict(), resume=False):
            state = StateFile(run.state_file)
            state.begin()
            if why is not None:
                state.end(0, why)
        result = CliRunner().invoke(main, ["steer", str(run.path), "0.4"])
        said[why] = result.output
        assert result.exit_code == 0 and run.steering_file.exists()
    assert "takes it up at its next decision" in said[None]
    assert "when it goes on with --resume-from STEP: it has made all of its steps" in said["completed"]
    assert "takes it up when it goes on with --resume" in said["stopped by SIGTERM"]
