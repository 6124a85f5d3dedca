"""`entrocraft train`: one training run, or what it would be."""

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from entrocraft.cli.output import describe_curve, say, say_loading, user_errors_exit_2
from entrocraft.errors import InvalidValueError


@click.command(short_help="Train as a configuration says.")
@click.argument("config_file", metavar="CONFIG.yaml", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[key.path=value]...", nargs=-1)
@click.option("--output", type=click.Path(path_type=Path), help="Run directory. [default: runs/CONFIG]")
@click.option("--resume", is_flag=True, help="Go on with the run in the run directory, if there is one.")
@click.option(
    "--resume-from",
    type=click.IntRange(0),
    metavar="STEP",
    help="Go on from this step's checkpoint, 0 for the beginning, and drop the steps after it.",
)
@click.option("--dry-run", is_flag=True, help="Check and show what would run; train nothing, write nothing.")
@user_errors_exit_2
def train(
    config_file: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    resume: bool,
    resume_from: int | None,
    dry_run: bool,
) -> None:
    """Train as CONFIG.yaml says, with entropy on the curve of its section `control`.

    key.path=value takes the place of a setting of the file, such as train.steps=20, control.method=budget, or
    control=null for no control.

    On several processes, launch it with `accelerate launch` or `torchrun`: `-m entrocraft.cli train`, and the same
    arguments.

    Exit status: 0 done; 2 a mistake in the request; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP, resumable.
    """
    from entrocraft.config import load_config
    from entrocraft.runs import RunDirectory

    # Of one process, a mistake is said before imports that take seconds; of several, by one of them for all.
    known = load_config(config_file, overrides) if "RANK" not in os.environ else None
    if os.environ.get("RANK", "0") == "0":
        say_loading()
    training = import_training()
    processes = training.Processes.launched()
    if not processes.is_main:
        warnings.showwarning = lambda *_, **__: None  # the main process says the same
    with processes.as_one():
        config = known or load_config(config_file, overrides)
        run = RunDirectory(output or Path("runs") / config_file.stem)
        if dry_run:
            plan = training.plan_run(config, run, processes=processes)
            if processes.is_main:
                _describe(plan, run, processes.count)
            processes.meet()
            return
        outcome = training.train(config, run, resume=resume, resume_from=resume_from, processes=processes)
        if outcome.stopped_by is not None:
            if processes.is_main:
                name = signal.Signals(outcome.stopped_by).name
                say(f"stopped by {name} {outcome.when}; go on with --resume")
            if not outcome.amid_step:  # else the others wait for this one amid theirs
                processes.leave()
            sys.exit(128 + outcome.stopped_by)
        if processes.is_main:
            click.echo(f"done: {run.report_file}")


def import_training() -> Any:
    """Return the package that trains, or say what it needs."""
    try:
        from entrocraft import training
    except ImportError as error:
        raise InvalidValueError(f"training needs TRL: pip install 'entrocraft[trl]' ({error})") from error
    return training


def _describe(plan: Any, run: Any, num_processes: int) -> None:
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
    divided = f", each divided among {num_processes} processes" if num_processes > 1 else ""
    click.echo(
        f"\n{train_config.prompts_per_step} prompts x {train_config.rollouts_per_prompt} rollouts = {rollouts} "
        f"rollouts a step, in {args.gradient_accumulation_steps} micro-batches of "
        f"{args.per_device_train_batch_size * num_processes}{divided}, "
        f"{plan.prompts_per_generation} prompts in each batch of rollouts\n"
        f"{train_config.steps} steps, {total:,} rollouts of up to {args.max_completion_length} tokens, each of "
        f"{len(plan.train_problems):,} problems seen {problems_seen:.1f} times\n"
        f"a checkpoint every {train_config.save_every} steps; output goes to {run.path}"
    )
