"""The settings of entropy control, the same for every engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args

from entrocraft.control.guard import check_guard_action
from entrocraft.control.pace import pace_of
from entrocraft.control.signals import Predictor
from entrocraft.control.version_0_1 import settings_from_0_1
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band, Schedule
from entrocraft.schedules.base import checked_number

if TYPE_CHECKING:  # methods need torch, which settings that name none do without
    from entrocraft.control.capabilities import Capabilities
    from entrocraft.control.controller import Controller
    from entrocraft.control.methods import Method

DEFAULT_SCHEDULE = "linear(1.0, 0.5, unit='initial')"
DEFAULT_WIDTH = 0.04

PRESETS: dict[str, dict[str, Any]] = {"aligned": {"method": "predicted", "predictor": "whole_model"}}
"""Methods that are another one with settings of its own."""
_OPTIONS = ("normalize", "reward_baseline", "visitation", "min_kept", "fallback", "entropy_bonus")
_AGGREGATIONS = ("token_mean", "sequence_mean")


@dataclass(frozen=True, kw_only=True, repr=False)
class EntropyControl:
    """Where entropy should be, and how an engine keeps it there.

    Everything is checked when the object is made, before any model loads.

    Raises:
        InvalidValueError: A value cannot be used, or does not apply.
        UnknownNameError: A name is not known.

    Example:
        >>> EntropyControl(schedule="linear(0.5, 0.3)").build().band.target(0, 100)
        0.5
        >>> EntropyControl(method={"name": "token", "min_kept": 0.2}).method
        {'name': 'token', 'min_kept': 0.2}
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
    method: Any = None
    """What keeps entropy on the curve: one of `controllers.available()`, a mapping of such a `name` and the method's
    own options, or for a method of one's own its import path, `my_package.mine:MyMethod`, or class. By default `token`,
    or `budget` where the loss weighs a rollout as a whole (RLOO, importance sampling by sequence)."""
    guard: str | None = None
    """Whether to watch for a target that is out of reach or does harm: `off`, `warn` (the default under control) or
    `relax`; see `Guard`."""
    rejected: str | None = None
    """What the engine does with rejected rollouts: `drop`, the default, leaves them out of the forward and backward
    passes; `mask` keeps them with zero advantage, so that they pay compute and still feel a KL term."""
    predictor: str | None = None
    """How entropy changes are predicted: `estimate`, the default, and `rarity` need log-probabilities and entropies
    only, `exact` the logits of the whole vocabulary, `whole_model` a gradient and a pass of its own; see
    `signals.Predictor`."""
    whole_model_blocks: int | None = None
    """Predictor `whole_model`: look at the weights of so many last blocks alone, by default at all trainable ones.
    Fewer are cheaper and agree in sign nearly always, in size less: see docs/control.md."""
    whole_model_share: float | None = None
    """Predictor `whole_model`: share of the rollouts that its direction is taken from, by default all. Fewer are
    cheaper, and far worse."""
    steering: str | None = None
    """A file that the running job looks at before each decision: write a schedule into it, and the run follows that
    from then on. The command line sets it to `steering.yaml` in the run directory; see `steering`."""
    rollouts: str | None = None
    """A file that the run records its rollouts in: rewards, advantages, tokens kept, and a few texts of each step. The
    command line sets it to `rollouts.jsonl` in the run directory; see `runs.rollouts`."""
    run: str | None = None
    """A folder in which a TRL script keeps a run directory, as runs of the command line have one: `entrocraft plot`,
    `explain`, `steer` and the page read it. `steering` and `rollouts` are files in it then, unless given."""
    estimator: Any = None
    """Advantage estimator: one of `advantages.available()`, or a mapping of such a `name` and its options; by default
    the trainer's own."""
    aggregation: str = "token_mean"
    """How token entropies become the batch's: see `batch_entropy`."""

    # Other names for the above, read and put where they belong.
    rule: str | None = None
    """Old name of `method`."""
    aligned_blocks: int | None = None
    """Old name of `whole_model_blocks`."""
    aligned_share: float | None = None
    """Old name of `whole_model_share`."""
    normalize: str | None = None
    """Option of the method: what the loss is averaged over, `kept` (Eq. 5) or `all`."""
    reward_baseline: float | None = None
    """Option of method `reward`: what a neutral reward is."""
    visitation: bool | None = None
    """Option of methods that predict: add what the policy visits to the predicted change."""
    min_kept: float | None = None
    """Option of the methods that reject: share of what has a gradient that is kept at least."""
    fallback: str | None = None
    """Option of the methods that reject: what to do when nothing moves entropy back, `skip` or `escalate`."""
    entropy_bonus: float | None = None
    """Option of the methods that reject: coefficient of the entropy bonus that `escalate` may end in."""

    def __post_init__(self) -> None:
        self._take_old_names()
        self._take_options()
        self._check_names()
        pace_of(self.band())
        if self.method is not None:
            self._check_predictor(self.new_method())
        elif self.options:
            self.settled()
        if self.estimator is not None:
            from entrocraft.advantages import check_estimator

            check_estimator(self.estimator)

    # ---- what was given, in one form ----------------------------------------------------------------

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _take_old_names(self) -> None:
        for old, new in (("aligned_blocks", "whole_model_blocks"), ("aligned_share", "whole_model_share")):
            value = getattr(self, old)
            if value is not None and getattr(self, new) is not None:
                raise InvalidValueError(f"{old} is the old name of {new}; give one of the two")
            self._set(**{old: None, new: value if value is not None else getattr(self, new)})
        if self.predictor == "aligned":
            self._set(predictor="whole_model")
        if self.rule is not None and self.method not in (None, "rejection"):
            raise InvalidValueError(
                f"rule is the old name of method; give one of the two, got {self.rule!r} and {self.method!r}"
            )
        if self.rule is not None or self.method == "rejection":
            self._set(method=self.rule, rule=None)

    def _take_options(self) -> None:
        """Put the method and its options, wherever they were given, into one mapping."""
        name, options = self.method, {}
        if isinstance(name, Mapping):
            options = dict(name)
            name = options.pop("name", None)
        if not isinstance(name, str | type | None):
            raise InvalidValueError(f"method must be a name, an import path or a class, got {name!r:.80}")
        for option in _OPTIONS:
            value = getattr(self, option)
            if value is not None and option in options:
                raise InvalidValueError(f"{option} is given twice, got {value!r} and {options[option]!r}")
            if value is not None:
                options[option] = value
            self._set(**{option: None})
        if name in PRESETS:
            if self.predictor not in (None, PRESETS[name]["predictor"]):
                raise InvalidValueError(
                    f"method {name!r} brings its own predictor; use method 'predicted' with {self.predictor!r}"
                )
            if options.get("visitation"):
                raise InvalidValueError("predictor 'whole_model' sees visitation already; set visitation=False")
            self._set(predictor=PRESETS[name]["predictor"])
            name = PRESETS[name]["method"]
        self._set(method={"name": name} | options if options else name)

    def _check_names(self) -> None:
        """Refuse words that are not known, and numbers that are out of range."""
        if self.guard is not None:
            check_guard_action(self.guard)
        for name, known in (
            ("rejected", ("drop", "mask")),
            ("predictor", get_args(Predictor)),
            ("aggregation", _AGGREGATIONS),
        ):
            value = getattr(self, name)
            left_out = value is None and name != "aggregation"  # which has a default of its own
            if not left_out and value not in known:
                raise UnknownNameError.of(f"{name} mode", value, known)
        for name, kind in (("steering", "file"), ("rollouts", "file"), ("run", "folder")):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise InvalidValueError(f"{name} must be the path of a {kind}, got {value!r}")
        share, blocks = self.whole_model_share, self.whole_model_blocks
        if share is not None and not 0.0 < checked_number("whole_model_share", share) <= 1.0:
            raise InvalidValueError(f"whole_model_share must lie in (0, 1], got {share}")
        if blocks is not None and (isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1):
            raise InvalidValueError(f"whole_model_blocks must be a whole number of at least 1, or null, got {blocks!r}")
        if not self.sees_whole_model and (share, blocks) != (None, None):
            raise InvalidValueError("whole_model_blocks and whole_model_share are for predictor 'whole_model'")

    def _check_predictor(self, method: "Method") -> None:
        """Refuse settings that are about what the method does not do."""
        if self.predictor is not None and "change" not in method.needs:
            raise InvalidValueError(
                f"predictor {self.predictor!r} is for methods that predict, and {self.method_name!r} does not; "
                "leave it out"
            )
        if self.sees_whole_model and "visitation" in method.needs:
            raise InvalidValueError("predictor 'whole_model' sees visitation already; set visitation=False")
        if self.predictor == "rarity" and "visitation" in method.needs:
            raise InvalidValueError(
                "predictor 'rarity' takes a step to move all contexts alike, and visitation one; use predictor "
                "'estimate' with it, or visitation=False"
            )
        if self.rejected is not None and not method.turns & {"rollouts", "tokens"}:
            raise InvalidValueError(
                f"rejected={self.rejected!r} is for methods that leave something out, and {self.method_name!r} does not"
            )

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
                return cls(schedule=value.schedule, width=value.width, lower=value.lower, upper=value.upper)
            case Mapping() if "type" not in value:
                unknown = [key for key in value if key not in cls.__dataclass_fields__]
                if unknown:
                    raise UnknownNameError.of("setting of entropy control", unknown[0], cls.__dataclass_fields__)
                return cls(**settings_from_0_1(value))
            case Schedule() | Mapping() | str() | int() | float() | Sequence():
                return cls(schedule=value)
            case _:
                raise InvalidValueError(
                    "entropy control: expected a schedule such as 'linear(0.6, 0.2)', a Band or an "
                    f"EntropyControl, got {value!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `of` takes back, without what was not given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.method_name is not None:  # by name, where it was given as a class
            values["method"] = {"name": self.method_name} | self.options if self.options else self.method_name
        return {
            name: value.to_dict() if isinstance(value, Schedule) else value
            for name, value in values.items()
            if value is not None
        }

    def __repr__(self) -> str:
        given = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if self._is_given(field.name))
        return f"EntropyControl({', '.join(given)})"

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) != type(self).__dataclass_fields__[name].default

    # ---- what it means ------------------------------------------------------------------------------

    @property
    def _name_or_class(self) -> Any:
        """The method as it was given: its name, its import path, its class, or None."""
        return self.method.get("name") if isinstance(self.method, Mapping) else self.method

    @property
    def method_name(self) -> str | None:
        """Name of the method; None if the engine is to choose."""
        name = self._name_or_class
        if name is None or isinstance(name, str):
            return name
        from entrocraft.control.methods import name_of

        return name_of(name)

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options, as far as they were given."""
        return {k: v for k, v in self.method.items() if k != "name"} if isinstance(self.method, Mapping) else {}

    def settled(self, capabilities: "Capabilities | None" = None) -> "EntropyControl":
        """Return the settings with a method that is named: the given one, or the best that the engine carries."""
        if self.method_name is not None:
            return self
        from entrocraft.control.capabilities import default_method

        name = default_method(capabilities, self.options)
        return replace(self, method={"name": name} | self.options if self.options else name)

    def new_method(self, momentum: float | None = None) -> "Method":
        """Return a fresh method; see `methods.build_method`."""
        from entrocraft.control.methods import build_method

        settled = self.settled()
        return build_method(settled._name_or_class, settled.options, momentum)

    def drops(self, method: "Method") -> bool:
        """Return True if the update's passes leave rollouts out; otherwise they go over all of them."""
        return self.rejected != "mask" and bool(method.turns & {"rollouts", "tokens"})

    @property
    def sees_whole_model(self) -> bool:
        """True if predictions come from the whole model's own response; see `dynamics.whole_model`."""
        return self.predictor == "whole_model"

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

    def build(self, momentum: float = 0.9, steps_per_decision: float = 1.0) -> "Controller":
        """Return a fresh controller.

        Args:
            momentum: Share of an update's effect that the optimizer carries from one step to the next.
            steps_per_decision: Optimizer steps from one decision to the next.
        """
        from entrocraft.control.controller import Controller, course_and_method

        settled = self.settled()
        course, method = course_and_method(
            self.band(),
            settled._name_or_class,
            settled.options,
            guard=self.guard,  # type: ignore[arg-type]
            momentum=momentum,
            steps_per_decision=steps_per_decision,
        )
        return Controller(course, method, settled.method_name or "")
