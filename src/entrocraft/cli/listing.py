"""What there is: `entrocraft list methods`, tasks, schedules, estimators, models, runs."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from entrocraft.cli.output import user_errors_exit_2
from entrocraft.errors import EntrocraftError, readable

Row = tuple[str, str, str]
"""Name, options, and what it is."""


@click.command(name="list", short_help="List methods, tasks, schedules, models or runs.")
@click.argument("kind", type=click.Choice(["methods", "tasks", "schedules", "estimators", "models", "runs"]))
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@user_errors_exit_2
def listing(kind: str, folder: Path) -> None:
    """List methods, tasks, schedules, estimators, models, or the runs in FOLDER.

    Each with its options and what it is; FOLDER, `runs` by default, is for runs alone.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    name, *others = {"runs": ("run", "steps", "state"), "models": ("model", "", "")}.get(
        kind, (kind[:-1], "options", "")
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for other in others:
        table.add_column(other)
    for row in rows_of(kind, folder):
        table.add_row(*(Text(readable(cell)) for cell in row))  # as it is: `[b]` in a name is no mark-up
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:  # for other programs: whole lines
        console = Console(highlight=False, width=200)
    console.print(table)


def rows_of(kind: str, folder: Path) -> list[Row]:
    """Return what there is of a kind, in the order of names."""
    match kind:
        case "methods":
            from entrocraft.control.methods import METHODS

            return _described(METHODS)
        case "tasks":
            from entrocraft.tasks import TASKS
            from entrocraft.tasks.benchmarks import BENCHMARKS

            return [
                (name, options, f"Benchmark {name}, with its own prompt and sampling." if name in BENCHMARKS else said)
                for name, options, said in _described(TASKS)
            ]
        case "schedules":
            from entrocraft.schedules.parse import BUILDERS

            return _described(BUILDERS)
        case "estimators":
            from entrocraft.advantages import ESTIMATORS

            return _described(ESTIMATORS, skipped=1)  # the rewards
        case "models":
            from entrocraft.models import EMBEDDED, PACKAGED

            packaged = {name: f"In the package {package}." for name, (package, *_) in PACKAGED.items()}
            return [(name, "", said) for name, said in (EMBEDDED | packaged).items()]
        case _:
            return list(_runs(folder))


def _described(builders: Mapping[str, Callable[..., Any]], skipped: int = 0) -> list[Row]:
    rows = []
    for name in sorted(builders):
        builder = builders[name]
        parameters = list(inspect.signature(builder).parameters.values())[skipped:]
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        options = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in named)
        described = builder.func if isinstance(builder, partial) else builder
        rows.append((name, options, _summary(described)))
    return rows


def _summary(builder: Callable[..., Any]) -> str:
    """Return the first line of a docstring."""
    return next(iter((inspect.getdoc(builder) or "").splitlines()), "")


def _runs(folder: Path) -> Iterable[Row]:
    from entrocraft.config import parse_config
    from entrocraft.runs.directory import SCRIPT, RunDirectory

    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        run = RunDirectory(path)
        if not run.exists:
            continue
        try:
            config = run.config()
            steps = config["train"].get("steps") if SCRIPT in config else parse_config(config).train.steps
            row = f"{run.last_step()} of {steps}", _state_of(run)
        except (EntrocraftError, OSError) as error:  # of one run, which is no reason to list none
            row = "?", f"cannot be read: {error}"
        yield str(path), *row


def _state_of(run: Any) -> str:
    from entrocraft.runs.state import read_state

    state = read_state(run.state_file)
    if state is None:
        return "unknown"
    return state.status if state.why is None else f"{state.status}: {state.why}"
