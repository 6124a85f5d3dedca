"""The controller's state as a file in each of a framework's checkpoints."""

import json
from pathlib import Path

from entrocraft.control.controller import Controller
from entrocraft.errors import InvalidValueError

STATE_FILE = "entrocraft.json"


def save_state(controller: Controller, checkpoint: Path) -> None:
    """Write the controller's state into a checkpoint's folder, which is made if it is not there.

    Frameworks write last what tells that a checkpoint is whole, or which one is the latest; so save before they do.
    """
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / STATE_FILE).write_text(json.dumps(controller.state_dict()))


def load_state(controller: Controller, checkpoint: Path) -> None:
    """Restore what `save_state` wrote.

    Raises:
        InvalidValueError: The checkpoint holds no such state, another controller's, or a damaged one.
    """
    path = checkpoint / STATE_FILE
    if not path.exists():
        raise InvalidValueError(
            f"{checkpoint} holds no {STATE_FILE}: it was not saved under entropy control. Start a new run from its "
            "weights, or resume it with the trainer that saved it."
        )
    try:
        controller.load_state_dict(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        # It is a ValueError, too, and says already what is wrong.
        if isinstance(error, InvalidValueError):
            raise
        raise InvalidValueError(f"{path} is damaged ({error!r}); resume from an earlier checkpoint") from error
