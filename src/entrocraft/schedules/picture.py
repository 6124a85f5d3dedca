"""A curve as a small picture of pure text, for notebooks: SVG, drawn without any library."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT = 420, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 28, 30  # margins, which hold the labels
_CURVE, _BAND = "#4a5568", "#cbd5e0"


def svg_of_curve(
    target: Sequence[float],
    edges: Sequence[tuple[float, float]] | None = None,
    *,
    title: str,
    unit: str,
) -> str:
    """Return an SVG picture of a curve over the run, with the highest and lowest value beside its axis.

    Args:
        target: Values of the curve at equal distances over the run, at least two.
        edges: Lower and upper edge of a band at the same places, which is filled.
        title: Text above the picture; what is longer than the picture is cut off there.
        unit: What the values are measured in.

    Example:
        >>> svg_of_curve([1.0, 0.5], title="halved", unit="nats").startswith("<svg")
        True
    """
    lowest, highest = _range([*target, *(value for edge in edges or () for value in edge)])

    def points(values: Sequence[float]) -> list[str]:
        """Return the place of each value in the picture; y counts downwards from the top."""
        across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return [
            f"{_LEFT + across * i / (len(values) - 1):.2f},{_TOP + down * (highest - v) / (highest - lowest):.2f}"
            for i, v in enumerate(values)
        ]

    band = ""
    if edges is not None:
        lower, upper = zip(*edges, strict=True)
        # There along the upper edge, and back along the lower one.
        band = f'<polygon points="{" ".join(points(upper) + points(lower)[::-1])}" fill="{_BAND}"/>'
    end, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" fill="{_CURVE}">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        f'<text x="{_LEFT}" y="16">{escape(title)}</text>'
        f"{band}"
        f'<polyline points="{" ".join(points(target))}" fill="none" stroke="{_CURVE}" stroke-width="1.5"/>'
        f'<path d="M{_LEFT},{_TOP} V{bottom} H{end}" fill="none" stroke="{_CURVE}" stroke-width="0.5"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 4}" text-anchor="end">{highest:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{bottom + 4}" text-anchor="end">{lowest:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">start</text>'
        f'<text x="{(_LEFT + end) // 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(unit)}</text>'
        f'<text x="{end}" y="{_HEIGHT - 8}" text-anchor="end">end of the run</text>'
        "</svg>"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: the lowest and the highest value, or some room around the only one."""
    lowest, highest = min(values), max(values)
    if lowest < highest:
        return lowest, highest
    below, above = 0.9 * lowest, 1.1 * highest
    return (below, above) if below < above else (lowest, lowest + 1.0)
