"""What a method decides, for an engine to carry out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from entrocraft.control.batch import Batch
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import MOST, checked_number

Normalize = Literal["kept", "all"]
"""What the loss is averaged over: `kept`, what is kept (Eq. 5); `all`, what is left out included."""

KNOBS = ("entropy_coef", "clip_low", "clip_high", "learning_rate", "temperature")
"""Settings of the algorithm that a decision may turn, beside what it says of rollouts, advantages and tokens."""

TURNABLE = frozenset({"rollouts", "tokens", "advantages", "surrogate", *KNOBS})
"""All that decisions and surrogates may set; see `Method.turns`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What the next update may use: which rollouts, at which advantages, and under which settings of the loss.

    `everything` and `keeping` make the usual ones. A decision that sets what its method's `turns` does not name is
    refused by the controller, which names the method in what is refused here, too.

    Raises:
        InvalidValueError: `keep` is no vector of bools, `advantages` are not as many finite numbers, a knob is no
            number in its range, or `kept_share` no share.
        UnknownNameError: There is no such knob, or no such word for `normalize`.

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
    ... 1 + clip_high` of the ratio, `learning_rate` is a factor on the optimizer's, `temperature` is what batches are
    sampled and scored at from the next one on."""
    note: Any = None
    """Whatever the method's `decide` has to tell its `weigh` and its `surrogate`."""
    normalize: Normalize = "kept"
    """What the loss is averaged over; see `loss_scale`."""
    kept_share: float | None = None
    """Share kept of what the method chooses among, for the guard; by default the share of the rollouts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What to log, every value finite."""

    def __post_init__(self) -> None:
        # Whole numbers would be taken as places of rollouts, not as which of them are kept.
        if not isinstance(self.keep, Tensor) or self.keep.dtype != torch.bool or self.keep.ndim != 1:
            raise InvalidValueError(
                f"keep must be a tensor of bools, one per rollout, got {_said(self.keep)}; make it by a comparison, "
                "such as batch.advantages > 0, or with .bool()"
            )
        if not isinstance(self.advantages, Tensor) or self.advantages.shape != self.keep.shape:
            raise InvalidValueError(
                f"advantages must be a tensor of {len(self.keep)} numbers, one for each of keep, got "
                f"{_said(self.advantages)}"
            )
        if not self.advantages.isfinite().all():
            broken = (~self.advantages.isfinite()).nonzero().flatten().tolist()
            raise InvalidValueError(
                f"advantages must be finite, got {len(broken)} of {len(self.keep)} that are not, the first "
                f"{self.advantages[broken[0]].item()} for rollout {broken[0]}"
            )
        check_normalize(self.normalize)
        if not isinstance(self.knobs, Mapping):
            raise InvalidValueError(f"knobs must be numbers by name, got {self.knobs!r:.80}")
        for name, value in self.knobs.items():
            if name not in KNOBS:
                raise UnknownNameError.of("knob", name, KNOBS)
            number = checked_number(name, value, minimum=-MOST if name == "entropy_coef" else 0.0)
            if name == "temperature" and number == 0.0:
                raise InvalidValueError("temperature must be more than 0, got 0")
        if self.kept_share is not None:
            checked_number("kept_share", self.kept_share, maximum=1.0)

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
        """The knobs that make a difference: an `entropy_coef` of 0 makes none, nor does a `learning_rate` of 1."""
        idle = {"entropy_coef": 0.0, "learning_rate": 1.0}
        return {name: value for name, value in self.knobs.items() if value != idle.get(name)}

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
        """True if nothing that is kept has an advantage and no knob adds to the loss: momentum alone would act."""
        return not bool(self.advantages.any()) and self.turned_now.keys() <= {"learning_rate"}

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


def check_decision(decision: object, num_rollouts: int) -> None:
    """Refuse what is no decision on so many rollouts; raises `InvalidValueError`."""
    if not isinstance(decision, Decision):
        raise InvalidValueError(
            f"decide must return a Decision, such as Decision.keeping(batch, keep), got {decision!r:.80}"
        )
    if len(decision.keep) != num_rollouts:
        raise InvalidValueError(
            f"keep and advantages must have one entry for each of the {num_rollouts} rollouts of the batch, got "
            f"{len(decision.keep)}"
        )


def check_weights(weights_BT: object, mask_BT: Tensor) -> None:
    """Refuse what is no factor on each token's advantage; raises `InvalidValueError`."""
    if not isinstance(weights_BT, Tensor) or weights_BT.shape != mask_BT.shape:
        raise InvalidValueError(
            f"weigh must return None or a tensor of shape {tuple(mask_BT.shape)}, a factor per token, got "
            f"{_said(weights_BT)}"
        )
    if not weights_BT[mask_BT.bool()].isfinite().all():
        raise InvalidValueError("weigh must return finite factors, got NaN or infinity for tokens that the loss counts")


def _said(value: object) -> str:
    """Return what a value is, in a few words."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"


def check_normalize(normalize: str) -> Normalize:
    """Return `normalize` if it is one of `Normalize`'s words, else raise `UnknownNameError`."""
    if not isinstance(normalize, str) or normalize not in get_args(Normalize):
        raise UnknownNameError.of("normalize", normalize, get_args(Normalize))
    return normalize  # type: ignore[return-value]
