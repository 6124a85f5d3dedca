"""The command line, one module per group of commands.

Heavy imports wait until a command needs them, so `--help` is instant.
"""

import os
import warnings

import click

from entrocraft import __version__
from entrocraft.cli.analysis import diagnose, explain
from entrocraft.cli.app import app
from entrocraft.cli.curves import plot, schedule, steer
from entrocraft.cli.demo import demo
from entrocraft.cli.env import env
from entrocraft.cli.evaluate import evaluate
from entrocraft.cli.export import export
from entrocraft.cli.listing import listing
from entrocraft.cli.study import study
from entrocraft.cli.train import train
from entrocraft.cli.verl import verl

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Draw the entropy curve; reinforcement learning follows it.

    To see it at work in minutes: `entrocraft demo`. Settings after a configuration replace its own: `entrocraft train
    recipes/countdown.yaml train.steps=20`. More is in `entrocraft COMMAND --help`.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Names that transformers is about to change are this library's to follow, and nothing that a user can change.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|entrocraft")
    warnings.showwarning = lambda message, *_, **__: click.echo(f"entrocraft: warning: {message}", err=True)


for _command in (
    train,
    demo,
    app,
    study,
    evaluate,
    diagnose,
    explain,
    export,
    steer,
    plot,
    schedule,
    listing,
    verl,
    env,
):
    main.add_command(_command)
