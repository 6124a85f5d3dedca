import json
import os
import subprocess
import sys
import time

import pytest
from support.page import CONFIG, rollout_line, step_line

from entrocraft.app.happenings import evaluated, happenings
from entrocraft.app.overview import overview
from entrocraft.app.recorded import RecordedRun, Standing
from entrocraft.control.steering import write_steering
from entrocraft.schedules import Band, linear


def recorded(run):
    found = RecordedRun(run.path)
    found.update()
    return found


def config_with(control=..., **train):
    config = json.loads(json.dumps(CONFIG))
    config["train"] |= train
    if control is not ...:
        config["control"] = control
    return config


# ---- how it stands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "state"),
    [
        (None, "running"),
        ("completed", "done"),
        ("stopped by SIGTERM", "stopped"),
        ("error: the disk is full", "failed"),
    ],
)
def test_a_run_stands_as_its_process_says(make_run, why, state):
    standing = recorded(make_run(why=why)).standing()
    assert standing.state == state and standing.why == (None if state in ("running", "done") else why)


def test_a_process_that_died_without_a_word_leaves_a_run_that_can_go_on(make_run):
    run = make_run(why=None)
    state = json.loads(run.state_file.read_text())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    run.state_file.write_text(json.dumps(state | {"pid": child.pid}))
    assert recorded(run).standing().state == "stopped"


def test_without_a_state_the_steps_tell(make_run):
    done, stopped = make_run("done"), make_run("stopped", [step_line(1)])
    for run in (done, stopped):
        run.state_file.unlink()
    assert recorded(done).standing() == Standing("done")
    assert recorded(stopped).standing().state == "stopped"


def test_a_run_whose_settings_cannot_be_read_is_broken(make_run):
    run = make_run()
    run.config_file.write_text("{")
    standing = recorded(run).standing()
    assert standing.state == "broken" and "config.json cannot be read" in standing.why


def test_what_is_expected_holds_until_the_process_speaks(make_run):
    run = recorded(make_run(why="stopped by SIGTERM"))
    run.expected = Standing("running", "it loads", since=time.time() + 60)
    assert run.standing().why == "it loads"
    run.expected = Standing("running", "it loads", since=time.time() - 60)
    assert run.standing().state == "stopped"


def test_a_run_of_verl_goes_on_as_long_as_lines_come(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 1, "data": {"actor/entropy": 0.5}}) + "\n")
    run = RecordedRun(tmp_path)
    run.update()
    assert run.standing().state == "running" and run.engine == "verl" and run.total_steps is None
    os.utime(file, (1.0, 1.0))
    assert run.standing().state == "done"
    assert "verl" in run.why_not_steerable()


def test_rollouts_of_verl_are_found_where_verl_saves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": {"entrocraft/entropy": 0.5}}) + "\n")
    run = RecordedRun(tmp_path)
    run.update()
    assert run.rollouts.steps == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "rollouts.jsonl").write_text(json.dumps(rollout_line(1)) + "\n")
    run.update()
    assert run.rollouts.steps == [1]
    found = overview("one", run)
    assert (found["engine"], found["config"], found["steps"], found["curve"]) == ("verl", None, None, None)
    assert found["rollout_steps"] == [1] and found["step"] == 1


@pytest.mark.parametrize(
    ("train", "stops_at"),
    [
        ({}, 3),  # a batch of rollouts for each step
        ({"micro_batch_size": 2, "trl": {"steps_per_generation": 6}}, 3),  # 2 a step, 6 a batch: every third step
        ({"trl": {"num_iterations": 2}}, 4),  # each batch is used for two steps
        ({"trl": {"generation_batch_size": 12}}, 3),
        ({"steps": 3, "trl": {"num_iterations": 4}}, 3),  # the end comes first
    ],
)
def test_a_stop_comes_after_the_step_at_which_nothing_is_in_flight(make_run, train, stops_at):
    run = recorded(make_run(lines=[step_line(1), step_line(2)], config=config_with(**train), why=None))
    assert run.stops_at == stops_at


def test_what_does_not_run_stops_nowhere(make_run):
    assert recorded(make_run()).stops_at is None


# ---- what it follows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "algorithm", "method", "estimator"),
    [
        ({"schedule": 0.5}, "grpo", "token", "grpo"),
        ({"schedule": 0.5}, "rloo", "budget", "rloo"),
        ({"method": "entropic", "estimator": "maxrl"}, "grpo", "entropic", "maxrl"),
        (
            {"method": {"name": "token", "min_kept": 0.2}, "estimator": {"name": "w_reinforce"}},
            "grpo",
            "token",
            "w_reinforce",
        ),
        ({"rule": "sign"}, "grpo", "sign", "grpo"),
        ({"method": "rejection", "rule": "predicted"}, "grpo", "predicted", "grpo"),
        ("linear(0.6, 0.4)", "grpo", "token", "grpo"),
        (None, "grpo", None, "grpo"),
    ],
)
def test_method_and_estimator_are_named_as_they_are_used(make_run, control, algorithm, method, estimator):
    run = recorded(make_run(config=config_with(control, algorithm=algorithm)))
    assert (run.method, run.estimator) == (method, estimator)


def test_one_multiple_is_the_entropy_measured_first_under_control(make_run):
    lines = [step_line(1) | {"entropy": None}, step_line(2, 0.625), step_line(3, 0.5)]
    assert recorded(make_run(lines=lines)).nats_per_unit == 0.625
    assert recorded(make_run("new", [])).nats_per_unit is None


def test_the_curve_is_in_nats_over_the_whole_run(make_run):
    found = overview("one", recorded(make_run(lines=[step_line(1, 0.5)])))
    assert found["unit"] == "initial" and found["width"] == 0.1 and found["nats_per_unit"] == 0.5
    assert found["curve"]["target"] == pytest.approx([0.5, 0.4375, 0.375, 0.3125, 0.25])
    assert found["curve"]["lower"] == pytest.approx([0.475, 0.4125, 0.35, 0.2875, 0.225])
    assert found["knots"] == [(0.0, 1.0), (1.0, 0.5)] and found["kind"] == "linear" and not found["steered"]


def test_before_anything_is_measured_a_relative_curve_has_no_nats(make_run):
    found = overview("one", recorded(make_run(lines=[])))
    assert found["curve"] is None and found["knots"] == [(0.0, 1.0), (1.0, 0.5)]


def test_the_curve_that_was_written_mid_run_takes_the_place_of_its_own(make_run):
    run = make_run(why=None)
    write_steering(run.steering_file, Band(linear(0.6, 0.3), width=0.02))
    found = overview("one", recorded(run))
    assert found["steered"] and found["unit"] == "nats" and found["knots"] == [(0.0, 0.6), (1.0, 0.3)]
    run.steering_file.write_text("linaer(1, 2)")
    assert overview("one", recorded(run))["unit"] == "initial"  # the run stays on its own curve, too


@pytest.mark.parametrize(
    ("control", "why", "said"),
    [
        ({"schedule": 0.5}, None, None),
        ({"schedule": 0.5}, "stopped by SIGTERM", None),
        ({"schedule": 0.5}, "completed", "it is done"),
        ({"schedule": 0.5, "steering": "mine.yaml"}, None, "it follows mine.yaml"),
        ({"method": "clip_higher"}, None, "clip_higher, follows no curve"),
        ({"method": {"name": "clip_b", "follow": True}}, None, None),
        (None, None, "without entropy control"),
    ],
)
def test_what_cannot_be_steered_says_why(make_run, control, why, said):
    found = recorded(make_run(config=config_with(control), why=why)).why_not_steerable()
    assert found is None if said is None else said in found


def test_an_overview_counts_seconds_and_those_left(make_run):
    lines = [step_line(1, seconds=4.0, entropy_stderr=0.02), step_line(2, seconds=2.0, entropy_stderr=0.01)]
    found = overview("one", recorded(make_run(lines=lines, why=None)))
    assert found["seconds"] == 6.0 and found["seconds_left"] == 6.0  # two more steps at 3 seconds
    assert found["noise"] == pytest.approx(0.015)
    assert overview("two", recorded(make_run("two", lines)))["seconds_left"] is None


def test_a_script_that_logs_every_tenth_step_is_told_the_time_of_its_steps(make_run):
    config = {"script": "mine.py", "control": {"schedule": 0.5}, "train": {"steps": 50}}
    lines = [step_line(step, seconds=20.0) for step in (10, 20)]
    found = overview("one", recorded(make_run(lines=lines, config=config, why=None)))
    assert found["seconds"] == 40.0 and found["seconds_left"] == 60.0  # thirty more steps at 2 seconds
    assert found["steerable"] and found["stops_at"] is None  # nobody here stops it
    (once,) = [overview("two", recorded(make_run("two", lines[:1], config=config, why=None)))]
    assert once["seconds_left"] == 80.0


def test_an_overview_has_evaluations_under_the_names_of_measures(make_run):
    lines = [{"step": 0, "eval/mean@2": 0.25, "eval/mean@2/low": 0.125}, step_line(1)]
    found = overview("one", recorded(make_run(lines=lines)))
    assert found["evaluations"] == [{"step": 0, "mean@2": 0.25, "mean@2_low": 0.125}]
    assert found["events"][0] == {"step": 0, "kind": "evaluation", "text": "held-out problems: mean@2 0.250"}


# ---- what happened ---------------------------------------------------------------------------------------


def kinds(rows, before=None):
    return [(each["step"], each["kind"]) for each in happenings(iter(rows), before)]


def test_leaving_the_band_and_coming_back_is_told_once():
    sides = [0.0, 1.0, 1.0, 0.0, -1.0, 1.0, 0.0]
    rows = [step_line(step, direction=side) for step, side in enumerate(sides, start=1)]
    assert kinds(rows) == [(2, "above"), (4, "inside"), (5, "below"), (6, "above"), (7, "inside")]
    assert kinds(rows[2:3], rows[1]) == []  # already above before


def test_without_a_target_there_is_no_band_to_leave():
    assert kinds([step_line(1, direction=1.0, target=None)]) == []


def test_curves_taken_up_or_refused_are_told_with_their_step():
    rows = [
        step_line(1, direction=0.0, steering_accepted=0.0, steering_refused=0.0),
        step_line(2, direction=0.0, steering_accepted=1.0, steering_refused=0.0),
        step_line(3, direction=0.0, steering_accepted=1.0, steering_refused=1.0),
        step_line(4, direction=0.0, steering_accepted=0.0, steering_refused=0.0),  # resumed: counted anew
        step_line(5, direction=0.0, steering_accepted=1.0, steering_refused=0.0),
    ]
    found = [(each["step"], each["accepted"]) for each in happenings(iter(rows))]
    assert found == [(2, True), (3, False), (5, True)]


def test_the_guard_is_told_when_it_begins_to_see_something():
    counts = [0.0, 1.0, 2.0, 2.0, 3.0]
    rows = [step_line(step, direction=0.0, guard_out_of_reach=count) for step, count in enumerate(counts, start=1)]
    assert kinds(rows) == [(2, "guard")]


def test_an_evaluation_names_its_scores_without_their_intervals():
    line = {"step": 3, "eval/pass@8": 0.5, "eval/pass@8/low": 0.25, "eval/mean@8": None}
    assert evaluated(line)["text"] == "held-out problems: pass@8 0.500"
