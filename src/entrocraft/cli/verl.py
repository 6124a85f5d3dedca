"""Commands for verl: recipes of its runs, and this library's tasks as its data."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from entrocraft.cli.output import describe_curve, user_errors_exit_2
from entrocraft.errors import InvalidValueError


@click.group(short_help="Run recipes on verl; write problems as its data.")
def verl() -> None:
    """Run recipes on verl (Ray, FSDP, vLLM), and write problems as it takes them."""


@verl.command(short_help="Train by verl's stock command.")
@click.argument("recipe", metavar="RECIPE.yaml", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[key.path=value]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Check with verl's own configuration and show what would run.")
@user_errors_exit_2
def train(recipe: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Start verl's stock command, `python -m verl.trainer.main_ppo`, with the settings of RECIPE.yaml.

    Overrides are Hydra's, as that command takes them.
    """
    recipes = _import("recipes")
    arguments = [*recipes.hydra_overrides(recipes.read_recipe(recipe)), *overrides]
    config = recipes.composed(arguments)
    if dry_run:
        _describe(config)
        click.echo(f"\n{shlex.join(['python', *recipes.command(arguments)[1:]])}")
        return
    recipes.start(arguments)


@verl.command(short_help="Write problems of a task as data for verl.")
@click.argument("task_name", metavar="TASK")
@click.argument("options", metavar="[option=value]...", nargs=-1)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .parquet file.")
@click.option(
    "--split", type=click.Choice(["train", "test"]), default="train", show_default=True, help="Which problems."
)
@click.option("--num-problems", type=click.IntRange(1), help="How many to write. [default: all there are]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the problems.")
@click.option(
    "--without",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A parquet file whose prompts are left out; may be given again.",
)
@click.option("--check-answers", is_flag=True, help="Leave out problems whose own answer is not graded as right.")
@user_errors_exit_2
def data(task_name: str, options: tuple[str, ...], output: Path, num_problems: int | None, **settings: Any) -> None:
    """Write problems of TASK, such as countdown or math-500, as verl's data; options are the task's own.

    They are graded by reward.custom_reward_function.path=pkg://entrocraft.engines.verl.tasks
    """
    from entrocraft.yaml_text import read_assignment

    tasks = _import("tasks")
    task: dict[str, Any] = {"name": task_name}
    for option in options:
        name, value = read_assignment(option, "max_target=24")
        if name in task:
            raise InvalidValueError(f"{name!r} is set already, got {option!r}")
        task[name] = value
    split = settings.pop("split")
    click.echo(json.dumps(tasks.write_parquet(task, split, num_problems, output, **settings)))


def _import(module: str) -> Any:
    """Import a module of verl's engine, or say how to install verl."""
    import importlib
    import warnings

    warnings.filterwarnings("ignore", module="verl")  # of every engine that is not installed
    try:
        return importlib.import_module(f"entrocraft.engines.verl.{module}")
    except ImportError as error:
        raise InvalidValueError(f"this needs verl: pip install 'entrocraft[verl]' ({error})") from error


def _describe(config: Any) -> None:
    """Print the curve and the arithmetic of the batch."""
    from entrocraft.engines.verl.settings import PREFIX, VerlSettings

    mode, actor = config.trainer.v1.trainer_mode, config.actor_rollout_ref.actor
    if not mode.startswith(PREFIX):
        click.echo(f"{mode}: no entropy control")
    else:
        settings = VerlSettings.of(config)
        control, options = settings.control, "".join(f", {k}={v}" for k, v in settings.control.options.items())
        click.echo(f"{mode}: method {control.method_name}{options}, rejected={'drop' if settings.drops else 'mask'}")
        click.echo(f"{describe_curve(control.band(), 100)}\nin percents of the run")
    prompts, rollouts = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    click.echo(
        f"{prompts} prompts x {rollouts} rollouts = {prompts * rollouts} rollouts a step, up to "
        f"{config.data.max_response_length} tokens each, in mini-batches of {actor.ppo_mini_batch_size * rollouts} on "
        f"{config.trainer.n_gpus_per_node * config.trainer.nnodes} GPUs"
    )
