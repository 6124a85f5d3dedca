"""The command line. Heavy imports wait until a command needs them, so `--help` is instant."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from entrocraft import __version__
from entrocraft.cli.output import describe_curve, sparkline, table, user_errors_exit_2
from entrocraft.errors import InvalidValueError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Draw the entropy curve; reinforcement learning follows it."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.showwarning = lambda message, *_, **__: click.echo(f"entrocraft: warning: {message}", err=True)


@main.command()
@click.argument("config_file", metavar="CONFIG.yaml", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[key.path=value]...", nargs=-1)
@click.option("--output", type=click.Path(path_type=Path), help="Run directory. [default: runs/CONFIG]")
@click.option("--resume", is_flag=True, help="Go on with the run in the output directory, if there is one.")
@click.option("--dry-run", is_flag=True, help="Check and show what would run; train nothing, write nothing.")
@user_errors_exit_2
def train(config_file: Path, overrides: tuple[str, ...], output: Path | None, resume: bool, dry_run: bool) -> None:
    """Train as CONFIG.yaml says.

    Exit status: 0 done; 2 a mistake in the request; 130 or 143 stopped by Ctrl-C or SIGTERM, resumable.
    """
    from entrocraft.config import load_config
    from entrocraft.runs import RunDirectory

    config = load_config(config_file, overrides)
    run = RunDirectory(output or Path("runs") / config_file.stem)
    training = _import_training()
    if dry_run:
        _describe(training.plan_run(config, run), run)
        return
    outcome = training.train(config, run, resume=resume)
    if outcome.stopped_by is not None:
        name = signal.Signals(outcome.stopped_by).name
        click.echo(f"stopped by {name} after step {outcome.steps}; go on with --resume", err=True)
        sys.exit(128 + outcome.stopped_by)
    click.echo(f"done: {run.report_file}")


@main.command(name="eval")
@click.argument("models", metavar="MODEL_OR_RUN...", nargs=-1, required=True)
@click.option("--task", "task_name", help="The task, or a configuration that has one. [default: the run's own]")
@click.option("--num-problems", type=click.IntRange(1), help="Held-out problems. [default: 200, or all there are]")
@click.option("--num-samples", type=click.IntRange(1), default=32, show_default=True)
@click.option("--k", "ks", default="1,8,32", show_default=True, help="The k of pass@k and majority@k, with commas.")
@click.option("--temperature", type=float, help="[default: the benchmark's own, else 1]")
@click.option("--top-p", type=float, help="[default: the benchmark's own, else 1]")
@click.option("--top-k", type=int, help="Only the so many likeliest tokens. [default: the benchmark's own, else all]")
@click.option("--max-tokens", type=click.IntRange(1), help="Of an answer. [default: what the task needs]")
@click.option(
    "--batch-size", type=click.IntRange(1), help="Answers drawn at once. [default: 2^16 tokens of them, 1024 at most]"
)
@click.option("--backend", type=click.Choice(["transformers", "vllm"]), default="transformers", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for samples, scores and pictures; resumes there."
)
@user_errors_exit_2
def evaluate(models: tuple[str, ...], ks: str, output: Path | None, **settings: Any) -> None:
    """Score models, or runs' newest checkpoints, on held-out problems of a task, and compare them with the first."""
    try:
        numbers = [int(k) for k in ks.split(",")]
    except ValueError as error:
        raise InvalidValueError(f"--k expects numbers with commas, such as 1,8,32, got {ks!r}") from error
    if not all(1 <= k <= settings["num_samples"] for k in numbers):
        raise InvalidValueError(f"--k must lie between 1 and --num-samples ({settings['num_samples']}), got {ks}")

    from entrocraft.reports.evaluation import evaluate_models

    click.echo(evaluate_models(models, numbers, output, **settings))


@main.command()
@click.argument("model", metavar="MODEL_OR_RUN")
@click.option("--task", "task_name", required=True, help="The task, or a configuration that has one.")
@click.option("--num-prompts", type=click.IntRange(2), default=32, show_default=True)
@click.option("--num-rollouts", type=click.IntRange(2), default=8, show_default=True, help="Rollouts per prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Of a rollout. [default: what the task needs]")
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Rollouts generated at once.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for diagnosis.json and diagnosis.png.")
@user_errors_exit_2
def diagnose(
    model: str,
    task_name: str,
    num_prompts: int,
    num_rollouts: int,
    max_tokens: int | None,
    temperature: float,
    batch_size: int,
    seed: int,
    output: Path | None,
) -> None:
    """Say, before training, where entropy starts, how noisy it is, which rule fits, and what to begin with."""
    from entrocraft.analysis import diagnosis
    from entrocraft.config import task_from
    from entrocraft.models.sampling_config import SamplingConfig
    from entrocraft.runs import model_path_of

    task = task_from(task_name)
    SamplingConfig(temperature=temperature)  # refused before the model loads
    if output is not None:
        from entrocraft.reports.plots.diagnosis import draw_diagnosis
        from entrocraft.reports.plots.style import write_picture

        if output.exists() and not output.is_dir():
            raise InvalidValueError(f"--output expects a folder, and {output} is a file")
    source = model_path_of(model)

    from entrocraft.models import best_device, context_length, load_model, load_tokenizer
    from entrocraft.models.prompts import check_prompts
    from entrocraft.reports.diagnosis import describe

    settings: dict[str, Any] = {"num_prompts": num_prompts, "num_rollouts": num_rollouts, "max_tokens": max_tokens}
    settings |= {"temperature": temperature, "batch_size": batch_size, "seed": seed}
    tokenizer = load_tokenizer(source)
    problems = task.problems("train", num_prompts, seed)
    check_prompts(task, problems, tokenizer, context_length(source), max_tokens or task.max_completion_tokens)
    policy = load_model(source).to(best_device())
    found = diagnosis.diagnose(policy, tokenizer, task, **settings)
    click.echo(f"{model} on {task.name}, temperature {temperature:g}")
    click.echo(describe(found))
    if output is not None:
        options = " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value is not None
        )
        command = f"entrocraft diagnose {model} --task {task_name} {options}"
        data = {"command": command, "model": model, "task": task.name} | settings | found.to_dict()
        output.mkdir(parents=True, exist_ok=True)
        (output / "diagnosis.json").write_text(json.dumps(data, allow_nan=False) + "\n")
        write_picture(draw_diagnosis(found, f"{model} on {task.name}"), output / "diagnosis.png")
        click.echo(f"wrote {output / 'diagnosis.json'} and {output / 'diagnosis.png'}")


@main.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--momentum", type=float, default=0.9, show_default=True, help="The optimizer's: Adam's beta1.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Draw it to this picture, too.")
@user_errors_exit_2
def explain(run: Path, momentum: float, output: Path | None) -> None:
    """Say why entropy moved in a run: by which quadrants, by drift, and what the filter did about it."""
    from entrocraft.analysis import explanation
    from entrocraft.reports.explanation import describe
    from entrocraft.runs import RunDirectory

    directory = RunDirectory(run)
    directory.config()  # refuses what is no run
    lines = directory.step_metrics()
    found = explanation.explain(lines, momentum)
    click.echo(describe(found))
    if output is not None:
        from entrocraft.reports.plots.explanation import draw_explanation
        from entrocraft.reports.plots.style import write_picture

        write_picture(draw_explanation(found, lines, f"Why entropy moved: {directory.path.name}"), output)
        click.echo(f"wrote {output}")


@main.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--push", "repo_id", metavar="REPO_ID", help="Upload it to this repository on the hub, too.")
@click.option("--public", is_flag=True, help="Anyone may see that repository, if it is new.")
@user_errors_exit_2
def export(run: Path, folder: Path, repo_id: str | None, public: bool) -> None:
    """Save a run's model to FOLDER, as transformers does, with a model card of its curve, scores and settings."""
    from entrocraft.reports import model_card as exporting
    from entrocraft.runs import RunDirectory

    exporting.export(RunDirectory(run), folder)
    click.echo(f"wrote {folder}")
    if repo_id is not None:
        click.echo(f"pushed to {exporting.push(folder, repo_id, private=not public)}")


@main.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("spec", metavar="SPEC")
@click.option("--width", type=float, help="Of the band around it. [default: the run's own]")
@user_errors_exit_2
def steer(run: Path, spec: str, width: float | None) -> None:
    """Bend the curve of a running job: from its next decision on it follows SPEC, such as 'linear(0.6, 0.3)'.

    SPEC is drawn over the whole run, as in its configuration. The file that this writes, steering.yaml in the run
    directory, may as well be edited by hand.
    """
    from entrocraft.config import parse_config
    from entrocraft.control.steering import parse_steering, write_steering
    from entrocraft.runs import RunDirectory

    directory = RunDirectory(run)
    control = parse_config(directory.config()).control
    if control is None:
        raise InvalidValueError(f"{run} runs without entropy control: there is nothing to steer")
    if control.steering is not None:
        raise InvalidValueError(f"{run} follows {control.steering}, as its configuration says: write the curve there")
    band = parse_steering(spec, control.band_width if width is None else width)
    write_steering(directory.steering_file, band)
    click.echo(f"wrote {directory.steering_file}; the run takes it up at its next decision")


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .png, .svg or .pdf file.")
@user_errors_exit_2
def plot(runs: tuple[Path, ...], output: Path) -> None:
    """Draw runs over each other: entropy with its target, over reward and scores."""
    from entrocraft.reports.plots.runs import draw_runs
    from entrocraft.runs import RunDirectory

    directories = [RunDirectory(path) for path in runs]
    for directory in directories:
        directory.config()  # refuses what is no run
    draw_runs(directories, output)
    click.echo(f"wrote {output}")


@main.command()
@click.argument("spec", metavar="SPEC")
@click.option("--steps", "num_steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Draw it to this picture, too.")
@user_errors_exit_2
def schedule(spec: str, num_steps: int, output: Path | None) -> None:
    """Show a schedule such as 'linear(0.6, 0.2)', 0.5 or '[[0, 0.6], [1, 0.2]]'."""
    import yaml

    from entrocraft.schedules import schedule_from
    from entrocraft.yaml_text import read_yaml

    try:
        value = read_yaml(spec)
    except yaml.YAMLError:
        value = spec
    curve = schedule_from(value)
    click.echo(json.dumps(curve.to_dict()))
    click.echo(sparkline(curve.values(60)))
    click.echo(table(curve.values(num_steps)))
    if output is not None:
        from entrocraft.reports.plots.curves import plot as draw
        from entrocraft.reports.plots.style import write_picture

        axes: Any = draw(curve, num_steps)
        write_picture(axes.figure, output)
        click.echo(f"wrote {output}")


def _import_training() -> Any:
    try:
        from entrocraft import training
    except ImportError as error:
        raise InvalidValueError(f"training needs TRL: pip install 'entrocraft[trl]' ({error})") from error
    return training


def _describe(plan: Any, run: Any) -> None:
    """Print the resolved configuration, the curve and the arithmetic of the batch."""
    import yaml

    config, train_config = plan.config, plan.config.train
    click.echo(yaml.safe_dump(config.to_dict(), sort_keys=False).rstrip())
    if config.control is None:
        click.echo("\nno entropy control")
    else:
        click.echo(f"\n{describe_curve(config.control.band(), train_config.steps)}")
    args, rollouts = plan.trl_args, train_config.rollouts_per_step
    total = rollouts * train_config.steps
    problems_seen = train_config.prompts_per_step * train_config.steps / len(plan.train_problems)
    click.echo(
        f"\n{train_config.prompts_per_step} prompts x {train_config.rollouts_per_prompt} rollouts = {rollouts} rollouts "
        f"a step, in {args.gradient_accumulation_steps} micro-batches of {args.per_device_train_batch_size}, "
        f"{plan.prompts_per_generation} prompts in each batch of rollouts\n"
        f"{train_config.steps} steps, {total:,} rollouts of up to {args.max_completion_length} tokens, each of "
        f"{len(plan.train_problems):,} problems seen {problems_seen:.1f} times\n"
        f"a checkpoint every {train_config.save_every} steps; output goes to {run.path}"
    )
