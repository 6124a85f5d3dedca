"""States on file, for hosts that tell a plug-in nothing of their checkpoints: a line for each step."""

import json
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError


class StateLog:
    """A file with the state after each step of a run, so that it can be resumed from any checkpoint.

    Args:
        path: The file; its folder is made with the first state.

    Example:
        >>> import tempfile
        >>> log = StateLog(Path(tempfile.mkdtemp()) / "states.jsonl")
        >>> log.append(1, {"a": 0.5}), log.append(2, {"a": 0.25})
        (None, None)
        >>> log.after(1), log.after(0)
        ({'a': 0.5}, None)
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def append(self, step: int, state: dict[str, Any]) -> None:
        """Add the state after a step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "state": state}) + "\n")

    def after(self, step: int) -> dict[str, Any] | None:
        """Return the state after a step, the last one if the step was made again; None before the first.

        Raises:
            InvalidValueError: The file holds no such step.
        """
        if step < 1:
            return None
        found: dict[str, Any] | None = None
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off when the run was killed: the step it is of was never finished
            if entry["step"] == step:
                found = entry["state"]
        if found is None:
            raise InvalidValueError(
                f"{self.path} holds no state of step {step}, which the run resumes after: that was not made under "
                "entropy control, or the file is another run's. Start a new run from its weights"
            )
        return found
