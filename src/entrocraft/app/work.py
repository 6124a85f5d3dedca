"""What the page may set in motion: start, check, stop and resume a training, and bend its curve."""

import asyncio
from typing import Any

from entrocraft.app.curves import drawing_from
from entrocraft.app.drawing import CURVE_FIELDS, recipe_called
from entrocraft.app.errors import ConflictError
from entrocraft.app.requests import Request
from entrocraft.app.starting import SETTINGS, command_of, control_of, control_without_curve
from entrocraft.app.state import App
from entrocraft.control.steering import format_steering, parse_steering
from entrocraft.errors import InvalidValueError
from entrocraft.runs.files import write_text

START_FIELDS = ("recipe", "name", "curve", "settings")
_SECONDS_TO_CHECK = 180.0


def command_from(app: App, request: Request) -> list[str]:
    """Return the command that trains what a request asks for, but for its output.

    Without a curve it trains by the plain algorithm, or by a method that has no target.

    Raises:
        EntrocraftError: A name or setting is none that there is, or the curve cannot be used.
    """
    recipe = recipe_called(request.get("recipe"), app.recipes)
    settings = request.part("settings", SETTINGS)
    if request.get("curve") is None:
        control = control_without_curve(recipe, settings)
    else:
        control = control_of(recipe, drawing_from(request.part("curve", CURVE_FIELDS)).band, settings)
    return command_of(recipe.path, control, settings)


def start(app: App, request: Request) -> dict[str, Any]:
    """Start a training, or let it wait for its turn; return its name.

    Raises:
        EntrocraftError: The request cannot be carried out; see `command_from` and `Launcher`.
    """
    name = app.launcher.refuse_unless_free(request.get("name"))
    app.launcher.start(name, command_from(app, request))
    return {"name": name}


async def check(app: App, request: Request) -> dict[str, Any]:
    """Return what a training would be, as its dry run says.

    Raises:
        EntrocraftError: The request cannot be carried out; the message is the dry run's.
    """
    name = request.get("name")
    if name is not None:
        name = app.launcher.refuse_unless_free(name)
    child = app.launcher.check(name, command_from(app, request))
    try:
        for _ in range(int(_SECONDS_TO_CHECK / 0.1)):
            if child.exit_status is not None:
                break
            await asyncio.sleep(0.1)
        if child.exit_status is None:
            raise InvalidValueError(f"the check took more than {_SECONDS_TO_CHECK:.0f} seconds and was given up")
        if child.exit_status != 0:
            raise InvalidValueError(child.last_words().removeprefix("entrocraft: error: "))
        output = child.log.read_text("utf-8", "replace").strip()
    finally:
        child.kill()
        child.log.unlink(missing_ok=True)
    return {"message": output.rpartition("\n\n")[2], "output": output}


def stop(app: App, name: str, request: Request) -> dict[str, Any]:
    """Ask a training to stop, after its step or at once; return the step it stops after.

    Raises:
        EntrocraftError: It is none that this server has started.
    """
    now = request.flag("now")
    run = app.library.run(name)
    app.launcher.stop(name, now=now)
    return {"stops_at": None if now else run.stops_at}


def resume(app: App, name: str) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, by its own configuration.

    Raises:
        ConflictError: It is at work or done, or it is no run of this server's folder.
    """
    run = app.library.run(name)
    standing = run.standing()
    if standing.state not in ("stopped", "failed") or run.config is None:
        raise ConflictError(f"{name} cannot go on: it is {standing.state}")
    if run.script is not None:
        raise ConflictError(f"{name} is a run of {run.script}: go on with it there, by resume_from_checkpoint")
    if run.directory.path != app.library.folder / name:
        raise ConflictError(f"{name} lies in {run.directory.path.parent}; go on with it by `entrocraft train --resume`")
    # JSON is YAML: the configuration that the run keeps is all that it needs.
    app.launcher.start(name, ["train", str(run.directory.config_file), "--resume"])
    return {"name": name}


def steer(app: App, name: str, request: Request) -> dict[str, Any]:
    """Write the curve that a run is to follow from its next decision on; return the text that was written.

    Raises:
        ConflictError: The run cannot be steered.
        EntrocraftError: The curve cannot be used.
    """
    run = app.library.run(name)
    run.update()
    why_not = run.why_not_steerable()
    if why_not is not None:
        raise ConflictError(f"{name} cannot be steered: {why_not}")
    band = drawing_from(request).band
    text = format_steering(band)
    parse_steering(text, width=0.0)  # read as the run will: what it would refuse is refused here
    write_text(run.directory.steering_file, text)
    return {"text": text}
