"""Settings to begin with, from what rollouts show."""

import math
from dataclasses import dataclass
from typing import Any

import yaml

from entrocraft.analysis.diagnosis.findings import Agreement, Parts
from entrocraft.control import EntropyControl

FLOOR = 0.01
"""The noise floor, in nats, for which the number of prompts is given."""
AGREES = 0.9
"""Sign agreement, weighted by size, from which the advantage's sign is good enough."""
DOMINATES = 10.0
"""How many times larger than the local part visitation must be for local predictions to be of little use."""
WIDTH_IN_ERRORS = 4.0
"""Width of the band in standard errors of one reading: two to either side of the curve."""
MIN_WIDTH = 0.02
"""Width of the band at least, as a share of the starting entropy."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Settings to begin with, and why."""

    control: dict[str, Any] | None
    """Arguments of `EntropyControl`; None if there is nothing to control."""
    reasons: tuple[str, ...]

    def to_yaml(self) -> str:
        """Return the block to paste into a configuration."""
        return yaml.safe_dump({"control": self.control}, sort_keys=False)


def recommend(
    entropy: float, standard_error: float, num_prompts: int, agreement: dict[str, Agreement], parts: Parts
) -> Recommendation:
    """Return settings to begin with.

    - method `budget` with predictor `whole_model` where visitation is `DOMINATES` times larger than the local part:
      local signs see little of what happens;
    - method `advantage`, the paper's, where visitation is smaller than the local part and the advantage's sign agrees
      with the exact change by `AGREES`;
    - method `token` otherwise.

    The curve is half of the starting entropy by the end, and the band `WIDTH_IN_ERRORS` standard errors wide.

    Args:
        entropy: Entropy at the start, in nats per token.
        standard_error: Standard error of that entropy, in nats per token, over `num_prompts` prompts.
        num_prompts: Number of prompts in a step.
        agreement: How well predictors, `advantage` at least, agree with the exact change; empty if no rollout changes
            anything.
        parts: The parts of the predicted change.
    """
    if not agreement:
        return Recommendation(
            control=None,
            reasons=(
                "No rollout would change entropy: no prompt has rollouts of different scores, or the policy is certain "
                "of every token. GRPO has nothing to learn here, and rejection nothing to choose from. Take easier or "
                "harder problems, more rollouts per prompt, or a higher temperature.",
            ),
        )
    signs = agreement["advantage"].by_size
    sign_text = f"the sign of the advantage is that of the local entropy change for {signs:.0%} of it, by size"
    part_text = f"the part of visitation is {parts.ratio:.1f} times as large as the local one"
    if parts.ratio >= DOMINATES:
        settings = {"method": "budget", "predictor": "whole_model"}
        why = (
            f"Method `budget` with predictor `whole_model`: {part_text} ({DOMINATES:g} or more), so what the policy "
            f"will visit decides, and methods that look at visited tokens alone can lose the curve; {sign_text}."
        )
    elif parts.ratio < 1 and signs >= AGREES:
        settings = {"method": "advantage"}
        why = f"Method `advantage`, the paper's, suffices: {sign_text} ({AGREES:.0%} or more), and {part_text}."
    else:
        settings = {"method": "token"}
        why = (
            f"Method `token`, which predicts each token's change and leaves out few: {sign_text}, and {part_text}. "
            f"The paper's method would want {AGREES:.0%} and less than 1. (Where the loss weighs whole rollouts, as "
            "RLOO's and GSPO's do, take method `budget`.)"
        )
    relative = WIDTH_IN_ERRORS * standard_error / entropy
    width = float(f"{max(relative, MIN_WIDTH):.2g}")
    width_why = (
        f"A band {width:g} of it wide, {width * entropy:.3f} nats: "
        + (
            f"{WIDTH_IN_ERRORS:g} standard errors of one reading"
            if relative >= MIN_WIDTH
            else f"the narrowest advised, wider than {WIDTH_IN_ERRORS:g} standard errors of one reading"
        )
        + f" at {num_prompts} prompts a step. A noise floor of {FLOOR:g} nats takes "
        f"{prompts_for(FLOOR, standard_error, num_prompts)} prompts."
    )
    schedule_why = f"A line from the starting entropy to half of it: {entropy:.3f} to {entropy / 2:.3f} nats per token."
    control: dict[str, Any] = {"schedule": "linear(1.0, 0.5, unit='initial')", "width": width, **settings}
    EntropyControl(**control)  # what is recommended can be used
    return Recommendation(control=control, reasons=(why, schedule_why, width_why))


def prompts_for(floor: float, standard_error: float, num_prompts: int) -> int:
    """Return how many prompts a batch needs for the noise floor `floor`, given that of `num_prompts` prompts.

    Example:
        >>> prompts_for(0.01, standard_error=0.02, num_prompts=32)  # half the error takes four times the prompts
        128
    """
    # A standard error falls as 1 / sqrt(prompts). Rounded before it is rounded up: 128.00000000000003 is 128.
    return max(1, math.ceil(round(num_prompts * (standard_error / floor) ** 2, 6)))
