"""`entrocraft demo`: one training without a curve, one with, and both in one picture."""

import signal
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from entrocraft.cli.output import say, say_loading, user_errors_exit_2
from entrocraft.errors import MissingDependencyError

if TYPE_CHECKING:
    from entrocraft.runs import RunDirectory

ARMS = {"grpo": ("GRPO, without control", ["control=null"]), "entrocraft": ("GRPO along the curve", [])}
"""By name of the run's directory: what it is, and what it changes in the recipe."""


@click.command(short_help="Train with and without a curve, in minutes.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Folder of both runs.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of problems and answers.")
@click.option("--steps", type=click.IntRange(1), help="Optimizer steps of each. [default: the recipe's 100]")
@user_errors_exit_2
def demo(output: Path, seed: int, steps: int | None) -> None:
    """Train a small model without and with a curve, on a CPU, and draw both into comparison.png.

    Both are configured with a learning rate that is too high; the curve slows the second down, as entropy asks for.

    The model comes with the package: nothing is downloaded.

    Some seven minutes on two cores. The same command goes on where it was stopped.

    Exit status: 0 done; 2 a mistake in the request; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP, resumable.
    """
    say_loading()
    from entrocraft.cli.train import import_training
    from entrocraft.config import load_config
    from entrocraft.runs import RunDirectory

    training = import_training()
    has_pictures = _can_draw()
    settings = [f"seed={seed}", *([] if steps is None else [f"train.steps={steps}"])]
    recipe = Path(str(files("entrocraft") / "assets" / "recipes" / "countdown.yaml"))
    runs = []
    for number, (name, (title, changes)) in enumerate(ARMS.items(), start=1):
        run = RunDirectory(output / name)
        click.echo(f"{number} of {len(ARMS)}: {title}, in {run.path}")
        outcome = training.train(load_config(recipe, [*changes, *settings]), run, resume=True)
        if outcome.stopped_by is not None:
            say(f"stopped by {signal.Signals(outcome.stopped_by).name} {outcome.when}; the same command goes on")
            sys.exit(128 + outcome.stopped_by)
        runs.append(run)
    click.echo("\n".join(["", *map(_outcome, runs)]))
    if has_pictures:
        from entrocraft.reports.plots.runs import draw_runs

        draw_runs(runs, output / "comparison.png")
        click.echo(f"\nwrote {output / 'comparison.png'}")


def _can_draw() -> bool:
    """Return whether pictures can be drawn; say now, before minutes of training, if they cannot."""
    try:
        import entrocraft.reports.plots.style  # noqa: F401 - needs matplotlib
    except MissingDependencyError as error:
        say(f"warning: the demo runs, but draws nothing: {error}")
        return False
    return True


def _outcome(run: "RunDirectory") -> str:
    """Return what became of a run's entropy and of its scores, in a line."""
    from entrocraft.runs.metrics import EVALUATION
    from entrocraft.runs.tracking import summarise_tracking

    lines, evaluations = run.step_metrics(), run.eval_metrics()
    entropy = [line["entropy"] for line in lines if line["entropy"] is not None]
    first, last = entropy[0], entropy[-1]
    said = f"{run.path.name + ':':<12}entropy {first:.3f} -> {last:.3f} nats ({last / first:.0%} of its start)"
    tracking = summarise_tracking(lines)
    if tracking is not None:
        said += f", {tracking.mean_error:.3f} from its target on average"
    scores = [
        f"held-out {measure} {evaluations[0][EVALUATION + measure]:.2f} -> {evaluations[-1][EVALUATION + measure]:.2f}"
        for measure in ("mean@32", "pass@32")
    ]
    return "; ".join([said, *scores])
