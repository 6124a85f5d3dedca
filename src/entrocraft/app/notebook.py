"""Drawing a curve in a notebook."""

from typing import TYPE_CHECKING

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band, Schedule, ScheduleLike, Unit, linear, schedule_from

if TYPE_CHECKING:
    from entrocraft.app.widget import CurveWidget

_BEGINNINGS: dict[Unit, Schedule] = {"initial": linear(1.0, 0.7, unit="initial"), "nats": linear(0.6, 0.4)}
_WIDTHS: dict[Unit, float] = {"initial": 0.06, "nats": 0.04}


def draw(
    schedule: Band | ScheduleLike | None = None,
    *,
    steps: int = 100,
    width: float | None = None,
    unit: Unit | None = None,
) -> "CurveWidget":
    """Return the editor of the page `entrocraft app` as a widget: drag the knots, then take its `schedule` or `band`.

    Args:
        schedule: What to begin with: a band, or anything that `schedule_from` takes; by default a line that falls.
        steps: Length of the run, in optimizer steps.
        width: Width of the band in the curve's unit, by default 0.06 of the initial entropy, or 0.04 nats.
        unit: Unit of the curve to begin with, by default `initial`; a schedule has its own.

    Returns:
        A widget, which a notebook shows where it is the last line of a cell.

    Raises:
        MissingDependencyError: anywidget is not installed.
        InvalidValueError: A width is given beside a band, the unit is not the schedule's, or a value cannot be used.
        UnknownNameError: There is no such unit.

    Example:
        >>> drawing = draw("linear(0.6, 0.4)", steps=200)
        >>> drawing.schedule(100, 200), drawing.band(0, 200)
        (0.5, (0.58, 0.62))
    """
    from entrocraft.app.widget import CurveWidget  # imports anywidget

    if unit not in (None, *_BEGINNINGS):
        raise UnknownNameError.of("unit", str(unit), _BEGINNINGS)
    if isinstance(schedule, Band):
        if width is not None:
            raise InvalidValueError(f"width: a band has its own, got {width!r} beside it")
        band = schedule
    else:
        curve = _BEGINNINGS[unit or "initial"] if schedule is None else schedule_from(schedule)
        band = Band(curve, _WIDTHS[curve.unit] if width is None else width)
    if unit not in (None, band.unit):
        raise InvalidValueError(f"unit: the curve is in {band.unit!r}, got {unit!r}; leave it out")
    return CurveWidget(band, steps)
