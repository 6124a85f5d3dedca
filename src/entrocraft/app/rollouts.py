"""Where in a run's `rollouts.jsonl` each recorded step stands: its lines are large, and read one at a time."""

import json
import re
from pathlib import Path
from typing import Any

from entrocraft.errors import EntrocraftError, RunDirectoryError
from entrocraft.runs.files import open_regular
from entrocraft.runs.lines import LineFollower

_STEP = re.compile(rb'\{"step": ?(\d{1,18})[,}]')


class RolloutIndex:
    """Offsets of the recorded steps of a file that grows.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self._follower = LineFollower(path, _step_of)
        self._times_begun = 0
        self._offsets: dict[int, int] = {}
        self.problem: str | None = None
        """What of the file cannot be read, in words."""

    @property
    def steps(self) -> list[int]:
        """Steps of which rollouts were recorded."""
        return list(self._offsets)

    def update(self) -> None:
        """Take in what was added to the file."""
        if self.problem is not None:
            return
        try:
            for offset, step in self._follower.new_lines():
                self._heed_new_file()
                self._offsets[step] = offset
            self._heed_new_file()
        except (EntrocraftError, OSError) as error:
            self.problem = str(error)

    def _heed_new_file(self) -> None:
        if self._follower.times_begun != self._times_begun:
            self._times_begun, self._offsets = self._follower.times_begun, {}

    def read(self, step: int) -> dict[str, Any] | None:
        """Return the line of a step; None if none was recorded.

        Raises:
            RunDirectoryError: The line cannot be read.
        """
        offset = self._offsets.get(step)
        if offset is None:
            return None
        with open_regular(self.path) as file:
            file.seek(offset)
            raw = file.readline()
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or line.get("step") != step:
            raise RunDirectoryError(f"{self.path.name}: the line of step {step} is damaged")
        return line


def _step_of(raw: bytes) -> int:
    match = _STEP.match(raw)
    if match is None:
        raise ValueError("begins with no step")
    return int(match[1])
