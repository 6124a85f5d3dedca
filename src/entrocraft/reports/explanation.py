"""An explanation in words and a table."""

from entrocraft.analysis.explanation import GOOD_FIT, GOOD_SHARE, Explanation, OutOfBand
from entrocraft.runs.metrics import NATS, QUADRANTS


def describe(explanation: Explanation) -> str:
    """Return the explanation in words and a table."""
    e = explanation
    totals, rejected = e.totals(), e.rejected_totals()
    rows = [
        f"entropy changed by {e.total_change:+.4f} {NATS} from step {e.steps[0]} to {e.steps[-1] + 1}, of which",
        "                              kept   rejected",
        *(f"  {name.replace('_', ', '):<20}  {totals[name]:>+10.4f} {rejected[name]:>+10.4f}" for name in QUADRANTS),
        f"  {'all quadrants':<20}  {sum(totals[name] for name in QUADRANTS):>+10.4f} {sum(rejected.values()):>+10.4f}",
        f"  {'drift':<20}  {totals['drift']:>+10.4f}",
        f"  {'unexplained':<20}  {totals['unexplained']:>+10.4f}",
        "",
        f"Fit: R^2 {e.r_squared:.2f} (a straight line alone {e.r_squared_line:.2f}), gain {e.gain:.4g} nats per unit.",
        _verdict(e),
        _filter(e, sum(rejected.values())),
        _band(e),
    ]
    return "\n".join(rows)


def _verdict(e: Explanation) -> str:
    """Return how far the rows above can be trusted."""
    if e.gain <= 0:
        return (
            "The gain is not positive: entropy went against what the kept tokens predict. The rows of the quadrants "
            "explain nothing here; something else, such as visiting other contexts, moved it."
        )
    if not e.r_squared >= GOOD_FIT:
        return "The fit is poor: take the rows for hints, not for the causes."
    if not e.share_beyond_line >= GOOD_SHARE:
        return (
            "A straight line alone explains nearly as much: how the change divides between quadrants and drift "
            "is not settled by this run."
        )
    return f"The kept tokens explain {e.share_beyond_line:.0%} of what a straight line leaves."


def _filter(e: Explanation, added: float) -> str:
    """Return what would have happened if all tokens had been kept."""
    if e.gain <= 0:
        return "Nor can be said what the filter did about it."
    return (
        f"What the filter did: keeping all tokens would have moved entropy by {added:+.4f} nats more, "
        "to first order and along the path that was taken."
    )


def _band(e: Explanation) -> str:
    """Return how many steps lay outside of the band, and how much was kept at these."""

    def side(name: str, steps: OutOfBand) -> str:
        kept = "" if steps.kept_fraction is None else f" ({steps.kept_fraction:.0%} of the tokens kept then)"
        return f"{steps.num_steps} steps {name} the band{kept}"

    return f"Of {len(e.steps) + 1} steps: {side('below', e.below)}, {side('above', e.above)}."
