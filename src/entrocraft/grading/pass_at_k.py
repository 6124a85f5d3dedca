"""pass@k, the chance that one of several answers is right."""

import math
import operator
from collections.abc import Mapping
from typing import Any

from entrocraft.errors import InvalidValueError

KS = (1, 8, 32)
"""The k of pass@k that are reported where nothing else is asked for."""


def ks_within(num_samples: int) -> tuple[int, ...]:
    """Return those of `KS` that so many samples allow.

    Example:
        >>> ks_within(16), ks_within(1)
        ((1, 8), (1,))
    """
    return tuple(k for k in KS if k <= num_samples)


def with_ks(settings: Any) -> Any:
    """Return settings that say how many samples are drawn, and no k, with those k that so many allow.

    Example:
        >>> with_ks({"num_samples": 8}), with_ks({"k": [2]})
        ({'num_samples': 8, 'k': (1, 8)}, {'k': [2]})
    """
    if not isinstance(settings, Mapping) or "k" in settings or not isinstance(settings.get("num_samples"), int):
        return settings
    return {**settings, "k": ks_within(settings["num_samples"]) or KS}  # no samples at all are refused as such


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k samples is correct.

    `1 - C(n - c, k) / C(n, k)` for c correct among n samples.

    Args:
        num_samples: Samples drawn for the problem, n.
        num_correct: Correct ones among them, c.
        k: Samples a user would draw, at most n.

    Returns:
        A probability, 0 to 1.

    Raises:
        InvalidValueError: Not `0 <= num_correct <= num_samples` or not `1 <= k <= num_samples`, or one is no whole
            number.

    Source: Evaluating Large Language Models Trained on Code (2107.03374), equation 1.

    Example:
        >>> pass_at_k(num_samples=4, num_correct=1, k=2)
        0.5
    """
    try:
        num_samples, num_correct, k = map(operator.index, (num_samples, num_correct, k))
    except TypeError as error:
        raise InvalidValueError(
            f"pass@k needs whole numbers, got num_samples={num_samples!r}, num_correct={num_correct!r}, k={k!r}"
        ) from error
    if not 0 <= num_correct <= num_samples or not 1 <= k <= num_samples:
        raise InvalidValueError(
            "pass@k needs 0 <= num_correct <= num_samples and 1 <= k <= num_samples, "
            f"got num_samples={num_samples}, num_correct={num_correct}, k={k}"
        )
    # Of the C(n, k) sets of k samples, C(n - c, k) hold no right one; whole numbers, so that none is rounded.
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)
