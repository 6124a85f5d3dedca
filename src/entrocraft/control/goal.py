"""Where entropy should be at one decision."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The stretch of the curve that one decision is about, in nats per token.

    Example:
        >>> goal = Goal(lower=0.4, target=0.5, upper=0.6)
        >>> goal.side(0.7), goal.side(0.5), goal.side(0.3)
        (1, 0, -1)
        >>> goal.ahead(2)  # a curve that stands still, unless it says otherwise
        [0.5, 0.5]
    """

    lower: float
    """Lower edge of the band; entropy on the edge is inside."""
    target: float
    """Middle of the band: the entropy to be at."""
    upper: float
    """Upper edge of the band."""
    ahead: Callable[[int], list[float]] = None  # type: ignore[assignment]
    """Takes n and returns the targets of the next n decisions; by default `target` each."""
    elapsed: float | None = None
    """Share of the run's optimizer steps that are made with this one, in [0, 1]; None where nobody knows."""

    def __post_init__(self) -> None:
        if self.ahead is None:
            object.__setattr__(self, "ahead", lambda n: [self.target] * n)

    def side(self, entropy: float) -> int:
        """Return m of the paper's Algorithm 1: 1 above the band, -1 below it, 0 inside."""
        return int(entropy > self.upper) - int(entropy < self.lower)
