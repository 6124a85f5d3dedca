"""Curves as the page draws them: a request's knots or text become a band, and the band an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from entrocraft.app.requests import Request
from entrocraft.app.shapes import as_text, knots_of, scaled
from entrocraft.control import EntropyControl
from entrocraft.control.settings import DEFAULT_WIDTH
from entrocraft.errors import InvalidValueError
from entrocraft.schedules import Band, Interpolation, Schedule, Unit, piecewise, schedule_from
from entrocraft.schedules.base import checked_number
from entrocraft.yaml_text import read_yaml

MOST_KNOTS = 64
MOST_STEPS = 100_000
MOST_POINTS = 2_000
KINDS: tuple[Interpolation, ...] = ("linear", "monotone", "cosine", "step")
UNITS: tuple[Unit, ...] = ("nats", "initial")


@dataclass(frozen=True)
class Drawing:
    """A band as it was drawn, in the unit that was asked for, over so many steps."""

    band: Band
    steps: int
    points: int


def drawing_from(request: Request) -> Drawing:
    """Return what a request draws.

    The curve is one of `knots` with their `kind`, `text` such as `linear(0.6, 0.4)`, `yaml` as a configuration or a
    steering file says it, or the two edges `lower` and `upper`, as knots. `width` is in `unit`, and so is the answer;
    text may be in another unit, and is then converted by `initial`, the nats in one multiple.

    Raises:
        InvalidValueError: There is no curve or more than one, or it cannot be used.
        UnknownNameError: A name is not known.
    """
    steps = request.whole_number("steps", 100, least=1, most=MOST_STEPS)
    points = request.whole_number("points", 300, least=2, most=MOST_POINTS)
    try:
        return Drawing(_band_from(request), steps, points)
    except RecursionError:
        raise InvalidValueError("the curve is nested too deep; join fewer parts") from None


def _band_from(request: Request) -> Band:
    given = [name for name in ("knots", "text", "yaml") if request.get(name) is not None]
    edges = [name for name in ("lower", "upper") if request.get(name) is not None]
    if len(given) + bool(edges) != 1:
        raise InvalidValueError(
            f"expected one curve: knots, text, yaml, or lower and upper; got {', '.join([*given, *edges]) or 'none'}"
        )
    unit = cast(Unit | None, request.one_of("unit", UNITS, None))
    said: dict[str, Any]
    if edges:
        said = {name: _through(request, name, unit) for name in ("lower", "upper")}
    elif given == ["knots"]:
        said = {"schedule": _through(request, "knots", unit)}
    else:
        said = {"schedule": request.text("text")} if given == ["text"] else _said_in(request.text("yaml"))
    curves = {name: schedule_from(said[name]) for name in ("schedule", "lower", "upper") if name in said}
    own = next(iter(curves.values())).unit
    factor = _factor(own, unit or own, request)
    curves = {name: curve if factor == 1.0 else scaled(curve, factor, unit or own) for name, curve in curves.items()}
    if "schedule" not in curves:
        return Band(**curves)  # type: ignore[arg-type]
    width = factor * said["width"] if "width" in said else request.get("width", DEFAULT_WIDTH)
    return Band(**curves, width=checked_number("width", width))


def _through(request: Request, name: str, unit: Unit | None) -> Schedule:
    """Return the curve through the knots of that name."""
    knots = request.get(name)
    if not isinstance(knots, Sequence) or isinstance(knots, str):
        raise InvalidValueError(f"{name}: expected knots such as [[0, 0.6], [1, 0.4]], got {knots!r:.80}")
    if len(knots) > MOST_KNOTS:
        raise InvalidValueError(f"{name}: expected {MOST_KNOTS} knots at most, got {len(knots)}")
    kind = cast(Interpolation, request.one_of("kind", KINDS, "linear"))
    return piecewise(knots, kind, unit=unit or "nats")


def _said_in(text: str) -> dict[str, Any]:
    """Return what a configuration's YAML, its control section, or a steering file says of the curve."""
    try:
        data = read_yaml(text)
    except yaml.YAMLError as error:
        raise InvalidValueError(f"not YAML: {' '.join(str(error).split())}") from error
    if isinstance(data, Mapping) and "control" in data:
        data = data["control"]
    if not isinstance(data, Mapping) or "type" in data:
        return {"schedule": data}
    said = {name: data[name] for name in CURVE_SETTINGS if data.get(name) is not None}
    if not said.keys() & {"schedule", "lower", "upper"}:
        raise InvalidValueError("the YAML says no curve: expected a schedule, or lower and upper")
    EntropyControl(**said)  # refuses what does not go together
    return said


def band_in(control: Mapping[str, Any]) -> Band:
    """Return the band of a control section.

    Raises:
        EntrocraftError: It says none that can be used.
    """
    return EntropyControl(**{name: control[name] for name in CURVE_SETTINGS if control.get(name) is not None}).band()


CURVE_SETTINGS = ("schedule", "width", "lower", "upper")
"""Settings of entropy control that make the band; they need no method, and so no torch."""


def _factor(own: Unit, wanted: Unit, request: Request) -> float:
    """Return what values of one unit are multiplied by to be in another."""
    if own == wanted:
        return 1.0
    initial = request.get("initial")
    if initial is None:
        raise InvalidValueError(
            f"the curve is in {own!r} and asked for in {wanted!r}: say initial, the nats in one multiple of the "
            "initial entropy, or ask for the curve's own unit"
        )
    nats = checked_number("initial", initial)
    if nats == 0.0:
        raise InvalidValueError("initial must be more than 0, got 0")
    return nats if wanted == "nats" else 1.0 / nats


def columns_of(band: Band, steps: int, points: int, factor: float = 1.0) -> dict[str, list[Any]]:
    """Return a band over the steps of a run as columns, at so many of them at most.

    Args:
        band: The band.
        steps: Length of the run.
        points: Rows at most.
        factor: What values are multiplied by, such as the nats in one multiple.
    """
    count = min(points, steps + 1)
    places = sorted({round(i * steps / (count - 1)) for i in range(count)}) if count > 1 else [0]
    edges = [band(step, steps) for step in places]
    return {
        "step": places,
        "target": [factor * band.target(step, steps) for step in places],
        "lower": [factor * lower for lower, _ in edges],
        "upper": [factor * upper for _, upper in edges],
    }


def knots_in(band: Band) -> dict[str, Any]:
    """Return a band as something to drag: knots of its middle and a width, or knots of either edge."""
    if band.schedule is not None:
        knots, kind, exact = knots_of(band.schedule)
        return {"knots": knots, "kind": kind, "exact": exact, "unit": band.unit, "width": band.width}
    (lower, kind, exact), (upper, upper_kind, upper_exact) = (
        knots_of(cast(Schedule, e)) for e in (band.lower, band.upper)
    )
    return {
        "knots": None,
        "lower_knots": lower,
        "upper_knots": upper,
        "kind": kind,
        "exact": exact and upper_exact and kind == upper_kind,
        "unit": band.unit,
        "width": None,
    }


def request_of(band: Band) -> dict[str, Any]:
    """Return a band in the words of a request, with the knots by which it can be dragged."""
    shown = knots_in(band)
    if band.schedule is not None:
        return shown | {"text": as_text(band.schedule)}
    return {"lower": shown["lower_knots"], "upper": shown["upper_knots"], "kind": shown["kind"], "unit": band.unit}
