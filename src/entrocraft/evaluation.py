"""Scores of sampled answers: mean@k, unbiased pass@k, and confidence intervals over problems."""

import math
from collections.abc import Sequence

import numpy as np

from entrocraft.errors import InvalidValueError


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k samples is correct.

    `1 - C(n - c, k) / C(n, k)` for c correct among n samples.

    Args:
        num_samples: Samples drawn for the problem, n.
        num_correct: Correct ones among them, c.
        k: Samples a user would draw, at most n.

    Returns:
        A probability.

    Raises:
        InvalidValueError: Not `0 <= num_correct <= num_samples` or not `1 <= k <= num_samples`.

    Source: Evaluating Large Language Models Trained on Code (2107.03374), equation 1.

    Example:
        >>> pass_at_k(num_samples=4, num_correct=1, k=2)
        0.5
    """
    if not 0 <= num_correct <= num_samples or not 1 <= k <= num_samples:
        raise InvalidValueError(
            "pass@k needs 0 <= num_correct <= num_samples and 1 <= k <= num_samples, "
            f"got num_samples={num_samples}, num_correct={num_correct}, k={k}"
        )
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`, one value per problem.

    Example:
        >>> bootstrap_interval([1.0, 1.0, 1.0])
        (1.0, 1.0)
    """
    if not len(values):
        raise InvalidValueError("cannot bootstrap an empty list of values")
    array = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), size=(resamples, len(array)))].mean(axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def score_metrics(correct_PN: Sequence[Sequence[bool]], ks: Sequence[int]) -> dict[str, float]:
    """Return `mean@n` and `pass@k` for each k, averaged over problems, with 95 % intervals.

    Args:
        correct_PN: For each problem, whether each of its n samples was correct.
        ks: The k to report, each at most n.

    Returns:
        `mean@n`, `pass@k`, and the bounds `.../low` and `.../high` of each.

    Example:
        >>> score_metrics([[True, False], [False, False]], ks=[2])["pass@2"]
        0.5
    """
    num_samples = len(correct_PN[0])
    per_problem = {f"mean@{num_samples}": [sum(row) / num_samples for row in correct_PN]}
    for k in ks:
        per_problem[f"pass@{k}"] = [pass_at_k(num_samples, sum(row), k) for row in correct_PN]
    metrics = {}
    for name, values in per_problem.items():
        metrics[name] = sum(values) / len(values)
        metrics[f"{name}/low"], metrics[f"{name}/high"] = bootstrap_interval(values)
    return metrics
