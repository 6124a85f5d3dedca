"""Scores of sampled answers: mean@k, unbiased pass@k, majority@k, and confidence intervals over problems."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from entrocraft.errors import InvalidValueError
from entrocraft.grading.pass_at_k import pass_at_k


def majority_at_k(
    answers: Sequence[str | None], correct: Sequence[bool], k: int, num_draws: int = 64, seed: int = 0
) -> float:
    """Return the chance that the most frequent answer of k samples is right.

    The mean over `num_draws` subsets of k samples without repetition, or the one there is for k = n. Samples that
    answer nothing have no vote. Of several answers that are equally frequent, one is taken by lot.

    Args:
        answers: Answer of each sample, equal text for equal answers; None for nothing.
        correct: Whether each sample is right.
        k: Samples that vote, at most as many as there are.
        num_draws: Number of subsets to draw.
        seed: Seed of the random draws.

    Returns:
        A probability, 0 to 1; 0 where no sample answers.

    Raises:
        InvalidValueError: The lengths differ, or not `1 <= k <= n`.

    Example:
        >>> majority_at_k(["4", "5", "4"], [True, False, True], k=3)
        1.0
        >>> majority_at_k(["4", "5"], [True, False], k=2)  # by lot
        0.5
    """
    if len(answers) != len(correct) or not 1 <= k <= len(answers):
        raise InvalidValueError(
            "majority@k needs as many answers as verdicts and 1 <= k <= n, "
            f"got {len(answers)}, {len(correct)} and k={k}"
        )
    if k == len(answers):
        return _majority(answers, correct, range(k))
    rng = np.random.default_rng(seed)
    draws = [rng.permutation(len(answers))[:k] for _ in range(num_draws)]
    return sum(_majority(answers, correct, draw) for draw in draws) / num_draws


def _majority(answers: Sequence[str | None], correct: Sequence[bool], voters: Iterable[int]) -> float:
    """Return the chance that the most frequent answer of these voters is right."""
    votes: dict[str, list[bool]] = {}
    for i in voters:
        answer = answers[i]
        if answer is not None:
            votes.setdefault(answer, []).append(correct[i])
    if not votes:
        return 0.0
    # By lot among the most frequent answers: the mean of their chances. Samples of one answer may be graded unlike, so
    # that an answer's chance is the share of its samples that are right.
    most = max(len(verdicts) for verdicts in votes.values())
    first = [sum(verdicts) / most for verdicts in votes.values() if len(verdicts) == most]
    return sum(first) / len(first)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values`, one value per problem.

    Problems, not samples, are drawn again with replacement: they are what another test would have others of.

    Args:
        values: One value per problem.
        confidence: Share of the resampled means that the interval holds.
        resamples: Number of resampled means.
        seed: Seed of the random draws.

    Returns:
        Lower and upper end, in the unit of `values`.

    Raises:
        InvalidValueError: There are no values.

    Source: Efron (1979), Bootstrap Methods: Another Look at the Jackknife.

    Example:
        >>> bootstrap_interval([1.0, 1.0, 1.0])
        (1.0, 1.0)
    """
    if not len(values):
        raise InvalidValueError("cannot bootstrap an empty list of values")
    array = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), size=(resamples, len(array)))].mean(axis=1)
    tail = 50.0 * (1.0 - confidence)  # in percent, on either side
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


def paired_interval(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of `second - first`, both over the same problems.

    What makes a problem hard makes it hard for both, so this is narrower than two intervals beside each other.

    Args:
        first: One value per problem.
        second: Values of the same problems, in the same order.
        confidence: Share of the resampled means that the interval holds.

    Returns:
        Lower and upper end of the difference, in the unit of the values.

    Raises:
        InvalidValueError: There are not equally many values, or none.

    Example:
        >>> paired_interval([0.0, 0.5, 1.0], [0.1, 0.6, 1.1])[0] > 0.09
        True
    """
    if len(first) != len(second):
        raise InvalidValueError(f"expected values of the same problems, got {len(first)} and {len(second)}")
    return bootstrap_interval([b - a for a, b in zip(first, second, strict=True)], confidence)


def correctness(correct_PN: Sequence[Sequence[bool]], ks: Iterable[int]) -> dict[str, list[float]]:
    """Return `mean@n` and `pass@k` for each k, one value per problem.

    Args:
        correct_PN: For each problem, whether each of its n samples was correct; n is the same for all.
        ks: The k to report, each at most n.

    Raises:
        InvalidValueError: A k is less than 1 or more than n.

    Example:
        >>> correctness([[True, False], [False, False]], ks=[2])
        {'mean@2': [0.5, 0.0], 'pass@2': [1.0, 0.0]}
    """
    num_samples = len(correct_PN[0])
    values = {f"mean@{num_samples}": [sum(row) / num_samples for row in correct_PN]}
    return values | {f"pass@{k}": [pass_at_k(num_samples, sum(row), k) for row in correct_PN] for k in ks}


def with_intervals(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean over problems of each measure, and as `.../low` and `.../high` its 95 % interval.

    Example:
        >>> with_intervals({"pass@2": [1.0, 1.0]})
        {'pass@2': 1.0, 'pass@2/low': 1.0, 'pass@2/high': 1.0}
    """
    metrics = {}
    for name, column in values.items():
        metrics[name] = sum(column) / len(column)
        metrics[f"{name}/low"], metrics[f"{name}/high"] = bootstrap_interval(column)
    return metrics
