"""The settings of entropy control, the same for every engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrocraft import advantages, controllers
from entrocraft.controllers import Controller
from entrocraft.entropy import Aggregation
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band, Schedule
from entrocraft.schedules.base import checked_number

DEFAULT_SCHEDULE = "linear(1.0, 0.5, unit='initial')"
DEFAULT_WIDTH = 0.04


@dataclass(frozen=True, kw_only=True)
class EntropyControl:
    """Where entropy should be, and how an engine keeps it there.

    Everything is checked when the object is made, before any model loads.

    Raises:
        InvalidValueError: A value cannot be used.
        UnknownNameError: A name is not known.

    Example:
        >>> EntropyControl(schedule="linear(0.5, 0.3)").build().band.target(0, 100)
        0.5
    """

    schedule: Any = None
    """The curve: anything `schedule_from` takes. By default linear annealing from the entropy measured
    at the first step to half of it, which needs no tuning to the model."""
    width: float | None = None
    """Width of the band around the curve, in the curve's unit; 0.04 by default."""
    lower: Any = None
    """Lower edge of the band, instead of `schedule` and `width`."""
    upper: Any = None
    """Upper edge of the band, instead of `schedule` and `width`."""
    method: str = "rejection"
    """The controller, one of `controllers.available()`: `rejection`; `entropic`, which keeps all rollouts and weighs successes
    against failures; or `none`, which only watches."""
    rule: str | None = None
    """What a rejection keeps; see `RejectionController`. By default `token`, or `budget` where the loss weighs a rollout as
    a whole (RLOO, importance sampling by sequence) or `visitation` is asked for."""
    normalize: str = "kept"
    """What the loss is averaged over: `kept` rollouts (Eq. 5) or `all`."""
    reward_baseline: float = 0.0
    """For rule `reward`: what a neutral reward is."""
    visitation: bool = False
    """Add what the policy visits to the predicted change; see `RejectionController`."""
    min_kept: float = 0.1
    """For the rules `budget` and `token`: share of the rollouts, or tokens, with a gradient that is kept at least."""
    fallback: str = "skip"
    """When no rollout moves entropy back: `skip` the update, or `escalate`; see `controllers.Fallback`."""
    entropy_bonus: float = 0.0
    """Coefficient of the entropy bonus that `escalate` may end in; 0 forbids it."""
    guard: str | None = None
    """Whether to watch for a target that is out of reach or does harm: `off`, `warn` (the default under control) or
    `relax`; see `Guard`."""
    rejected: str = "drop"
    """What the engine does with rejected rollouts: `drop` leaves them out of the forward and backward
    passes; `mask` keeps them with zero advantage, so that they pay compute and still feel a KL term."""
    predictor: str = "estimate"
    """How predictions are made: `estimate` needs log-probabilities and entropies only, `exact` the logits of the whole
    vocabulary, `aligned` a gradient and a pass of its own (see `alignment`). Rule `aligned` implies `aligned`."""
    aligned_blocks: int | None = None
    """Predictor `aligned`: look at the weights of so many last blocks alone, by default at all trainable ones. Fewer are
    cheaper and agree in sign nearly always, in size less: see docs/control.md."""
    aligned_share: float = 1.0
    """Predictor `aligned`: share of the rollouts that its direction is taken from. Fewer are cheaper, and far worse."""
    steering: str | None = None
    """A file that the running job looks at before each decision: write a schedule into it, and the run follows that
    from then on. The command line sets it to `steering.yaml` in the run directory; see `steering`."""
    estimator: str | None = None
    """Advantage estimator, one of `advantages.available()`; by default the trainer's own."""
    aggregation: Aggregation = "token_mean"
    """How token entropies become the batch's: see `batch_entropy`."""

    def __post_init__(self) -> None:
        for name in (
            "method",
            "rule",
            "normalize",
            "fallback",
            "guard",
            "steering",
            "rejected",
            "predictor",
            "estimator",
            "aggregation",
        ):
            value = getattr(self, name)
            if not isinstance(value, str) and not (
                name in ("rule", "estimator", "guard", "steering") and value is None
            ):
                raise InvalidValueError(f"{name} must be a name, got {value!r}")
        checked_number("reward_baseline", self.reward_baseline, minimum=-math.inf)
        for name, known in (
            ("rejected", ("drop", "mask")),
            ("predictor", ("estimate", "exact", "aligned")),
            ("aggregation", ("token_mean", "sequence_mean")),
        ):
            if getattr(self, name) not in known:
                raise UnknownNameError.of(f"{name} mode", getattr(self, name), known)
        if self.rule == "aligned" and self.predictor == "exact":
            raise InvalidValueError("rule 'aligned' brings its own predictor; use rule 'predicted' with 'exact'")
        if self.aligned and self.visitation:
            raise InvalidValueError("predictor 'aligned' sees visitation already; set visitation=False")
        if not 0.0 < checked_number("aligned_share", self.aligned_share) <= 1.0:
            raise InvalidValueError(f"aligned_share must lie in (0, 1], got {self.aligned_share}")
        if self.aligned_blocks is not None and (not isinstance(self.aligned_blocks, int) or self.aligned_blocks < 1):
            raise InvalidValueError(
                f"aligned_blocks must be a whole number of at least 1, or null, got {self.aligned_blocks!r}"
            )
        if self.estimator is not None:
            advantages.check_estimator(self.estimator)
        self.build()

    @classmethod
    def of(cls, value: Any) -> "EntropyControl":
        """Return settings for whatever a user hands to a trainer.

        Args:
            value: Settings, a mapping of them, a band, a schedule or anything that `schedule_from`
                takes, or None for the defaults.
        """
        match value:
            case None:
                return cls()
            case EntropyControl():
                return value
            case Band():
                return cls(**value.to_dict())
            case Mapping() if "type" not in value:
                try:
                    return cls(**value)
                except TypeError as error:
                    unknown = [key for key in value if key not in cls.__dataclass_fields__]
                    if not unknown:
                        raise InvalidValueError(f"entropy control: {error}") from error
                    raise UnknownNameError.of(
                        "setting of entropy control", unknown[0], cls.__dataclass_fields__
                    ) from error
            case Schedule() | Mapping() | str() | int() | float() | Sequence():
                return cls(schedule=value)
            case _:
                raise InvalidValueError(
                    "entropy control: expected a schedule such as 'linear(0.6, 0.2)', a Band or an "
                    f"EntropyControl, got {value!r}"
                )

    @property
    def aligned(self) -> bool:
        """True if predictions come from the model's own response; see `alignment`."""
        return self.method == "rejection" and (self.rule == "aligned" or self.predictor == "aligned")

    @property
    def drops(self) -> bool:
        """True if rollouts may be left out of the update's passes; otherwise it passes over all of them."""
        return self.method == "rejection" and self.rejected == "drop"

    @property
    def band_width(self) -> float:
        """Width of the band around a schedule, in its unit: the one asked for, or the default."""
        return DEFAULT_WIDTH if self.width is None else self.width

    def band(self) -> Band:
        """Return the band that the settings describe."""
        if self.lower is not None or self.upper is not None:
            return Band(self.schedule, self.width, lower=self.lower, upper=self.upper)
        return Band(
            DEFAULT_SCHEDULE if self.schedule is None else self.schedule,
            self.band_width,
        )

    def build(self, momentum: float = 0.9, steps_per_decision: float = 1.0) -> Controller:
        """Return a fresh controller.

        Args:
            momentum: Share of an update's effect that the optimizer carries to the next step.
            steps_per_decision: Optimizer steps from one decision to the next.
        """
        options: dict[str, Any] = {}
        if self.method == "rejection":
            options = {
                "rule": self.rule or "budget",
                "normalize": self.normalize,
                "reward_baseline": self.reward_baseline,
                "visitation": self.visitation,
                "min_kept": self.min_kept,
                "fallback": self.fallback,
                "entropy_bonus": self.entropy_bonus,
                "momentum": momentum,
                "steps_per_decision": steps_per_decision,
            }
        if self.guard is not None:
            options["guard"] = self.guard
        return controllers.build(self.method, self.band(), **options)
