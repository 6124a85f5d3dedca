"""What a method decides, for an engine to carry out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.errors import UnknownNameError

Normalize = Literal["kept", "all"]
"""What the loss is averaged over: `kept`, what is kept (Eq. 5); `all`, what is left out included."""

KNOBS = ("entropy_coef", "clip_low", "clip_high", "temperature")
"""Settings of the algorithm that a decision may turn, beside what it says of rollouts, advantages and tokens."""

TURNABLE = frozenset({"rollouts", "tokens", "advantages", "surrogate", *KNOBS})
"""All that decisions and surrogates may set; see `Method.turns`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What the next update may use: which rollouts, at which advantages, and under which settings of the loss.

    `everything` and `keeping` make the usual ones. A decision that sets what its method's `turns` does not name is
    refused by the controller.

    Example:
        >>> batch = Batch(step=1, entropy=0.5, advantages=torch.tensor([1.0, -2.0]))
        >>> Decision.keeping(batch, torch.tensor([False, True])).advantages
        tensor([ 0., -2.])
    """

    keep: Tensor
    """(B,) bool: which rollouts enter the gradient."""
    advantages: Tensor
    """(B,) what the update must use; 0 where rejected."""
    knobs: Mapping[str, float] = field(default_factory=dict)
    """Values for some of `KNOBS`, all but the last for this update alone: `entropy_coef` is added to the coefficient of
    the loss's entropy bonus (a penalty, if negative), `clip_low` and `clip_high` replace the clip range `1 - clip_low
    ... 1 + clip_high` of the ratio, `temperature` is what batches are sampled and scored at from the next one on."""
    note: Any = None
    """Whatever the method's `decide` has to tell its `weigh` and its `surrogate`."""
    normalize: Normalize = "kept"
    """What the loss is averaged over; see `loss_scale`."""
    kept_share: float | None = None
    """Share kept of what the method chooses among, for the guard; by default the share of the rollouts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What to log, every value finite."""

    @classmethod
    def everything(cls, batch: Batch, **fields: Any) -> "Decision":
        """Return the decision that keeps every rollout at its own advantage."""
        keep = torch.ones_like(batch.advantages, dtype=torch.bool)
        return cls(**{"keep": keep, "advantages": batch.advantages} | fields)

    @classmethod
    def keeping(cls, batch: Batch, keep: Tensor, **fields: Any) -> "Decision":
        """Return the decision that keeps some rollouts, at their own advantages."""
        advantages = torch.where(keep, batch.advantages, torch.zeros_like(batch.advantages))
        return cls(keep=keep, advantages=advantages, **fields)

    @property
    def turned(self) -> dict[str, float]:
        """The knobs that make a difference: an `entropy_coef` of 0 makes none."""
        return {name: value for name, value in self.knobs.items() if name != "entropy_coef" or value}

    @property
    def turned_now(self) -> dict[str, float]:
        """The knobs that make a difference to this update, and not to the next batch."""
        return {name: value for name, value in self.turned.items() if name != "temperature"}

    @property
    def empty(self) -> bool:
        """True if nothing was kept: there is nothing to update on."""
        return not bool(self.keep.any())

    @property
    def moves_nothing(self) -> bool:
        """True if nothing that is kept has an advantage and no knob is turned: momentum alone would act."""
        return not bool(self.advantages.any()) and not self.turned_now

    @property
    def teaches_nothing(self) -> bool:
        """True if rejecting has left nothing to learn from."""
        return not bool(self.keep.all()) and self.moves_nothing

    def loss_scale(self, sizes: Tensor | None = None) -> float:
        """Return the factor from a loss averaged over all rollouts to what `normalize` asks for.

        `sum(sizes) / sum(sizes of kept)` for `kept` (Eq. 5 averages over |S_x|), 1 for `all`.

        Args:
            sizes: (B,) what the loss divides by: tokens per rollout for a token-mean loss; by default
                1 for each rollout.

        Returns:
            The factor; 0 for an empty decision, or if the kept rollouts have size 0.

        Example:
            >>> kept = torch.tensor([True, False, False, True])
            >>> Decision(keep=kept, advantages=torch.zeros(4)).loss_scale()
            2.0
        """
        if self.normalize == "all":
            return 0.0 if self.empty else 1.0
        sizes = torch.ones(len(self.keep)) if sizes is None else sizes.double()
        kept = sizes[self.keep].sum().item()
        return sizes.sum().item() / kept if kept else 0.0


def check_normalize(normalize: str) -> Normalize:
    """Return `normalize` if it is one of `Normalize`'s words, else raise `UnknownNameError`."""
    if normalize not in get_args(Normalize):
        raise UnknownNameError.of("normalize", normalize, get_args(Normalize))
    return normalize  # type: ignore[return-value]
