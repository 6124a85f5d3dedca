"""A TRL script that keeps a run directory: what it writes, what reads it, and what is refused."""

import json

import pytest
from click.testing import CliRunner
from support.trainers import controller_of, train_logs
from transformers import TrainerCallback

import entrocraft as ec
from entrocraft.app.library import Library
from entrocraft.app.overview import overview
from entrocraft.cli import main
from entrocraft.config import parse_config
from entrocraft.control import EntropyControl
from entrocraft.engines.trl import EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer
from entrocraft.errors import InvalidValueError, RunDirectoryError
from entrocraft.models import load_model
from entrocraft.runs import RunDirectory
from entrocraft.runs.state import COMPLETED, read_state

CURVE = {"schedule": "linear(1.0, 0.7, unit='initial')", "width": 0.1}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "mine")


@pytest.fixture
def trainer_for(make_trainer, run):
    """Return what makes a trainer that keeps the run."""

    def make(*, steps=4, config=None, control=CURVE, trainer_class=EntropyControlledGRPOTrainer, **kwargs):
        return make_trainer(
            trainer_class,
            config={"max_steps": steps} | (config or {}),
            entropy_control=control | {"run": str(run.path)},
            record=False,
            **kwargs,
        )

    return make


def command(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


def steps_in(file):
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


class At(TrainerCallback):
    """Does something once a step is made."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.do()


@pytest.mark.slow
def test_a_script_leaves_a_run_that_commands_and_the_page_read(trainer_for, run, tmp_path):
    seen = {}

    def bend():
        seen["steer"] = command("steer", run.path, "0.123", "--width", "0.01")
        seen["page"] = overview("mine", Library(run.path.parent).run("mine"))

    trainer = trainer_for(
        steps=9,
        model=load_model("countdown-base"),
        config={"learning_rate": 1e-4},
        callbacks=[At(5, bend)],
        control=CURVE | {"method": "budget"},
    )
    trainer.train()
    lines, logs = run.step_metrics(), train_logs(trainer)
    assert [line["step"] for line in lines] == [*range(1, 10)] == steps_in(run.rollouts_file)
    for name in ("entropy", "target", "upper", "kept_fraction"):
        assert [line[name] for line in lines] == [log[f"entrocraft/{name}"] for log in logs]
    assert [line["reward"] for line in lines] == [log["reward"] for log in logs]
    assert lines[0]["target"] == pytest.approx((1 - 0.3 / 9) * lines[0]["entropy"])
    # Bent after step 5, while it ran; the curve of the sixth step is the new one.
    assert seen["steer"][0] == 0 and "takes it up at its next decision" in seen["steer"][1]
    assert [line["target"] == 0.123 for line in lines] == [False] * 5 + [True] * 4
    assert seen["page"]["state"] == "running" and seen["page"]["steerable"] and seen["page"]["stops_at"] is None
    assert read_state(run.state_file).why == COMPLETED

    config = run.config()
    assert config["control"] == CURVE | {"method": "budget", "aggregation": "token_mean"}
    assert config["train"]["steps"] == 9 and config["train"]["trl"] == {"optim": "adamw_torch_fused", "adam_beta1": 0.9}
    code, output = command("explain", run.path)
    assert code == 0 and "from step 1 to 9" in output, output
    picture = tmp_path / "picture.png"
    assert command("plot", run.path, "-o", picture)[0] == 0 and picture.stat().st_size > 10_000
    assert "9 of 9" in command("list", "runs", run.path.parent)[1]

    library = Library(run.path.parent)
    (summary,) = library.summaries()
    said = {name: summary[name] for name in ("name", "kind", "state", "step", "steps", "curve", "method", "engine")}
    assert said == {
        "name": "mine",
        "kind": "run",
        "state": "done",
        "step": 9,
        "steps": 9,
        "curve": True,
        "method": "budget",
        "engine": "trl",
    }
    page = overview("mine", library.run("mine"))
    assert page["nats_per_unit"] == lines[0]["entropy"] and page["steered"] and page["unit"] == "nats"
    assert page["rollout_steps"] == [*range(1, 10)] and page["problem"] is None


@pytest.mark.slow
@pytest.mark.parametrize("trainer_class", [EntropyControlledGRPOTrainer, EntropyControlledRLOOTrainer])
def test_a_run_goes_on_without_a_step_twice(trainer_for, run, tmp_path, trainer_class):
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer_for(config=saving, trainer_class=trainer_class).train()
    before = run.metrics_file.read_text().splitlines()
    (run.path / "notes.txt").write_text("mine")
    kept = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    resumed = trainer_for(steps=5, config=saving, trainer_class=trainer_class)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    after = run.metrics_file.read_text().splitlines()
    assert after[:2] == before[:2] and steps_in(run.metrics_file) == steps_in(run.rollouts_file) == [1, 2, 3, 4, 5]
    assert run.config()["train"]["steps"] == 5 and read_state(run.state_file).why == COMPLETED
    assert (run.path / "notes.txt").read_text() == "mine" and all(path.exists() for path in kept)
    algorithm = "rloo" if trainer_class is EntropyControlledRLOOTrainer else "grpo"
    assert run.config()["train"]["algorithm"] == algorithm


@pytest.mark.slow
def test_another_run_is_refused_before_training_and_stays_as_it_was(trainer_for, run, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer_for(steps=2, config=saving).train()
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    again = trainer_for(steps=2)
    with pytest.raises(RunDirectoryError, match=r"already holds a run, to step 2: .*resume_from_checkpoint=True\), or"):
        again.train()
    other = trainer_for(steps=4, control={"schedule": 0.5})
    with pytest.raises(RunDirectoryError, match=r"was begun with control\.schedule=.*, now 0\.5: a resumed run must"):
        other.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert again.state.global_step == other.state.global_step == 0
    assert {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_how_a_training_ended_is_said_and_one_without_a_step_may_begin_anew(trainer_for, run, monkeypatch):
    def broken(**kwargs):
        raise KeyError("no such answer")

    trainer = trainer_for(steps=2)
    monkeypatch.setattr(trainer, "reward_funcs", [broken])
    with pytest.raises(KeyError):
        trainer.train()
    assert read_state(run.state_file).why == "error: 'no such answer'" and run.config()["train"]["steps"] == 2
    assert Library(run.path.parent).summaries()[0]["state"] == "failed"

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer_for(steps=3, callbacks=[At(2, interrupt)]).train()
    (summary,) = Library(run.path.parent).summaries()
    assert (summary["state"], summary["why"], summary["step"]) == ("stopped", "stopped by SIGINT", 1)
    assert "when its script goes on with it" in command("steer", run.path, "0.5", "--width", "0.1")[1]


@pytest.mark.slow
def test_of_steps_that_are_not_logged_there_is_no_line(trainer_for, run):
    trainer = trainer_for(steps=5, config={"logging_steps": 2})
    trainer.train()
    lines, logs = run.step_metrics(), train_logs(trainer)
    assert [line["step"] for line in lines] == [2, 4] and steps_in(run.rollouts_file) == [1, 2, 3, 4, 5]
    assert [line["entropy"] for line in lines] == [log["entrocraft/entropy"] for log in logs]
    code, output = command("explain", run.path)
    assert code == 2 and "log every step" in output
    assert Library(run.path.parent).summaries()[0]["state"] == "done"


@pytest.mark.slow
def test_a_controller_of_ones_own_is_named_with_its_band(make_trainer, run):
    class Watch(ec.Method):
        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

    controller = controller_of(Watch(), ec.Band(0.4, width=0.2))
    control = {"schedule": 0.9, "run": str(run.path)}
    trainer = make_trainer(EntropyControlledGRPOTrainer, entropy_control=control, entropy_controller=controller)
    trainer.train()
    assert run.config()["control"] == {
        "schedule": {"type": "constant", "value": 0.4},
        "width": 0.2,
        "aggregation": "token_mean",
        "method": "Watch",
    }
    page = overview("mine", Library(run.path.parent).run("mine"))
    assert page["method"] == "Watch" and page["knots"] == [(0.0, 0.4), (1.0, 0.4)]


def of_the_command_line(run, tmp_path):
    with run.opened(parse_config({}).to_dict(), resume=False):
        run.append_metrics({"step": 1, "entropy": 0.5})


def of_something_else(run, tmp_path):
    run.path.mkdir(parents=True)
    (run.path / "thesis.tex").touch()


def a_file(run, tmp_path):
    run.path.parent.mkdir(parents=True)
    run.path.touch()


@pytest.mark.parametrize(
    ("before", "config", "message"),
    [
        (of_the_command_line, {}, "holds a run of the command line; give `run` another folder"),
        (of_something_else, {}, "is not empty, and holds no run of a script; give `run` another folder"),
        (a_file, {}, "is a file, expected a folder; give `run` another folder"),
        (None, {"logging_strategy": "no"}, "logging_strategy='no'.*set logging_steps=1"),
        (None, {"output_dir": "RUN"}, "is TRL's output_dir, too, .*give `run` a folder of its own, such as"),
    ],
)
def test_what_can_be_no_run_of_a_script_is_refused_before_the_model_loads(
    trainer_for, run, tmp_path, before, config, message
):
    if before is not None:
        before(run, tmp_path)
    config = {name: str(run.path) if value == "RUN" else value for name, value in config.items()}
    there = sorted(run.path.rglob("*"))
    with pytest.raises(RunDirectoryError, match=message):
        trainer_for(config=config, model="no/such/model")
    assert sorted(run.path.rglob("*")) == there


def test_files_of_ones_own_stay_where_they_were_asked_for(trainer_for, run, tmp_path):
    mine = {"steering": str(tmp_path / "curve.yaml"), "rollouts": str(tmp_path / "rollouts.jsonl")}
    control = trainer_for(control=CURVE | mine).entropy_control
    assert (control.steering, control.rollouts) == (mine["steering"], mine["rollouts"])
    control = trainer_for().entropy_control
    assert (control.steering, control.rollouts) == (str(run.steering_file), str(run.rollouts_file))
    assert not run.path.exists()


def test_what_is_for_runs_of_the_command_line_says_so_of_a_scripts(run):
    run.path.mkdir(parents=True)
    run.config_file.write_text(json.dumps({"script": "mine.py", "control": CURVE, "train": {"steps": 9}}))
    of_commands = (
        ["eval", run.path],
        ["diagnose", run.path, "--task", "countdown"],
        ["export", run.path, run.path / "m"],
    )
    for words in of_commands:
        code, output = command(*words)
        assert code == 2 and "it is that of a run of the script 'mine.py', which alone knows" in output
    with pytest.raises(InvalidValueError, match=r"run must be the path of a folder, got 3"):
        EntropyControl(run=3)
