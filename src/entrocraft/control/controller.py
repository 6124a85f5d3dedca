"""The one interface: a controller sees a batch's statistics and decides what the update may use.

Controllers know nothing of engines. They see the *global* batch, already gathered over all ranks, and
are deterministic, so every rank reaches the same decision without another exchange.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor

from entrocraft.control.guard import Guard, GuardAction
from entrocraft.control.pace import pace_of
from entrocraft.errors import InvalidValueError, MeasurementError, UnknownNameError
from entrocraft.schedules import Band

Normalize = Literal["kept", "all"]
"""What the loss is averaged over: `kept`, the kept rollouts (Eq. 5); `all`, rejected ones included."""


Prediction = Tensor | Callable[[], Tensor]
"""One number per rollout, or a function that makes them: called only if the decision depends on them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchStats:
    """What a controller may look at; one row per rollout of the global batch, rank after rank.

    Raises:
        InvalidValueError: Lengths differ, or the step or the number of ranks makes no sense.
        MeasurementError: The entropy, its standard error, an advantage, a reward or a predicted change is not finite;
            the message names the step and the rank.
    """

    step: int
    """The optimizer step about to be made, counted from 1."""
    total_steps: int
    """Optimizer steps of the whole run."""
    entropy: float
    """Entropy of the policy on this batch, in nats per token."""
    advantages: Tensor
    """(B,)"""
    rewards: Tensor | None = None
    """(B,) raw rewards, before any baseline; NaN where no reward function scored a rollout."""
    groups: Tensor | None = None
    """(B,) index of the prompt a rollout answers."""
    num_tokens: Tensor | None = None
    """(B,) counted tokens of each rollout."""
    predicted_change: Prediction | None = None
    """(B,) predicted entropy change of each rollout, from whatever predictor the rule asks for."""
    visitation_change: Prediction | None = None
    """(B,) its part that comes from what the policy visits; see `dynamics.visitation_entropy_change`."""
    token_change: Prediction | None = None
    """(K, 2) `ranking.binned` predicted entropy changes of the counted tokens, added up over ranks."""
    entropy_stderr: float | None = None
    """Standard error of `entropy` as a reading of the policy's, over prompts; see `entropy_standard_error`."""
    num_ranks: int = 1
    """Ranks that contributed rows, equally many each; used to name the culprit in errors."""

    def __post_init__(self) -> None:
        if self.step < 0 or self.total_steps < 1:
            raise InvalidValueError(f"expected step >= 0 and total_steps >= 1, got {self.step} and {self.total_steps}")
        object.__setattr__(self, "entropy", float(self.entropy))
        if not math.isfinite(self.entropy):
            raise MeasurementError(
                f"step {self.step}: the entropy of the batch is {self.entropy}; look for NaN or infinite "
                "logits: a learning rate too high, or half precision"
            )
        object.__setattr__(self, "advantages", torch.as_tensor(self.advantages))
        if self.advantages.ndim != 1 or not len(self.advantages):
            raise InvalidValueError(
                f"advantages must be a vector with one entry per rollout, got shape {tuple(self.advantages.shape)}"
            )
        if self.num_ranks < 1 or len(self.advantages) % self.num_ranks:
            raise InvalidValueError(
                f"{len(self.advantages)} rollouts cannot come from {self.num_ranks} ranks, equally many each"
            )
        self._refuse_non_finite("advantages", self.advantages)
        if self.entropy_stderr is not None and not 0.0 <= self.entropy_stderr < math.inf:
            raise MeasurementError(
                f"step {self.step}: the standard error of the entropy is {self.entropy_stderr}, expected a number of at "
                "least 0, or None where it is not known"
            )
        for name in ("rewards", "groups", "num_tokens", "predicted_change", "visitation_change", "token_change"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                object.__setattr__(self, name, self._checked(name, torch.as_tensor(value)))

    def prediction(self, name: str) -> Tensor | None:
        """Return `predicted_change`, `visitation_change` or `token_change`, made now if it was left for later.

        Raises:
            InvalidValueError: It has not one entry per rollout, or is no pair of sums and counts per bin.
            MeasurementError: It is not finite.
        """
        value: Prediction | None = getattr(self, name)
        if callable(value):
            value = self._checked(name, value())
            object.__setattr__(self, name, value)
        return value

    def _checked(self, name: str, value: Tensor) -> Tensor:
        if name == "token_change":
            if value.ndim != 2 or value.shape[1] != 2:
                raise InvalidValueError(f"token_change must come from `binned`, (K, 2), got {tuple(value.shape)}")
            if not torch.isfinite(value).all():
                raise MeasurementError(
                    f"step {self.step}: predicted changes of tokens are not finite; check the rewards and the logits"
                )
            return value
        if value.shape != self.advantages.shape:
            raise InvalidValueError(
                f"{name} must have one entry per advantage, got {tuple(value.shape)} for {tuple(self.advantages.shape)}"
            )
        if name.endswith("_change") or name == "num_tokens":
            self._refuse_non_finite(name, value)
        if name == "rewards":
            self._refuse_non_finite(name, value.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf))
        return value

    def _refuse_non_finite(self, name: str, value: Tensor) -> None:
        broken = (~torch.isfinite(value)).nonzero().flatten().tolist()
        if broken:
            per_rank = len(value) // self.num_ranks
            rank, row = divmod(broken[0], per_rank)
            raise MeasurementError(
                f"step {self.step}, rank {rank}: {len(broken)} of {len(value)} {name} are not finite, the first "
                f"is {value[broken[0]].item()} (rollout {row} of that rank); check the rewards and the logits"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What the update may use."""

    keep: Tensor
    """(B,) bool: which rollouts enter the gradient."""
    advantages: Tensor
    """(B,) what the update must use; 0 where rejected."""
    normalize: Normalize = "kept"
    """What the loss is averaged over; see `loss_scale`."""
    token_limits: tuple[float, float] | None = None
    """Also leave out the tokens whose own predicted entropy change lies outside of these; None leaves out none."""
    kept_token_share: float | None = None
    """Share of the tokens with a gradient that a rule which leaves out tokens keeps; None from other rules."""
    entropy_coef: float = 0.0
    """Coefficient of an entropy bonus in the loss (a penalty, if negative); only ever a last resort."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What to log, every value finite."""

    @property
    def empty(self) -> bool:
        """True if nothing was kept: there is nothing to update on."""
        return not bool(self.keep.any())

    @property
    def teaches_nothing(self) -> bool:
        """True if something was rejected and nothing that is kept has an advantage: momentum alone would act."""
        return not bool(self.keep.all()) and not bool(self.advantages.any()) and not self.entropy_coef

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


class Controller(ABC):
    """Decides, batch by batch, what the update may use, so that entropy follows a band.

    Subclasses implement `_decide`. The base class turns the band into nats (remembering the initial
    entropy if the schedule is relative), counts, and adds the metrics that every method shares.
    """

    predictor_needed: bool = False
    """True if `BatchStats.predicted_change` must be given."""
    visitation_needed: bool = False
    """True if `BatchStats.visitation_change` must be given."""
    rewards_needed: bool = False
    """True if `BatchStats.rewards` must be given."""

    _COUNTERS = ("decisions", "out_of_band", "empty")

    def __init__(self, band: Band, *, guard: GuardAction = "warn"):
        self.guard = Guard(guard)
        self.initial_entropy: float | None = None
        self._progress = 0.0
        self._grad_norm: float | None = None
        self._drawn = band
        self._steered = False
        self._follow(band)
        self.counts = dict.fromkeys(self._COUNTERS, 0)

    def decide(self, stats: BatchStats) -> Decision:
        """Return the decision for one batch. Same state and same statistics, same decision."""
        if self.initial_entropy is None:
            self.initial_entropy = stats.entropy
        self._progress = self.pace.progress(stats.step, stats.total_steps, _mean(stats.rewards))
        drawn = self._in_nats(self.band(self._progress, 1.0))
        lower, upper = self._bounds = self.guard.relaxed(*drawn, stats.entropy)
        target = self._target_at(self._progress)
        direction = int(stats.entropy > upper) - int(stats.entropy < lower)

        decision = self._decide(stats, direction)

        self.counts["decisions"] += 1
        self.counts["out_of_band"] += direction != 0
        if decision.teaches_nothing:
            self.counts["empty"] += 1
            if self.counts["empty"] == 1:
                warnings.warn(
                    f"step {stats.step}: every rollout with an advantage was rejected, so nothing is learnt from this batch. "
                    "Entropy is out of the band and no rollout can move it back; widen the band, move the "
                    "target or raise the number of rollouts. Counted from now on in `empty_batches`.",
                    stacklevel=2,
                )
        negative = (stats.advantages < 0).double().mean().item()
        kept_fraction = decision.keep.double().mean().item()
        kept_share = kept_fraction if decision.kept_token_share is None else decision.kept_token_share
        self.guard.observe(
            step=stats.step,
            entropy=stats.entropy,
            lower=drawn[0],
            upper=drawn[1],
            kept_fraction=kept_share,
            negative_fraction=negative,
            grad_norm=self._grad_norm,
        )
        self._grad_norm = None
        if stats.entropy_stderr is not None:
            decision.metrics["entropy_stderr"] = stats.entropy_stderr
        decision.metrics.update(
            **self.pace.metrics(),
            **self.guard.metrics(),
            entropy=stats.entropy,
            target=target,
            lower=lower,
            upper=upper,
            direction=float(direction),
            tracking_error=stats.entropy - target,
            kept_fraction=kept_fraction,
            out_of_band_batches=float(self.counts["out_of_band"]),
            empty_batches=float(self.counts["empty"]),
        )
        if stats.num_tokens is not None:
            num_tokens = stats.num_tokens.double()
            kept_tokens = num_tokens[decision.keep.to(num_tokens.device)].sum().item()
            decision.metrics["kept_token_fraction"] = kept_tokens / max(num_tokens.sum().item(), 1.0)
        return decision

    def steer(self, band: Band) -> None:
        """Follow another band from the next decision on; it is saved with the state.

        Raises:
            InvalidValueError: It is no band, or it needs rewards that this run does not pass.
        """
        if pace_of(band).rewards_needed and not self.rewards_needed:
            raise InvalidValueError(
                "an adaptive schedule needs the rewards, which this run was not started with; steer to its inner curve"
            )
        self._follow(band)
        self._steered = True

    def _follow(self, band: Band) -> None:
        if not isinstance(band, Band):
            raise InvalidValueError(f"expected a Band, such as Band(linear(0.6, 0.2), width=0.04), got {band!r}")
        self.band, self.pace = band, pace_of(band, start=self._progress)
        self.rewards_needed = self.rewards_needed or self.pace.rewards_needed

    def note_gradient_norm(self, norm: float) -> None:
        """Tell the guard the gradient norm of the update that the last decision led to, before clipping."""
        # A norm that overflowed is half precision's way of skipping a step, which its loss scaler deals with.
        self._grad_norm = norm if math.isfinite(norm) else None

    def _in_nats(self, bounds: tuple[float, float]) -> tuple[float, float]:
        lower, upper = bounds
        return lower * self._unit, upper * self._unit

    @property
    def _unit(self) -> float:
        """Nats in one unit of the band."""
        return cast(float, self.initial_entropy) if self.band.unit == "initial" else 1.0

    def _target_at(self, progress: float) -> float:
        return self.band.target(progress, 1.0) * self._unit + self.guard.offset

    def _targets_ahead(self, stats: BatchStats, horizon: int, steps_per_decision: float) -> list[float]:
        """Return the targets, in nats, of the next `horizon` decisions; an adaptive curve is taken to stand still."""
        step = 0.0 if self.pace.rewards_needed else steps_per_decision / stats.total_steps
        return [self._target_at(min(1.0, self._progress + ahead * step)) for ahead in range(1, horizon + 1)]

    @abstractmethod
    def _decide(self, stats: BatchStats, direction: int) -> Decision:
        """Return the method's decision; `direction` is m: 1 above the band, -1 below, 0 inside."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {
            "initial_entropy": self.initial_entropy,
            "counts": dict(self.counts),
            "progress": self._progress,
            "pace": self.pace.state_dict(),
            "guard": self.guard.state_dict(),
            "grad_norm": self._grad_norm,
            "steered_to": self.band.to_dict() if self._steered else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidValueError: The state is not one that this controller saved.
        """
        expected = self.state_dict()
        if set(state) != set(expected) or set(state["counts"]) != set(self._COUNTERS):
            raise InvalidValueError(
                f"controller state: expected keys {sorted(expected)} with counts {sorted(self._COUNTERS)}, "
                f"got {dict(state)!r}; the state was saved by another version or another method"
            )
        self._follow(self._drawn)
        self._steered = False
        if state["steered_to"] is not None:
            self.steer(Band.from_dict(state["steered_to"]))
        self.initial_entropy = state["initial_entropy"]
        self.counts = dict(state["counts"])
        self._progress, self._grad_norm = state["progress"], state["grad_norm"]
        self.pace.load_state_dict(state["pace"])
        self.guard.load_state_dict(state["guard"])


def _mean(values: Tensor | None) -> float | None:
    """Return the mean of the rollouts that have a score, as TRL takes it."""
    return None if values is None else values.double().nanmean().item()


class NoControl(Controller):
    """Keep everything and report where entropy is: the baseline of every comparison."""

    def __init__(self, band: Band, *, guard: GuardAction = "off"):
        super().__init__(band, guard=guard)

    def _decide(self, stats: BatchStats, direction: int) -> Decision:
        keep = torch.ones_like(stats.advantages, dtype=torch.bool)
        return Decision(keep=keep, advantages=stats.advantages)


def check_normalize(normalize: str) -> Normalize:
    """Return `normalize` if it is one of `Normalize`'s words, else raise `UnknownNameError`."""
    if normalize not in ("kept", "all"):
        raise UnknownNameError.of("normalize", normalize, ["kept", "all"])
    return normalize  # type: ignore[return-value]
