"""The command line. Heavy imports wait until a command needs them, so `--help` is instant."""

from entrocraft.cli.commands import main
from entrocraft.cli.verl import verl

main.add_command(verl)

__all__ = ["main"]
