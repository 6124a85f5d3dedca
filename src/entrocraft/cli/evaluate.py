"""`entrocraft eval`: how often models are right on held-out problems."""

from pathlib import Path
from typing import Any

import click

from entrocraft.cli.output import say, say_loading, user_errors_exit_2
from entrocraft.errors import InvalidValueError
from entrocraft.grading.pass_at_k import ks_within
from entrocraft.models.sampling_config import MOST_SAMPLES


@click.command(name="eval", short_help="Score models or runs on held-out problems.")
@click.argument("models", metavar="MODEL_OR_RUN...", nargs=-1, required=True)
@click.option("--task", "task_name", help="The task, or a configuration that has one. [default: the run's own]")
@click.option(
    "--num-problems", type=click.IntRange(1, 10_000_000), help="Held-out problems. [default: 200, or all there are]"
)
@click.option(
    "--num-samples",
    type=click.IntRange(1, MOST_SAMPLES),
    default=32,
    show_default=True,
    help="Answers to each problem.",
)
@click.option(
    "--k",
    "ks",
    help="Each k of pass@k and majority@k, with commas. [default: those of 1,8,32 that --num-samples allows]",
)
@click.option("--temperature", type=float, help="Sampling temperature. [default: the benchmark's own, else 1]")
@click.option(
    "--top-p",
    type=float,
    help="Sample from the tokens that make up this probability. [default: the benchmark's own, else 1]",
)
@click.option("--top-k", type=int, help="Sample from this many tokens. [default: the benchmark's own, else all]")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    help="Tokens of an answer, at most. [default: the run's, else what the task needs]",
)
@click.option(
    "--batch-size", type=click.IntRange(1), help="Answers sampled at once. [default: 2^16 tokens of them, at most 1024]"
)
@click.option(
    "--backend",
    type=click.Choice(["transformers", "vllm"]),
    default="transformers",
    show_default=True,
    help="What samples; with vllm no entropy is measured.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder for samples, scores and pictures; goes on there."
)
@user_errors_exit_2
def evaluate(models: tuple[str, ...], ks: str | None, output: Path | None, **settings: Any) -> None:
    """Score models, or runs' newest checkpoints, on held-out problems of a task, and compare them with the first.

    For each: mean@n, pass@k, majority@k, diversity, length and entropy, with 95% intervals over problems.
    """
    numbers = _ks_of(ks, settings["num_samples"])
    say_loading()
    from entrocraft.reports.evaluation import evaluate_models
    from entrocraft.runs import RunDirectory

    for run in (RunDirectory(Path(model)) for model in models):
        if run.exists and (checkpoint := run.last_checkpoint()) is not None:
            say(f"{run.path}: the model of step {checkpoint[0]}")

    click.echo(evaluate_models(models, numbers, output, **settings))


def _ks_of(text: str | None, num_samples: int) -> list[int]:
    """Return the k that are asked for, or the usual ones that so many samples allow."""
    if text is None:
        return [*ks_within(num_samples)]
    try:
        numbers = [int(k) for k in text.split(",")]
    except ValueError as error:
        raise InvalidValueError(f"--k expects numbers with commas, such as 1,8,32, got {text!r}") from error
    if not all(1 <= k <= num_samples for k in numbers):
        raise InvalidValueError(f"--k must lie between 1 and --num-samples ({num_samples}), got {text}")
    return numbers
