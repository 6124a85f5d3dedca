"""How well measured entropy followed its curve, from the lines of a metrics file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTLING_SHARE = 0.2  # the first fifth of a run may be spent on reaching the curve


@dataclass(frozen=True, kw_only=True)
class TrackingSummary:
    """Entropy against its target over the last 80 % of steps, in nats per token."""

    num_steps: int
    mean_error: float
    """Mean of |entropy - target|."""
    p95_error: float
    """95th percentile of |entropy - target|."""
    in_band: float
    """Share of steps between the band's edges."""
    standard_error: float | None
    """Mean standard error of one step's entropy, over its prompts: about how far off a policy on the curve is read.

    None where it was not recorded.
    """
    kept_fraction: float
    """Mean share of rollouts kept, over all steps."""
    kept_token_fraction: float | None
    """Mean share of tokens kept, over all steps; None where it was not recorded."""


def summarise_tracking(lines: Sequence[Mapping[str, Any]]) -> TrackingSummary | None:
    """Return how well a run followed its curve, or None if it had none.

    Args:
        lines: The optimizer-step lines of `metrics.jsonl`, in order.

    Example:
        >>> lines = [dict(entropy=0.5, target=0.4, lower=0.3, upper=0.5, kept_fraction=0.5)] * 10
        >>> round(summarise_tracking(lines).mean_error, 3), summarise_tracking(lines).in_band
        (0.1, 1.0)
    """
    # A step of which nothing was measured, such as one of truncated answers alone, says nothing about the curve.
    needed = ("entropy", "target", "lower", "upper", "kept_fraction")
    steered = [line for line in lines if all(line.get(name) is not None for name in needed)]
    if not steered:
        return None
    settled = steered[int(SETTLING_SHARE * len(steered)) :]
    errors = sorted(abs(line["entropy"] - line["target"]) for line in settled)
    in_band = sum(line["lower"] <= line["entropy"] <= line["upper"] for line in settled)
    standard_errors = [line["entropy_stderr"] for line in settled if line.get("entropy_stderr") is not None]
    kept_tokens = [line["kept_token_fraction"] for line in steered if line.get("kept_token_fraction") is not None]
    return TrackingSummary(
        num_steps=len(settled),
        mean_error=sum(errors) / len(errors),
        p95_error=errors[min(len(errors) - 1, int(0.95 * len(errors)))],
        in_band=in_band / len(settled),
        standard_error=sum(standard_errors) / len(standard_errors) if standard_errors else None,
        kept_fraction=sum(line["kept_fraction"] for line in steered) / len(steered),
        kept_token_fraction=sum(kept_tokens) / len(steered) if len(kept_tokens) == len(steered) else None,
    )
