"""The command line, run in this process."""

from click.testing import CliRunner

from entrocraft.cli import main


def run_command(*arguments):
    """Run a command line in process; raise what is neither success nor an exit status."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
