"""What a model can have of mean and breadth, by sampling it at several temperatures, and how two models compare there.

Sampling hotter gives answers that differ more and are right less often. So breadth at one temperature says little of
what a model has learnt: what does is its breadth at the same mean, whatever the temperature that takes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from entrocraft.config import EvalConfig
from entrocraft.study.rows import Row
from entrocraft.study.settings import ScoringConfig

Point = tuple[float, float]
"""A mean, such as mean@32, and the breadth that comes with it, such as pass@32."""
Name = TypeVar("Name")
EVALUATED = "as evaluated"
"""Name of a run's last evaluation, where it stands beside scorings of its last model."""


def at_several_temperatures(scorings: Mapping[str, ScoringConfig], evaluation: EvalConfig) -> list[list[str]]:
    """Return the names of scorings that differ in how they sample and in nothing else, where there are several.

    A run's last evaluation is one of them: it scores the same model.

    Args:
        scorings: The study's scorings, by name.
        evaluation: How runs are evaluated as they train.
    """
    alike = {_asked(None, evaluation.num_problems, evaluation.num_samples): [EVALUATED]}
    for name, scoring in scorings.items():
        asked = _asked(scoring.task, scoring.num_problems or evaluation.num_problems, scoring.num_samples)
        alike.setdefault(asked, []).append(name)
    return [names for names in alike.values() if len(names) > 1]


def _asked(task: Mapping[str, Any] | None, num_problems: int | None, num_samples: int) -> str:
    """Return what is asked, however it is sampled."""
    return json.dumps([task, num_problems, num_samples], sort_keys=True)


def points_of(row: Row, scorings: Sequence[str], measures: tuple[str, str]) -> list[Point] | None:
    """Return the mean and the breadth of a run's last model under each of these scorings; None if one lacks them."""
    evaluated = {measure: values[-1] for measure, values in row["scores"].items()}
    scored = [evaluated if name == EVALUATED else row["scorings"].get(name, {}) for name in scorings]
    if not all(scores.keys() >= set(measures) for scores in scored):
        return None
    return [(scores[measures[0]], scores[measures[1]]) for scores in scored]


def unbeaten(points: Mapping[Name, Point]) -> set[Name]:
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
    kept = unbeaten(dict(enumerate(points)))
    return np.array(sorted({points[index] for index in kept}))
