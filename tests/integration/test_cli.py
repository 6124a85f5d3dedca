"""The command line, run in process: exit statuses, one-line errors, and what is left on disk."""

import json
import shutil
from pathlib import Path

import pytest
from support.commands import run_command

from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import REQUIRED, column_of

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = """
task: {num_problems: 40}
control: {schedule: 0.55, width: 0.02}
train: {steps: 4, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 2}
eval: {every: 2, num_problems: 5, num_samples: 4, k: [1, 4]}
"""


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Return a function that runs a command in an empty folder holding run.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(SMALL)

    return run_command


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("run.yaml").write_text(SMALL)
        result = run_command("train", "run.yaml", "--output", "out")
    assert result.exit_code == 0, result.output
    return folder / "out"


@pytest.fixture
def trained(cli, trained_once):
    """Return a copy of a finished run, to do with as one likes."""
    shutil.copytree(trained_once, "out")
    return RunDirectory(Path("out"))


def columns_unknown_in(run):
    return {name for line in run.metrics() for name in line if column_of(name) is None}


def test_a_run_leaves_everything_that_was_promised(cli, trained):
    names = {child.name for child in trained.path.iterdir()}
    assert {"config.json", "metrics.jsonl", "controller.json", "curve.png", "report.md", "checkpoints"} <= names
    lines = trained.step_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert set(REQUIRED) <= set(line)
        assert line["target"] == 0.55 and line["upper"] - line["lower"] == pytest.approx(0.02)
        assert line["direction"] == (line["entropy"] > line["upper"]) - (line["entropy"] < line["lower"])
        assert 16 <= line["tokens"] <= 16 * 12
        assert "tracking_error" not in line  # which is entropy - target
    assert not columns_unknown_in(trained)
    assert [line["step"] for line in trained.eval_metrics()] == [0, 2, 4]
    assert {"eval/mean@4", "eval/pass@1", "eval/pass@4"} <= set(trained.eval_metrics()[0])
    assert json.loads(trained.controller_file.read_text())["counts"]["decisions"] == 4
    report = trained.report_file.read_text()
    assert "4 of 4 steps" in report and "mean distance from the target" in report and "pass@4" in report
    assert trained.curve_file.read_bytes().startswith(b"\x89PNG")


def test_a_run_is_reproducible_from_its_seed(cli, trained):
    assert cli("train", "run.yaml", "--output", "again").exit_code == 0
    for mine, theirs in zip(trained.metrics(), RunDirectory(Path("again")).metrics(), strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def test_finished_runs_resume_to_themselves_and_are_not_overwritten(cli, trained):
    before = trained.metrics_file.read_text()
    refused = cli("train", "run.yaml", "--output", "out")
    assert refused.exit_code == 2 and "already holds a run" in refused.stderr
    assert cli("train", "run.yaml", "--output", "out", "--resume").exit_code == 0
    assert trained.metrics_file.read_text() == before


def test_trained_runs_can_be_drawn_and_evaluated(cli, trained):
    assert cli("plot", "out", "-o", "pictures/curve.svg").exit_code == 0
    assert "<svg" in Path("pictures/curve.svg").read_text()
    result = cli("eval", "out", "--num-problems", 3, "--num-samples", 4, "--k", "1,4")
    assert result.exit_code == 0 and "pass@4" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_without_control_the_plain_algorithm_runs(cli, algorithm):
    result = cli("train", "run.yaml", "control=null", "train.steps=1", f"train.algorithm={algorithm}", "eval.every=0")
    assert result.exit_code == 0, result.output
    (line,) = RunDirectory(Path("runs/run")).step_metrics()
    assert line["target"] is None and line["kept_fraction"] == 1.0 and line["entropy"] > 0
    assert "No curve was asked for" in Path("runs/run/report.md").read_text()


def test_rloo_and_several_micro_batches_can_be_controlled(cli):
    result = cli(
        "train", "run.yaml", "train.algorithm=rloo", "train.steps=1", "train.micro_batch_size=4", "--output", "r"
    )
    assert result.exit_code == 0, result.output
    assert RunDirectory(Path("r")).step_metrics()[0]["target"] == 0.55


def test_a_dry_run_shows_the_plan_and_writes_nothing(cli):
    result = cli("train", "run.yaml", "--dry-run")
    assert result.exit_code == 0
    assert "steps: 4" in result.output and "4 prompts x 4 rollouts = 16 rollouts" in result.output
    assert "step      0  0.5500" in result.output
    assert [child.name for child in Path().iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_one_that_trl_takes_without_a_gpu(cli, recipe):
    result = cli("train", recipe, "model=countdown-base", "task.num_problems=64", "eval.num_problems=4", "--dry-run")
    assert result.exit_code == 0, result.output


def test_a_schedule_is_shown_and_drawn(cli):
    result = cli("schedule", "linear(0.6, 0.2)", "--steps", 4, "-o", "curve.png")
    assert result.exit_code == 0
    assert "step      4  0.2000" in result.output and Path("curve.png").exists()
    assert cli("schedule", "[[0, 0.6], [1, 0.2]]").exit_code == cli("schedule", "0.5").exit_code == 0


@pytest.mark.parametrize(
    "line",
    [
        "method=token",
        *(
            pytest.param(line, marks=pytest.mark.slow)
            for line in ("method=probabilistic", "rule=budget", "method=aligned", "method=entropic")
        ),
    ],
)
def test_every_method_is_one_line_and_resumes_to_itself(cli, line):
    assert cli("train", "run.yaml", f"control.{line}", "--output", "whole").exit_code == 0
    whole = RunDirectory(Path("whole"))
    assert not columns_unknown_in(whole)
    assert json.loads(whole.controller_file.read_text())["counts"]["decisions"] == 4
    # As if killed between the checkpoint of step 2 and that of step 4.
    shutil.rmtree(whole.checkpoints / "checkpoint-4")
    before = whole.metrics()
    result = cli("train", "run.yaml", f"control.{line}", "--output", "whole", "--resume")
    assert result.exit_code == 0, result.output
    for mine, theirs in zip(whole.metrics(), before, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


@pytest.mark.slow
def test_an_adaptive_schedule_trains_and_resumes(cli):
    arguments = ("train", "run.yaml", "control.schedule=adaptive(linear(0.6, 0.5), patience=2)", "--output", "out")
    assert cli(*arguments).exit_code == 0
    run = RunDirectory(Path("out"))
    before = run.metrics()
    shutil.rmtree(run.checkpoints / "checkpoint-4")
    assert cli(*arguments, "--resume").exit_code == 0
    assert [line.get("target") for line in run.metrics()] == [line.get("target") for line in before]


def test_a_run_can_be_steered_and_says_so(cli, trained):
    shutil.rmtree(trained.checkpoints / "checkpoint-4")
    assert cli("steer", "out", "linear(0.8, 0.4)").exit_code == 0
    resumed = cli("train", "run.yaml", "--output", "out", "--resume")
    assert resumed.exit_code == 0 and "step 3: following the curve of out/steering.yaml" in resumed.output
    assert [line["target"] for line in trained.step_metrics()] == pytest.approx([0.55, 0.55, 0.5, 0.4])
    assert trained.step_metrics()[-1]["upper"] - trained.step_metrics()[-1]["lower"] == pytest.approx(0.02)
    assert json.loads(trained.config_file.read_text())["control"]["schedule"] == 0.55  # what was asked for at first

    mistaken = cli("steer", "out", "linaer(0.8, 0.4)")
    assert mistaken.exit_code == 2 and "did you mean 'linear'" in mistaken.stderr
    assert "0.8" in trained.steering_file.read_text()  # the curve that stood there still does


def test_a_steering_file_that_is_broken_mid_run_stops_nothing(cli, trained):
    shutil.rmtree(trained.checkpoints / "checkpoint-4")
    trained.steering_file.write_text("schedule: [[0, 0.6")
    result = cli("train", "run.yaml", "--output", "out", "--resume")
    assert result.exit_code == 0 and "The curve stays as it was" in result.stderr
    last = trained.step_metrics()[-1]
    assert last["target"] == 0.55 and last["steering_refused"] == 1.0


def test_a_run_without_control_cannot_be_steered(cli):
    cli("train", "run.yaml", "control=null", "train.steps=1", "eval.every=0")
    refused = cli("steer", "runs/run", "0.5")
    assert refused.exit_code == 2 and "without entropy control" in refused.stderr


def test_a_model_that_cannot_be_loaded_leaves_no_run_behind(cli):
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{}")
    result = cli("train", "run.yaml", "model=broken")
    assert result.exit_code == 2 and "cannot load the tokenizer of 'broken'" in result.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["train", "run.yaml", "trian.steps=3"], "did you mean 'train'"),
        (["train", "run.yaml", "train.steps=lots"], "train.steps"),
        (["train", "run.yaml", "control.schedule=linear(0.6"], "not a schedule"),
        (["train", "run.yaml", "control.schedule=-1"], "at least 0"),
        (["train", "run.yaml", "control.schedule=.nan"], "must be finite"),
        (["train", "run.yaml", "control={lower: 0.6, upper: 0.5}"], "lower must not exceed upper"),
        (["train", "run.yaml", "train.micro_batch_size=5"], "must divide the 16 rollouts"),
        (["train", "run.yaml", "train.trl={no_such_argument: 1}"], "TRL refuses"),
        (["train", "run.yaml", "train.trl={generation_batch_size: 18}"], "TRL refuses"),
        (["train", "run.yaml", "train.trl={loss_type: brand_new}"], "unknown train.trl.loss_type 'brand_new'"),
        (["train", "run.yaml", "train.trl={max_steps: 3}"], "train.trl.max_steps is set elsewhere"),
        (["train", "run.yaml", "train.trl={num_iterations: 4}"], "save_every must be a multiple of 4"),
        (["train", "run.yaml", "train.trl={steps_per_generation: 3}", "train.micro_batch_size=8"], "multiple of 3"),
        (["train", "run.yaml", "train.trl={loss_type: foo}", "control=null"], "unknown train.trl.loss_type 'foo'"),
        (["train", "run.yaml", "train.trl={use_adaptive_entropy: true}"], "second controller"),
        (
            ["train", "run.yaml", "train.trl={beta: 0.1}", "train.algorithm=rloo", "control.estimator=grpo"],
            "set beta=0.0",
        ),
        (["train", "run.yaml", "control={method: aligned, predictor: exact}"], "brings its own predictor"),
        (["train", "run.yaml", "control={rule: aligned, visitation: true}"], "sees visitation already"),
        (
            ["train", "run.yaml", "control={method: advantage, visitation: true}"],
            "unknown option of method 'advantage' 'visitation'",
        ),
        (["train", "run.yaml", "control={rule: aligned, aligned_share: 0}"], "whole_model_share must lie in (0, 1]"),
        (["train", "run.yaml", "control={method: budget, min_kept: 2}"], "min_kept must lie in (0, 1]"),
        (["train", "run.yaml", "control={guard: relaxx}"], "did you mean 'relax'"),
        (["train", "run.yaml", "control.run=mine"], "control.run 'mine' is for TRL scripts"),
        (["train", "run.yaml", "control.schedule=adaptive(0.5, patience=1)"], "patience"),
        (
            ["train", "run.yaml", "control={fallback: escalate, entropy_bonus: 0.01}", "train.algorithm=rloo"],
            "or entropy_bonus=0.0",
        ),
        (["steer", "nowhere", "0.5"], "is not a run directory"),
        (["train", "run.yaml", "task.num_problems=3"], "at least 4, the prompts of one batch"),
        (["train", "run.yaml", "control={method: [rejection]}"], "method must be a name"),
        (["train", "run.yaml", "control={method: 3}"], "method must be a name"),
        (
            ["train", "run.yaml", "control={method: reward, reward_baseline: none}"],
            "reward_baseline: input should be a valid number",
        ),
        (
            ["train", "run.yaml", "control={reward_baseline: none}"],
            "unknown option of method 'token' 'reward_baseline'",
        ),
        (["train", "run.yaml", "seed=5000000000"], "seed"),
        (["train", "run.yaml", "--output", "run.yaml/out"], "run.yaml"),
        (["train", "run.yaml", "task.name=countdwon"], "did you mean 'countdown'"),
        (["train", "run.yaml", "task.options={num_numbers: 99}"], "num_numbers must be 2 to 8"),
        (["train", "run.yaml", "task.num_problems=10000000"], "ask for fewer"),
        (["train", "run.yaml", "model=nowhere"], "model 'nowhere' is not there"),
        (["train", "run.yaml", "model=."], "holds no config.json"),
        (["train", "run.yaml", "--output", "run.yaml"], "is a file"),
        (["train", "run.yaml", "--output", "."], "is not empty and holds no run"),
        (["train"], "Missing argument"),
        (["eval", "countdown-base"], "--task is needed"),
        (["eval", "countdown-base", "--task", "maths"], "unknown task"),
        (["eval", "countdown-base", "--task", "countdown", "--k", "64"], "between 1 and --num-samples"),
        (["eval", "countdown-base", "--task", "countdown", "--k", "one"], "numbers with commas"),
        (
            ["eval", "countdown-base", "--task", "countdown", "--temperature", "0"],
            "temperature must be finite and above 0",
        ),
        (["eval", "nowhere", "--task", "countdown"], "model 'nowhere' is not there"),
        (["eval", "countdown-base", "--task", "countdown", "--top-k", "-1"], "top_k must be at least 0"),
        (["eval", "countdown-base", "--task", "countdown", "--output", "."], "holds something else"),
        (["eval", "countdown-base", "nowhere", "--task", "countdown"], "model 'nowhere' is not there"),
        (["eval", "countdown-base", "--task", "countdown", "--backend", "vllm"], "pip install vllm"),
        (["plot", "nowhere", "-o", "x.png"], "is not a run directory"),
        (["schedule", "0.5", "-o", "curve.foo"], "expected an ending such as .png"),
        (["schedule", "1" + "0" * 400], "must be finite"),
        (["schedule", "{[1]: 2}"], "error"),
        (["schedule", "linear(0.6"], "not a schedule"),
        (["schedule", "linaer(0.6, 0.2)"], "did you mean 'linear'"),
    ],
)
def test_mistakes_exit_2_with_one_clear_line_and_leave_nothing(cli, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    last_line = result.stderr.strip().splitlines()[-1]
    assert message in last_line
    assert [child.name for child in Path().iterdir()] == ["run.yaml"]
