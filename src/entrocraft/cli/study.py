"""`entrocraft study`: methods, schedules, tasks and seeds compared."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from entrocraft.cli.output import say, say_loading, user_errors_exit_2

if TYPE_CHECKING:
    from entrocraft.study import Cell, StudyConfig


@click.command(short_help="Compare methods, schedules, tasks and seeds.")
@click.argument("config_file", metavar="CONFIG.yaml", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the study. [default: runs/CONFIG]")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, help="Runs at once.")
@click.option("--dry-run", is_flag=True, help="Check and list the runs; train nothing, write nothing.")
@click.option("--report", "report_only", is_flag=True, help="Write tables and pictures of what there is, and end.")
@user_errors_exit_2
def study(config_file: Path, output: Path | None, jobs: int, dry_run: bool, report_only: bool) -> None:
    """Make the runs that CONFIG.yaml asks for and compare them; the same command goes on where it stopped.

    CONFIG.yaml names methods, schedules, tasks or other settings, and seeds.

    Exit status: 0 done; 1 a run failed; 2 a mistake in the request; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or
    SIGHUP.
    """
    say_loading()
    import entrocraft.reports.plots.style  # noqa: F401 - needs matplotlib, said before the first run and not after it
    from entrocraft.cli.study_checks import StudyChecks
    from entrocraft.study import cells_of, load_study
    from entrocraft.study.queue import Queue

    settings = load_study(config_file)
    cells = cells_of(settings)
    folder = output or Path("runs") / config_file.stem
    if report_only:
        click.echo(f"wrote {_write_report(settings, cells, folder)}")
        return
    StudyChecks(settings, cells, folder).check()
    if dry_run:
        _describe(cells)
        return
    queue = Queue(settings, cells, folder, jobs, say, lambda: _write_report(settings, cells, folder))
    queue.work()
    file = _write_report(settings, cells, folder)
    if queue.stopped_by is not None:
        say("stopped; the same command goes on")
        sys.exit(128 + queue.stopped_by)
    for name, why in queue.failures.items():
        say(f"error: {name}: {why}")
    click.echo(f"{'incomplete' if queue.failures else 'done'}: {file}")
    if queue.failures:
        sys.exit(1)


def _describe(cells: Sequence["Cell"]) -> None:
    """Print each run once, with its steps."""
    from entrocraft.study.cells import runs_of

    runs = runs_of(cells)
    total = 0
    for run, name in runs.values():
        train = run.resolved().train
        total += train.steps
        click.echo(f"{name}: {train.steps} steps of {train.rollouts_per_step} rollouts")
    click.echo(f"{len(runs)} runs, {total:,} steps")


def _write_report(settings: "StudyConfig", cells: Sequence["Cell"], folder: Path) -> Path:
    """Write report.md, and pictures of each phase on each task; return the report's file."""
    from entrocraft.cli.study_pictures import draw_section
    from entrocraft.runs.files import write_text
    from entrocraft.study.queue import rows_of
    from entrocraft.study.report import report, sections_of

    rows = rows_of(folder, cells)
    sections = enumerate(sections_of(settings, cells, rows), start=1)
    pictures = {section.title: draw_section(settings, section, folder, number) for number, section in sections}
    file = folder / "report.md"
    write_text(file, report(settings, cells, rows, pictures))
    return file
