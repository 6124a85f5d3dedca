"""How the command line says things: mistakes in one line, curves in a few."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import click

from entrocraft.errors import USER_ERRORS, user_error_line
from entrocraft.schedules import Band
from entrocraft.schedules.base import UNIT_NAMES

_BARS = "▁▂▃▄▅▆▇█"


def user_errors_exit_2(command: Callable[..., Any]) -> Callable[..., Any]:
    """Say a user's mistake, or what the system refuses, in one line on stderr and exit 2; Ctrl-C exits 130.

    Anything else is our bug and shows its trace, which ENTROCRAFT_TRACE=1 does for mistakes, too.
    """

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            # Whoever read standard output has seen enough, as `head` does: no mistake, and nothing more to write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # as a process that SIGPIPE ends
        except USER_ERRORS as error:
            if os.environ.get("ENTROCRAFT_TRACE"):
                traceback.print_exc()
            say(f"error: {' '.join(user_error_line(error).split())}")
            sys.exit(2)
        except KeyboardInterrupt:
            say("stopped by SIGINT")
            sys.exit(130)

    return wrapper


def say(text: str) -> None:
    """Write a line to standard error; where nobody reads it any more, that is no mistake."""
    with suppress(OSError):
        click.echo(f"entrocraft: {text}".encode("utf-8", "backslashreplace").decode(), err=True)


def say_loading() -> None:
    """Say at a terminal that libraries are being loaded, which takes seconds; scripts need no such line."""
    if sys.stderr.isatty():
        say("loading PyTorch and what trains or asks models ...")


def sparkline(values: Sequence[float]) -> str:
    """Return a curve as a line of bars."""
    low, high = min(values), max(values)
    width = 60
    sampled = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    levels = [round((v - low) / (high - low) * (len(_BARS) - 1)) if high > low else 3 for v in sampled]
    return f"{high:.3f} {''.join(_BARS[level] for level in levels)} {low:.3f} (highest, lowest)"


def table(values: Sequence[float], rows: int = 10) -> str:
    """Return some values of a curve, a line each."""
    last = len(values) - 1
    steps = sorted({round(i * last / rows) for i in range(rows + 1)})
    return "\n".join(f"  step {step:>6}  {values[step]:.4f}" for step in steps)


def describe_curve(band: Band, steps: int) -> str:
    """Return what is wanted of entropy over so many steps, as bars and as numbers."""
    targets = band.targets(steps)
    lower, upper = band(0, steps)
    heading = f"target entropy ({UNIT_NAMES[band.unit]}), band {upper - lower:g} wide at the start"
    return f"{heading}\n{sparkline(targets)}\n{table(targets)}"
