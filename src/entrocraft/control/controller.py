"""A course and a method together: decides, batch by batch, what the update may use, so that entropy follows its band.

Controllers know nothing of engines. They see the *global* batch, already gathered over all ranks, and are
deterministic, so every rank reaches the same decision without another exchange.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens, whole_number
from entrocraft.control.course import Course
from entrocraft.control.decision import Decision, check_decision, check_weights
from entrocraft.control.goal import Goal
from entrocraft.control.guard import GuardAction
from entrocraft.control.methods import Method, build_method, check_needs
from entrocraft.control.signals import SIGNALS
from entrocraft.control.states import check_state
from entrocraft.control.version_0_1 import state_from_0_1
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules import Band
from entrocraft.schedules.base import checked_number

_COUNTERS = ("decisions", "out_of_band", "empty", "uncounted")
_ROUNDING = 1e-5  # relative, of what counts as one factor on all advantages


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchStats(Batch):
    """A batch made by hand, for `Controller.decide` to set the goal, too: it knows the length of the run.

    Raises:
        InvalidValueError: See `Batch`; or the run has no step.
        MeasurementError: See `Batch`.

    Example:
        >>> BatchStats(step=1, total_steps=10, entropy=0.5, advantages=[1.0], predicted_change=[0.1]).change
        tensor([0.1000])
    """

    total_steps: int
    """Optimizer steps of the whole run."""
    predicted_change: Tensor | None = None
    """(B,) another name of `change`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_steps", whole_number("total_steps", self.total_steps, minimum=1))
        if self.predicted_change is not None:
            object.__setattr__(self, "change", self.predicted_change)
        super().__post_init__()


def course_and_method(
    band: Band,
    name: str | type[Method],
    options: Mapping[str, Any],
    *,
    guard: GuardAction | None = None,
    momentum: float = 0.9,
    steps_per_decision: float = 1.0,
) -> tuple[Course, Method]:
    """Return what a controller is made of.

    Args:
        band: Where entropy should be.
        name: The method; see `methods.build_method`.
        options: The method's own.
        guard: Whether to watch for a target that is out of reach or does harm, and to ease it; see `Guard`. By default
            `warn`, or `off` for a method that only watches, and so has nothing to be warned of.
        momentum: Share of an update's effect that the optimizer carries from one step to the next.
        steps_per_decision: Optimizer steps from one decision to the next; more than 0.
    """
    if checked_number("steps_per_decision", steps_per_decision) <= 0.0:
        raise InvalidValueError(f"steps_per_decision must be positive, got {steps_per_decision}")
    method = build_method(name, options, momentum**steps_per_decision)
    guard = guard or ("warn" if method.turns else "off")
    return Course(band, guard=guard, steps_per_decision=steps_per_decision), method


class Controller:
    """Sets the goal of each decision, has the method decide, and counts what happens.

    Args:
        course: Where entropy should be.
        method: Decides.
        name: The method's name, for messages and for the state.

    Example:
        >>> from entrocraft import Band, controllers
        >>> controller = controllers.build("advantage", Band(0.5, width=0.1))
        >>> batch = BatchStats(step=1, total_steps=10, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> controller.decide(batch).keep  # entropy is low: learn from failures
        tensor([False,  True])
        >>> controller.counts["decisions"]
        1
    """

    def __init__(self, course: Course, method: Method, name: str):
        check_needs(method, name)
        self.course, self.method, self.name = course, method, name
        self.counts = dict.fromkeys(_COUNTERS, 0)
        self.temperature: float | None = None
        """What the last decision that said so wants batches to be sampled at; None as long as none has."""

    @property
    def band(self) -> Band:
        """The band that is followed now."""
        return self.course.band

    @property
    def rewards_needed(self) -> bool:
        """True if `Batch.rewards` must be given."""
        return self.course.rewards_needed or "rewards" in self.method.needs

    def goal(self, batch: Batch, total_steps: int) -> Goal:
        """Return the goal of the next decision. Call it exactly once per decision: the curve moves.

        Args:
            batch: The batch as far as it is known, rewards included where they are needed.
            total_steps: Optimizer steps of the whole run.
        """
        return self.course.goal(batch.step, total_steps, batch.entropy, batch.mean_reward)

    def decide(self, batch: Batch, goal: Goal | None = None) -> Decision:
        """Return the decision for one batch. Same state and same batch, same decision.

        Args:
            batch: With all the signals that the method wants.
            goal: What `goal` returned for this batch; may be left out with `BatchStats`.

        Raises:
            InvalidValueError: The batch lacks what the method wants, or its decision is none, or sets what it does not
                turn; the message names the method.
        """
        if goal is None:
            if not isinstance(batch, BatchStats):
                raise InvalidValueError("expected a goal, or BatchStats, which know the length of the run")
            if batch.reading is None and type(self.method).read is not Method.read:
                raise InvalidValueError(
                    f"method {self.name!r} needs Batch.reading, which its own `read` makes of tokens"
                )
            goal = self.goal(batch, batch.total_steps)
        # What a method lacks or has not declared ends the run here, on every rank alike.
        self._refuse_missing_signals(batch, goal)
        decision = self._decided(batch, goal)
        self._refuse_undeclared(decision, batch)
        self._take_temperature(decision)
        self._count(decision, batch, goal)
        kept_fraction = decision.keep.double().mean().item()
        watched = self.course.watch(
            step=batch.step,
            entropy=batch.entropy,
            kept_fraction=kept_fraction if decision.kept_share is None else decision.kept_share,
            # Before any rejection: the guard asks what is there to raise entropy with.
            negative_fraction=(batch.advantages < 0).double().mean().item(),
        )
        if batch.entropy_stderr is not None:
            decision.metrics["entropy_stderr"] = batch.entropy_stderr
        decision.metrics.update(
            **watched,
            entropy=batch.entropy,
            target=goal.target,
            lower=goal.lower,
            upper=goal.upper,
            direction=float(goal.side(batch.entropy)),
            tracking_error=batch.entropy - goal.target,
            kept_fraction=kept_fraction,
            out_of_band_batches=float(self.counts["out_of_band"]),
            empty_batches=float(self.counts["empty"]),
            uncounted_batches=float(self.counts["uncounted"]),
        )
        # What is left of the tokens by leaving out rollouts; where tokens are left out, the engine counts anew.
        if batch.num_tokens is not None:
            num_tokens = batch.num_tokens.double()
            kept_tokens = num_tokens[decision.keep.to(num_tokens.device)].sum().item()
            decision.metrics["kept_token_fraction"] = kept_tokens / max(num_tokens.sum().item(), 1.0)
        return decision

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return the method's factor on each token's advantage on this rank; None for all alike.

        Raises:
            InvalidValueError: They are no finite factors, one per token, or the method does not turn `tokens`.
        """
        weights_BT = self.method.weigh(tokens, decision)
        if weights_BT is None:
            return None
        if "tokens" not in self.method.turns:
            raise InvalidValueError(
                f"method {self.name!r} weighs tokens, and says that it turns "
                f"{', '.join(sorted(self.method.turns))}; add 'tokens' to `turns`, for engines to know"
            )
        try:
            check_weights(weights_BT, tokens.mask_BT)
        except InvalidValueError as error:
            raise InvalidValueError(f"method {self.name!r}: {error}") from error
        return weights_BT

    def pass_over(self, step: int, num_rollouts: int) -> Decision:
        """Return the decision on a batch of which the loss counts no token, such as one of truncated answers alone.

        There is no entropy to measure and nothing to learn: the curve does not move, and no method is asked.

        Args:
            step: The optimizer step about to be made.
            num_rollouts: Rollouts of all ranks.
        """
        self._count_and_warn_once(
            "uncounted",
            f"step {step}: the loss counts no token of any rollout, so nothing is learnt from this batch. If answers "
            "are cut off before they end (mask_truncated_completions), raise max_completion_length.",
        )
        # No entropy is known: NaN says so, and no target or band is logged beside it.
        nothing = torch.zeros(num_rollouts, dtype=torch.bool)
        metrics = {"kept_fraction": 0.0, "num_tokens": 0.0, "uncounted_batches": float(self.counts["uncounted"])}
        return Decision(keep=nothing, advantages=torch.zeros(num_rollouts), metrics={"entropy": math.nan, **metrics})

    def _decided(self, batch: Batch, goal: Goal) -> Decision:
        """Return what the method decides; what is wrong with it is said with the method's name."""
        try:
            decision = self.method.decide(batch, goal)
            check_decision(decision, len(batch.advantages))
        except (InvalidValueError, UnknownNameError) as error:
            raise InvalidValueError(f"method {self.name!r}: {error}") from error
        return decision

    def _refuse_missing_signals(self, batch: Batch, goal: Goal) -> None:
        for need in sorted(self.method.wants(batch, goal)):
            field = SIGNALS[need].batch_field
            if field is not None and getattr(batch, field) is None:
                raise InvalidValueError(f"method {self.name!r} needs Batch.{field}: {SIGNALS[need].by_hand}")

    def _refuse_undeclared(self, decision: Decision, batch: Batch) -> None:
        """Refuse what the method does not say it turns: an engine that cannot carry it out would ignore it."""
        turns, undeclared = self.method.turns, set(decision.knobs)
        if not decision.keep.all():
            undeclared.add("rollouts")
        # One factor on all that is kept is a smaller step, not advantages of the method's own. It is read from the
        # largest advantage: numbers below the smallest normal one have lost their digits, and so has their quotient.
        before, after = batch.advantages[decision.keep].double(), decision.advantages[decision.keep].double()
        if len(before):
            largest = before.abs().argmax()
            factor = after[largest] / before[largest] if before[largest] != 0 else torch.ones_like(after[largest])
            if not torch.allclose(after, factor * before, rtol=_ROUNDING, atol=torch.finfo(torch.float32).tiny):
                undeclared.add("advantages")
        undeclared -= turns
        if undeclared:
            raise InvalidValueError(
                f"method {self.name!r} decided on {', '.join(sorted(undeclared))}, and says that it turns "
                f"{', '.join(sorted(turns)) or 'nothing'}; add it to `turns`, for engines to know"
            )

    def _take_temperature(self, decision: Decision) -> None:
        """Remember the temperature for the batches to come: unlike other knobs it outlives the update, and a resume."""
        if "temperature" in decision.knobs:
            self.temperature = checked_number("temperature", decision.knobs["temperature"])

    def _count(self, decision: Decision, batch: Batch, goal: Goal) -> None:
        self.counts["decisions"] += 1
        self.counts["out_of_band"] += goal.side(batch.entropy) != 0
        if decision.teaches_nothing:
            self._count_and_warn_once(
                "empty",
                f"step {batch.step}: every rollout with an advantage was rejected, so nothing is learnt from this "
                "batch. Entropy is out of the band and no rollout can move it back; widen the band, move the target "
                "or raise the number of rollouts.",
            )

    def _count_and_warn_once(self, counter: str, warning: str) -> None:
        self.counts[counter] += 1
        if self.counts[counter] == 1:
            warnings.warn(f"{warning} Counted from now on in `{counter}_batches`.", stacklevel=4)

    def steer(self, band: Band) -> None:
        """Follow another band from the next decision on; see `Course.steer`."""
        self.course.steer(band)

    def note_gradient_norm(self, norm: float) -> None:
        """Tell the guard the gradient norm of the update that the last decision led to, before clipping."""
        self.course.note_gradient_norm(norm)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        own = {"temperature": self.temperature} if "temperature" in self.method.turns else {}
        return {
            "method": self.name,
            "counts": dict(self.counts),
            "course": self.course.state_dict(),
            "state": self.method.state_dict(),
            **own,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, or what version 0.1 saved.

        Raises:
            InvalidValueError: The state is not one that this controller saved.
        """
        state = state_from_0_1(state)
        check_state("controller state", state, self.state_dict())
        check_state("counts in the controller state", state["counts"], self.counts)
        if state["method"] != self.name:
            raise InvalidValueError(
                f"controller state: expected that of method {self.name!r}, got that of {state['method']!r}"
            )
        self.course.load_state_dict(state["course"])
        self.method.load_state_dict(state["state"])
        self.counts = dict(state["counts"])
        self.temperature = state.get("temperature")
