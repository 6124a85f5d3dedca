"""What a method sees: the batch over all ranks, and this rank's tokens.

Shapes: B rollouts of all ranks (of this rank in `Tokens`), T tokens.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entrocraft.entropy import as_tensor
from entrocraft.errors import InvalidValueError, MeasurementError
from entrocraft.schedules.base import plain_number

ROUNDING = 1e-3
"""Nats by which rounding may make a log-probability positive or an entropy negative."""
_COLUMNS = ("rewards", "groups", "num_tokens", "change", "visitation", "sequence_log_probs")
_SAID = {
    "change": "predicted changes",
    "visitation": "visitation changes",
    "sequence_log_probs": "log-probabilities of rollouts",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The batch of rollouts that the next update is made from: numbers, and one row per rollout, rank after rank.

    Everything in it is the same on every rank, so that all ranks decide alike without another exchange.

    Raises:
        InvalidValueError: Lengths differ, the step, the number of ranks or the temperature makes no sense, or the
            entropy is no number or less than 0.
        MeasurementError: The entropy, its standard error, an advantage, a reward or a predicted change is not finite;
            the message names the step and the rank.

    Example:
        >>> import torch
        >>> Batch(step=1, entropy=0.5, advantages=torch.tensor([1.0, -1.0])).advantages
        tensor([ 1., -1.])
    """

    step: int
    """The optimizer step about to be made, counted from 1."""
    entropy: float
    """Entropy of the policy on this batch, in nats per token."""
    advantages: Tensor
    """(B,) one advantage per rollout."""
    entropy_stderr: float | None = None
    """Standard error of `entropy` as a reading of the policy's, over prompts, in nats; see `entropy_standard_error`."""
    rewards: Tensor | None = None
    """(B,) raw rewards, before any baseline; NaN where no reward function scored a rollout."""
    groups: Tensor | None = None
    """(B,) index of the prompt that a rollout answers."""
    num_tokens: Tensor | None = None
    """(B,) tokens of a rollout that the loss counts."""
    change: Tensor | None = None
    """(B,) signal `change`: predicted entropy change of each rollout, in whatever unit its predictor has."""
    visitation: Tensor | None = None
    """(B,) signal `visitation`: the change that comes from visiting other contexts; see `dynamics.visitation`."""
    sequence_log_probs: Tensor | None = None
    """(B,) signal `sequence_log_probs`: log-probability of each rollout, in nats, summed over its counted tokens."""
    reading: Any = None
    """What the method's own `read` returned."""
    temperature: float | None = None
    """Temperature that the batch was sampled and scored at, where the engine can move it."""
    num_ranks: int = 1
    """Ranks that contributed rows, equally many each; used to name the culprit in errors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", whole_number("step", self.step, minimum=0))
        object.__setattr__(self, "entropy", _number("entropy", self.entropy))
        if not math.isfinite(self.entropy):
            raise MeasurementError(
                f"step {self.step}: the entropy of the batch is {self.entropy}; look for NaN or infinite "
                "logits: a learning rate too high, or half precision"
            )
        if self.entropy < -ROUNDING:
            raise InvalidValueError(f"entropy must be in nats per token, at least 0, got {self.entropy}")
        advantages = as_tensor("advantages", self.advantages)
        # Factors on whole numbers would be cut down to whole numbers.
        object.__setattr__(self, "advantages", advantages if advantages.is_floating_point() else advantages.float())
        if self.advantages.ndim != 1 or not len(self.advantages):
            raise InvalidValueError(
                f"advantages must be a vector with one entry per rollout, got shape {tuple(self.advantages.shape)}"
            )
        if len(self.advantages) % whole_number("num_ranks", self.num_ranks, minimum=1):
            raise InvalidValueError(
                f"{len(self.advantages)} rollouts cannot come from {self.num_ranks} ranks, equally many each"
            )
        self._refuse_non_finite("advantages", self.advantages)
        if self.entropy_stderr is not None and not 0.0 <= _number("entropy_stderr", self.entropy_stderr) < math.inf:
            raise MeasurementError(
                f"step {self.step}: the standard error of the entropy is {self.entropy_stderr}, expected a number of "
                "at least 0, or None where it is not known"
            )
        if self.temperature is not None and not 0.0 < _number("temperature", self.temperature) < math.inf:
            raise InvalidValueError(f"temperature must be a positive number, got {self.temperature}")
        for name in _COLUMNS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, self._checked(name, as_tensor(name, value)))

    @property
    def surprisal(self) -> Tensor:
        """(B,) mean of `-log p` over each rollout's counted tokens, in nats per token; 0 for one without any."""
        if self.sequence_log_probs is None or self.num_tokens is None:
            raise InvalidValueError("expected sequence_log_probs and num_tokens, of which surprisals are made")
        return -self.sequence_log_probs / self.num_tokens.clamp(min=1)

    @property
    def mean_reward(self) -> float | None:
        """Mean reward of the rollouts that were scored; None if there are no rewards."""
        return None if self.rewards is None else self.rewards.double().nanmean().item()

    def _checked(self, name: str, value: Tensor) -> Tensor:
        if value.shape != self.advantages.shape:
            raise InvalidValueError(
                f"{name} must have one entry per advantage, got {tuple(value.shape)} for {tuple(self.advantages.shape)}"
            )
        if name == "rewards":
            refuse_infinite_rewards(value, self.step, self.num_ranks)
        else:
            self._refuse_non_finite(name, value)
        return value

    def _refuse_non_finite(self, name: str, value: Tensor) -> None:
        _refuse_rows(name, value, ~value.isfinite(), self.step, self.num_ranks)


def refuse_infinite_rewards(rewards_B: Tensor, step: int, num_ranks: int) -> None:
    """Raise `MeasurementError` for rewards without bound, of which no advantages can be made.

    A rollout that no reward function scored has a reward of NaN, which is no mistake.
    """
    _refuse_rows("rewards", rewards_B, rewards_B.isinf(), step, num_ranks)


def _refuse_rows(name: str, value_B: Tensor, is_broken_B: Tensor, step: int, num_ranks: int) -> None:
    broken = is_broken_B.nonzero().flatten().tolist()
    if broken:
        # Rows are rank after rank, equally many each.
        rank, row = divmod(broken[0], len(value_B) // num_ranks)
        raise MeasurementError(
            f"step {step}, rank {rank}: {len(broken)} of {len(value_B)} {_SAID.get(name, name)} are not finite, "
            f"the first is {value_B[broken[0]].item()} (rollout {row} of that rank); check the rewards and the logits"
        )


def whole_number(name: str, value: Any, *, minimum: int) -> int:
    """Return a count as Python's own; raises `InvalidValueError` for what is none, or less than `minimum`."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < minimum:
        raise InvalidValueError(f"{name} must be a whole number of at least {minimum}, got {value!r:.80}")
    return number


def _number(name: str, value: Any) -> float:
    """Return a number as Python's own, NaN and infinity included; text is none."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValueError(f"{name} must be a number, got {value!r:.80}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """This rank's sampled tokens, as the policy about to be updated sees them.

    All fields but the last are (B, T), over the B rollouts of this rank; what lies beyond the mask is not meant to be
    read. A signal that the method did not ask for is None.

    Example:
        >>> import torch
        >>> ones = torch.ones(1, 2)
        >>> log_probs = torch.tensor([[-0.5, -2.0]])
        >>> Tokens(log_probs_BT=log_probs, entropy_BT=ones, advantages_BT=ones, mask_BT=ones).surprisal_BT
        tensor([[0.5000, 2.0000]])
    """

    log_probs_BT: Tensor
    """Log-probabilities of the sampled tokens, in nats."""
    entropy_BT: Tensor
    """Entropies of the distributions that they were sampled from, in nats."""
    advantages_BT: Tensor
    """Advantages; where all tokens of a rollout share one, it stands at each of them."""
    mask_BT: Tensor
    """1 where the loss counts a token."""
    change_BT: Tensor | None = None
    """Signal `change`: what each token's part in the update is predicted to change entropy by; 0 where the mask is."""
    visitation_BT: Tensor | None = None
    """Signal `visitation`: the same, by visiting other contexts; 0 where the mask is."""
    covariance_BT: Tensor | None = None
    """Signal `covariance`: `(log p - mean)(A - mean)`, with the means over all counted tokens of all ranks."""
    first_row: int = 0
    """Place of this rank's first row among those of all ranks, for draws that do not depend on how rows are divided."""

    @property
    def surprisal_BT(self) -> Tensor:
        """Signal `surprisal`: `-log p` of each sampled token, in nats."""
        return -self.log_probs_BT
