"""What a model can have of mean and breadth, by sampling it at several temperatures, and how two models compare there.

Sampling hotter gives answers that differ more and are right less often. So breadth at one temperature says little of
what a model has learnt: what does is its breadth at the same mean, whatever the temperature that takes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from entrocraft.study.settings import ScoringConfig

Point = tuple[float, float]
"""A mean, such as mean@32, and the breadth that comes with it, such as pass@32."""


def at_several_temperatures(scorings: Mapping[str, ScoringConfig]) -> list[list[str]]:
    """Return the names of scorings that differ in how they sample and in nothing else, where there are several."""
    alike: dict[str, list[str]] = {}
    for name, scoring in scorings.items():
        alike.setdefault(scoring.model_dump_json(exclude={"temperature", "top_p"}), []).append(name)
    return [names for names in alike.values() if len(names) > 1]


def unbeaten(points: Mapping[str, Point]) -> set[str]:
    """Return the names of points than which no other is better in one number and at least level in the other.

    Example:
        >>> sorted(unbeaten({"a": (0.3, 0.5), "b": (0.2, 0.7), "c": (0.2, 0.6)}))
        ['a', 'b']
    """
    return {
        name
        for name, (x, y) in points.items()
        if not any(
            (other_x, other_y) != (x, y) and other_x >= x and other_y >= y for other_x, other_y in points.values()
        )
    }


def mean_points(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Return the mean over runs of each temperature's point.

    Example:
        >>> mean_points([[(0.25, 0.5), (0.125, 0.75)], [(0.5, 0.5), (0.375, 0.75)]])
        [(0.375, 0.5), (0.25, 0.75)]
    """
    return [(float(x), float(y)) for x, y in np.mean(np.array(runs), axis=0)]


def lead_at_equal_means(points: Sequence[Point], baseline: Sequence[Point]) -> float | None:
    """Return by how much one model's breadth is above another's, on average over the means that both reach.

    Between two temperatures, mean and breadth are read from a straight line; points that another of the same model is
    above in both count for nothing.

    Args:
        points: One model's mean and breadth at each temperature.
        baseline: The other's.

    Returns:
        The average distance, or None if there is no mean that both reach.

    Example:
        >>> round(lead_at_equal_means([(0.2, 0.9), (0.4, 0.5)], [(0.2, 0.8), (0.3, 0.6)]), 3)  # 0.1 and then 0.1
        0.1
    """
    own, other = _frontier(points), _frontier(baseline)
    low, high = max(own[0, 0], other[0, 0]), min(own[-1, 0], other[-1, 0])
    if low > high:
        return None
    # Between neighbouring corners of either, the distance is a straight line: trapezoids are exact.
    corners = np.unique(np.clip(np.concatenate([own[:, 0], other[:, 0]]), low, high))
    distance = np.interp(corners, own[:, 0], own[:, 1]) - np.interp(corners, other[:, 0], other[:, 1])
    return float(distance[0] if low == high else np.trapezoid(distance, corners) / (high - low))


def _frontier(points: Sequence[Point]) -> np.ndarray:
    """Return the points (N, 2) that no other is above in both, by rising mean."""
    kept = unbeaten({str(index): point for index, point in enumerate(points)})
    return np.array(sorted({points[int(index)] for index in kept}))
