"""What a loop of one's own is like, as far as it bears on decisions; `deciding` makes them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from entrocraft.control import EntropyControl
from entrocraft.control.capabilities import Capabilities, warn_of_one_update
from entrocraft.control.controller import Controller
from entrocraft.control.decision import KNOBS
from entrocraft.control.signals import NEED_ENTROPIES
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.schedules.base import checked_number

LossMean = Literal["token_mean", "sequence_mean", "sequence_sum"]
"""How a loss is averaged: `token_mean`, over all tokens (DAPO; verl's `token-mean`); `sequence_mean`, over each
rollout's tokens and then over rollouts (GRPO); `sequence_sum`, each rollout's tokens summed up, over a number that does
not depend on them (Dr. GRPO, RLOO)."""

_FOR_TRAINERS = {
    "steering": "give the next call another curve: its state goes on",
    "rollouts": "write down yourself what became of them: `keep` and `kept` say it",
    "run": "write down yourself what each call returns as `metrics`",
    "estimator": "give `advantages` that entrocraft.advantages.estimate has made",
    "rejected": "leave rollouts that are not kept out of your passes, or do not: they have no advantage",
}
_NO_ENTROPY = (
    "it is made of the entropy of each token: give `entropies`, such as entrocraft.token_entropy(logits), or use "
    "method 'advantage', which needs the mean of -log p alone"
)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a loop of one's own is like, for `decide`; the defaults are those of a token-mean loss under AdamW.

    Raises:
        InvalidValueError: A value is out of range.
        UnknownNameError: A word is not known.

    Example:
        >>> import entrocraft as ec
        >>> ec.Loop(whole_rollouts=True).settled("linear(0.6, 0.2)").method_name
        'budget'
    """

    loss: LossMean = "token_mean"
    """What the loss is averaged over; see `LossMean`."""
    whole_rollouts: bool = False
    """True if the loss has one ratio and one advantage per rollout, so that its tokens share their fate (RLOO,
    GSPO)."""
    knobs: Collection[str] = ()
    """What of `Decided.knobs` the loop sets: some of `entropy_coef`, `clip_low`, `clip_high`, `learning_rate`,
    `temperature`. Methods that turn others are refused."""
    other_terms: bool = False
    """True if the loss has terms that rollouts feel whatever their advantage: KL, an entropy bonus."""
    momentum: float = 0.9
    """Share of an update's effect that the optimizer carries to the next step: Adam's beta1."""
    steps_per_decision: float = 1.0
    """Optimizer steps from one decision to the next."""
    name: str = "your loop"
    """The loop, for messages."""

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossMean):
            raise UnknownNameError.of("loss of a loop", self.loss, get_args(LossMean))
        if isinstance(self.knobs, str):
            raise InvalidValueError(f"knobs must be a list of names, such as ({self.knobs!r},), got {self.knobs!r}")
        for knob in self.knobs:
            if knob not in KNOBS:
                raise UnknownNameError.of("knob", knob, KNOBS)
        if not 0.0 <= checked_number("momentum", self.momentum) < 1.0:
            raise InvalidValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if checked_number("steps_per_decision", self.steps_per_decision) <= 0.0:
            raise InvalidValueError(f"steps_per_decision must be positive, got {self.steps_per_decision}")

    def settled(self, control: Any, *, entropies: bool = True, rewards: bool = True) -> EntropyControl:
        """Return settings with a method that the loop carries out; to be called before a model loads.

        `decide` does so at each call, with what it is given.

        Args:
            control: Anything that trainers take as `entropy_control`.
            entropies: Whether the loop knows the entropy of each token.
            rewards: Whether it gives the rewards.

        Raises:
            InvalidValueError: The settings ask for what the loop does not carry out, or cannot tell.
        """
        control = EntropyControl.of(control)
        for name, instead in _FOR_TRAINERS.items():
            if getattr(control, name) is not None:
                raise InvalidValueError(f"setting {name!r} is for trainers; in {self.name}, {instead}")
        if control.sees_whole_model:
            raise InvalidValueError(
                f"predictor 'whole_model' takes a gradient of the model, which {self.name} does not hand over; use "
                "'estimate', or the TRL engine"
            )
        able = self._capabilities(entropies=entropies, rewards=rewards)
        settled = control.settled(able)
        able.check(settled.new_method(), settled.method_name or "")
        return settled

    def controller(self, settled: EntropyControl) -> Controller:
        """Return a fresh controller for settings that were checked."""
        return settled.build(self.momentum, self.steps_per_decision)

    def warn_if_idle(self, controller: Controller) -> None:
        """Warn of a method that acts on the ratio of new to old probabilities where it is always 1."""
        if self.steps_per_decision <= 1.0:
            remedy = "Make several updates with each batch, and say how many: Loop(steps_per_decision=4)"
            warn_of_one_update(controller.method, controller.name, remedy, stacklevel=4)

    def _capabilities(self, *, entropies: bool, rewards: bool) -> Capabilities:
        """Return what the loop can carry out, and which signals can be made of what it gives."""
        why_not = {
            "surrogate": "it stands in for the loss while that is computed, and this is decided before; choose another "
            "method, or the TRL engine"
        }
        for knob in set(KNOBS) - set(self.knobs):
            why_not[knob] = (
                f"it has not said that it sets this knob; do so with each decision's `knobs`, and say so with "
                f"Loop(knobs=({knob!r},)), or choose another method"
            )
        if self.whole_rollouts:
            why_not["tokens"] = "its loss weighs a rollout as a whole; use method 'budget', or name no method"
        if not entropies:
            why_not |= dict.fromkeys(NEED_ENTROPIES, _NO_ENTROPY)
        if not rewards:
            why_not["rewards"] = "give `rewards`, one per rollout, before any baseline"
        return Capabilities.all_but(self.name, why_not)
