"""Steering a running job: it re-reads its curve from a small file that a person may change."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from entrocraft.control.pace import pace_of
from entrocraft.errors import EntrocraftError, InvalidValueError
from entrocraft.runs.files import read_regular, write_text
from entrocraft.schedules import Band, schedule_from
from entrocraft.schedules.base import Unit, checked_number
from entrocraft.yaml_text import read_yaml

_MOST_BYTES = 65_536


class UnknownWidthError(InvalidValueError):
    """The band's width is in nats and the curve in multiples of an entropy that is not measured yet, or vice versa."""


class SteeringFile:
    """A file that says where entropy should be, looked at step by step.

    A file that cannot be used stops nothing: it is warned about and counted once each time its content
    changes, and the old curve stays. So does it if the file is not there, or no longer.

    What the file says when it is first looked at is taken too: a resumed run finds its last curve in it.

    Args:
        path: The file; it need not exist yet.
        width: Width of the band if the file gives a bare schedule.
        unit: Unit of `width`; by default the schedule's.

    A curve in nats keeps the nats of a width in multiples of the initial entropy, which is to be set as
    `initial_entropy` once it is known; until then such a file waits.

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

    def __init__(self, path: Path | str, width: float, unit: Unit | None = None):
        self.path = Path(path)
        self.width = checked_number("steering: width", width)
        self.unit = unit
        self.initial_entropy: float | None = None
        """Nats in one multiple of the initial entropy; None before it is measured."""
        self.accepted = 0
        """Contents that became the band."""
        self.refused = 0
        """Contents that could not be used."""
        self._seen: bytes | str | None = None
        """The content looked at last, or why it could not be read."""

    def poll(self) -> Band | None:
        """Return the band that the file describes if its content is new and valid, else None."""
        try:
            # It is small: reading it is surer than its time of change.
            content: bytes | str = read_regular(self.path, _MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            content = f"cannot be read: {error.strerror}"
        except InvalidValueError as error:
            content = f"cannot be read: {error}"
        if content == self._seen:
            return None
        self._seen = content
        try:
            if isinstance(content, str):
                raise InvalidValueError(content)
            band = parse_steering(_decoded(content), self.width, self.unit, self.initial_entropy)
        except UnknownWidthError:
            self._seen = None  # at the next decision it will be known
            return None
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


def parse_steering(text: str, width: float, unit: Unit | None = None, initial_entropy: float | None = None) -> Band:
    """Return the band that a steering file's text describes.

    Args:
        text: YAML: a schedule in any form that `schedule_from` takes, or a mapping with `schedule` and
            perhaps `width`, or with `lower` and `upper`, as `Band.to_dict` gives. It is never evaluated.
        width: The band's width where the text gives none.
        unit: Unit of `width`; by default the schedule's. The band is as wide in nats as `width` says, whatever the unit
            of the schedule.
        initial_entropy: Nats in one multiple of the initial entropy; None if it is not known yet.

    Raises:
        InvalidValueError: The text describes no band; the message says why.
        UnknownWidthError: Units differ, and the initial entropy is not known.

    Example:
        >>> parse_steering("schedule: linear(1.0, 0.5, unit='initial')", width=0.04).unit
        'initial'
    """
    try:
        band = _band_from(read_yaml(text), width, unit, initial_entropy)
        pace_of(band)  # edges that would move at two paces must not reach a running job
        return band
    except yaml.YAMLError as error:
        raise InvalidValueError(f"not YAML: {' '.join(str(error).split())}") from error
    except UnknownWidthError:
        raise
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
    write_text(Path(path), format_steering(band))


def _band_from(data: Any, width: float, unit: Unit | None, initial_entropy: float | None) -> Band:
    if data is None:
        raise InvalidValueError("expected a schedule such as linear(0.6, 0.2), got an empty file")
    is_bare = not isinstance(data, Mapping) or "type" in data
    if not is_bare and set(data) != {"schedule"}:
        return Band.from_dict(data)
    schedule = schedule_from(data if is_bare else data["schedule"])
    if unit is not None and schedule.unit != unit:
        if not initial_entropy:
            raise UnknownWidthError(
                "the curve and the band's width are in different units, nats and multiples of the initial entropy, "
                "which is not measured yet: say the width, too"
            )
        width = width * initial_entropy if unit == "initial" else width / initial_entropy
    return Band(schedule, width)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
