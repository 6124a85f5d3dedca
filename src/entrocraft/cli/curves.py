"""Curves: `entrocraft schedule` shows one, `entrocraft plot` those of runs, `entrocraft steer` bends a job's."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entrocraft.cli.output import sparkline, table, user_errors_exit_2
from entrocraft.errors import InvalidValueError
from entrocraft.runs.state import COMPLETED, RunState, read_state

if TYPE_CHECKING:
    from entrocraft.schedules.base import Unit


@click.command(short_help="Show a schedule, such as 'linear(0.6, 0.2)'.")
@click.argument("spec", metavar="SPEC")
@click.option(
    "--steps", "num_steps", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Length of a run."
)
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


@click.command(short_help="Draw runs into one picture.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .png, .svg or .pdf file.")
@user_errors_exit_2
def plot(runs: tuple[Path, ...], output: Path) -> None:
    """Draw runs into one picture: entropy with its target above, reward and scores below."""
    from entrocraft.reports.plots.runs import draw_runs
    from entrocraft.runs import RunDirectory

    directories = [RunDirectory(path) for path in runs]
    for directory in directories:
        directory.config()  # refuses what is no run
    draw_runs(directories, output)
    click.echo(f"wrote {output}")


def _width_of(control: Any, lines: list[dict[str, Any]]) -> "tuple[float, Unit, float | None]":
    """Return the width of a run's band, its unit, and the nats in one multiple of the initial entropy, if known."""
    measured = [line["entropy"] for line in lines if line["entropy"] is not None and line["target"] is not None]
    initial = measured[0] if measured else None
    drawn = [line for line in lines if line["lower"] is not None and line["upper"] is not None]
    if control.lower is not None and drawn:  # edges, which have no width of their own
        return drawn[-1]["upper"] - drawn[-1]["lower"], "nats", initial
    return control.band_width, control.band().unit, initial


@click.command(short_help="Bend the curve of a running job.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("spec", metavar="SPEC")
@click.option(
    "--width",
    type=float,
    help="Width of the band around the curve, in its unit. [default: as wide in nats as the run's own]",
)
@user_errors_exit_2
def steer(run: Path, spec: str, width: float | None) -> None:
    """Bend the curve of a running job: from its next decision on it follows SPEC, such as 'linear(0.6, 0.3)'.

    SPEC is drawn over the whole run, as in its configuration. The file that this writes, steering.yaml in the run
    directory, may as well be edited by hand.
    """
    from entrocraft.config import parse_config
    from entrocraft.control.steering import parse_steering, write_steering
    from entrocraft.runs import RunDirectory
    from entrocraft.runs.directory import SCRIPT

    directory = RunDirectory(run)
    config = directory.config()
    control = _control_of_script(config) if SCRIPT in config else parse_config(config, directory.config_file).control
    if control is None:
        raise InvalidValueError(f"{run} runs without entropy control: there is nothing to steer")
    if control.steering is not None:
        raise InvalidValueError(f"{run} follows {control.steering}, as its configuration says: write the curve there")
    if width is not None:
        band = parse_steering(spec, width)
    else:
        band = parse_steering(spec, *_width_of(control, directory.step_metrics()))
    write_steering(directory.steering_file, band)
    when = _when(read_state(directory.state_file), is_of_script=SCRIPT in config)
    click.echo(f"wrote {directory.steering_file}; the run takes it up {when}")


def _control_of_script(config: dict[str, Any]) -> Any:
    """Return the curve that a script's run has; its method may be the script's own, and nothing here asks for it."""
    from entrocraft.control import EntropyControl

    section = config.get("control") or {}
    names = ("schedule", "width", "lower", "upper", "steering")
    return EntropyControl.of({name: section[name] for name in names if name in section})


def _when(state: RunState | None, *, is_of_script: bool) -> str:
    """Return when a run looks at its steering file next."""
    if state is None or state.status == "running":
        return "at its next decision"
    if is_of_script:
        return "when its script goes on with it, by trainer.train(resume_from_checkpoint=True)"
    if state.why == COMPLETED:
        return "when it goes on with --resume-from STEP: it has made all of its steps"
    return "when it goes on with --resume"
