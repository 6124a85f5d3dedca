"""E3's temperature scheduler: the sampling temperature follows the curve."""

import math
from collections.abc import Mapping
from typing import Any

from entrocraft.control.batch import Batch
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class AdaptiveTemperature(Method):
    """Sample the next batch hotter while entropy is below the target, and cooler while it is above.

    After each batch that was sampled at temperature T, with its entropy H and the target H*, in nats per token, and a
    vocabulary of V tokens,

        T <- clip(T (1 + T ln(H* / H) / (ln V + ln ln V)), least, most).

    Entropies, log-probabilities and ratios are all those of the policy *at the temperature that the batch was sampled
    at*: the policy whose entropy follows the curve is the tempered one, and part of what moves it is the thermometer.
    At a fixed temperature, as in held-out scores, entropy may go elsewhere. Nothing is left out of an update.

    Args:
        vocabulary: V, at least 3; by default that of Qwen2.5. It sets the step alone: 1/14.4 of T there, 1/14.2 for a
            vocabulary of 128,000.
        start: Temperature of the first batch, for loops that do not say what they sampled at; trainers say it.
        least: Lowest temperature, more than 0.
        most: Highest temperature.

    Raises:
        InvalidValueError: A number is out of range, or not in order.

    Source: E3, arXiv 2505.18573, and its code, with its defaults. Its target, the entropy of the first step, which a
    cosine takes to 0.9 of it over the last 40 % of steps, is the schedule's here (docs/control.md has that one).
    Deviations: the limits are ours, without which T could become negative; H is the batch's, before the update, where
    theirs is the mean over the update's mini-batches, which the code's last state hands on only if the loss has an
    entropy bonus; V is an option. E3's other half, which shifts rollouts from easy prompts to hard ones, is not here.

    Example:
        >>> import torch
        >>> batch = Batch(step=1, entropy=0.25, advantages=torch.ones(1))
        >>> decision = AdaptiveTemperature().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6))
        >>> round(decision.knobs["temperature"], 4)
        1.0481
    """

    turns = frozenset({"temperature"})

    def __init__(self, vocabulary: int = 151936, start: float = 1.0, least: float = 0.1, most: float = 10.0):
        if vocabulary < 3:
            raise InvalidValueError(f"vocabulary must be at least 3 tokens, got {vocabulary}")
        self.least, self.most = checked_number("least", least), checked_number("most", most)
        self.temperature = checked_number("start", start)
        if not 0.0 < self.least <= self.temperature <= self.most:
            raise InvalidValueError(f"expected 0 < least <= start <= most, got {least}, {start} and {most}")
        self._scale = math.log(vocabulary) + math.log(math.log(vocabulary))

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        sampled_at = self.temperature if batch.temperature is None else batch.temperature
        wanted = sampled_at * (1.0 + sampled_at * _log_ratio(goal.target, batch.entropy) / self._scale)
        self.temperature = min(self.most, max(self.least, wanted))
        knobs = {"temperature": self.temperature}
        return Decision.everything(batch, knobs=knobs, metrics={"temperature": sampled_at})

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"temperature": self.temperature}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of an adaptive temperature", state, self.state_dict())
        self.temperature = float(state["temperature"])


def _log_ratio(target: float, entropy: float) -> float:
    """Return `ln(target / entropy)`: infinite if one of them is nothing, 0 if both are."""
    if target <= 0.0:
        return 0.0 if entropy <= 0.0 else -math.inf
    return math.inf if entropy <= 0.0 else math.log(target) - math.log(entropy)
