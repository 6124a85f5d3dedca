"""Steering a running job: it re-reads its curve from a small file that a person may change."""

import os
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from entrocraft.control.pace import pace_of
from entrocraft.errors import EntrocraftError, InvalidValueError
from entrocraft.schedules import Band
from entrocraft.schedules.base import checked_number
from entrocraft.yaml_text import read_yaml


class SteeringFile:
    """A file that says where entropy should be, looked at step by step.

    A file that cannot be used stops nothing: it is warned about and counted once each time its content
    changes, and the old curve stays. So does it if the file is not there, or no longer.

    What the file says when it is first looked at is taken too: a resumed run finds its last curve in it.

    Args:
        path: The file; it need not exist yet.
        width: Width of the band if the file gives a bare schedule, in the schedule's unit.

    Raises:
        InvalidValueError: The width is negative or not a number.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "steering.yaml"
        >>> steering = SteeringFile(path, width=0.1)
        >>> steering.poll()
        >>> _ = path.write_text("linear(0.75, 0.25)")
        >>> steering.poll()(100, 100)
        (0.2, 0.3)
        >>> steering.poll()  # nothing new
    """

    def __init__(self, path: Path | str, width: float):
        self.path = Path(path)
        self.width = checked_number("steering: width", width)
        self.accepted = 0
        """Contents that became the band."""
        self.refused = 0
        """Contents that could not be used."""
        self._seen: bytes | str | None = None
        """The content looked at last, or why it could not be read."""

    def poll(self) -> Band | None:
        """Return the band that the file describes if its content is new and valid, else None."""
        try:
            content: bytes | str = self.path.read_bytes()  # small: reading it is surer than its time of change
        except FileNotFoundError:
            return None
        except OSError as error:
            content = f"cannot be read: {error.strerror}"
        if content == self._seen:
            return None
        self._seen = content
        try:
            if isinstance(content, str):
                raise InvalidValueError(content)
            band = parse_steering(_decoded(content), self.width)
        except EntrocraftError as error:
            self._warn(error)
            return None
        self.accepted += 1
        return band

    def refuse(self, error: EntrocraftError) -> None:
        """Take back the band returned last: the run cannot follow it."""
        self.accepted -= 1
        self._warn(error)

    def _warn(self, error: EntrocraftError) -> None:
        self.refused += 1
        warnings.warn(f"{self.path}: {error}. The curve stays as it was.", stacklevel=3)


def parse_steering(text: str, width: float) -> Band:
    """Return the band that a steering file's text describes.

    Args:
        text: YAML: a schedule in any form that `schedule_from` takes, or a mapping with `schedule` and
            perhaps `width`, or with `lower` and `upper`, as `Band.to_dict` gives. It is never evaluated.
        width: The band's width where the text gives none, in the schedule's unit.

    Raises:
        InvalidValueError: The text describes no band; the message says why.

    Example:
        >>> parse_steering("schedule: linear(1.0, 0.5, unit='initial')", width=0.04).unit
        'initial'
    """
    try:
        band = _band_from(read_yaml(text), width)
        pace_of(band)  # edges that would move at two paces must not reach a running job
        return band
    except yaml.YAMLError as error:
        raise InvalidValueError(f"not YAML: {' '.join(str(error).split())}") from error
    except EntrocraftError as error:  # of any class, such as an unknown name
        raise InvalidValueError(str(error)) from error


def format_steering(band: Band) -> str:
    """Return text from which `parse_steering` builds an equal band.

    Example:
        >>> print(format_steering(Band(0.5, width=0.1)), end="")
        schedule:
          type: constant
          value: 0.5
        width: 0.1
    """
    if not isinstance(band, Band):
        raise InvalidValueError(f"expected a Band, such as Band('linear(0.6, 0.2)', width=0.04), got {band!r}")
    return yaml.safe_dump(band.to_dict(), sort_keys=False)


def write_steering(path: Path | str, band: Band) -> None:
    """Replace a steering file by one that describes `band`; a run never sees half of it.

    Args:
        path: The file, in a folder that exists.
        band: Where entropy should be from now on.

    Raises:
        InvalidValueError: `band` is not a band; the file stays as it was.
        OSError: The file cannot be written; it stays as it was.
    """
    text = format_steering(band)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # two writers, two files
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _band_from(data: Any, width: float) -> Band:
    if data is None:
        raise InvalidValueError("expected a schedule such as linear(0.6, 0.2), got an empty file")
    if not isinstance(data, Mapping) or "type" in data:
        return Band(data, width)
    if set(data) == {"schedule"}:
        return Band(data["schedule"], width)
    return Band.from_dict(data)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
