"""The one interface of entropy control: read a batch's tokens, decide for all ranks, weigh one's own tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision, Normalize
from entrocraft.control.goal import Goal
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.errors import InvalidValueError

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over ranks; every rank calls it, with the same shape."""


class Method(ABC):
    """One way to keep entropy on its curve. To add one: a module, and a line in `methods.METHODS`.

    Methods know nothing of engines. The options of a method are the arguments of its constructor, checked by their
    names and types. An argument called `momentum` that nobody sets is filled in by the engine: the share of an update's
    effect that the optimizer carries to the next decision.

    Example:
        >>> class Half(Method):
        ...     def decide(self, batch, goal):
        ...         above = goal.side(batch.entropy) > 0
        ...         keep = batch.advantages > 0 if above else batch.advantages == batch.advantages
        ...         return Decision.keeping(batch, keep)
    """

    needs: frozenset[str] = frozenset()
    """Signals that decisions may depend on, beyond entropy and advantages; see `control.signals.SIGNALS`."""
    turns: frozenset[str] = frozenset({"rollouts"})
    """What decisions set: `rollouts` (which are kept, at their advantages times one factor), `tokens` (a factor on each
    token's advantage), `advantages` (a new one for each rollout), `surrogate` (what `surrogate` returns), and the knobs
    of `control.decision.KNOBS`."""
    normalize: Normalize = "kept"
    """What the loss is averaged over where something is left out; decisions say the same."""
    acts_on_ratio: bool = False
    """True for what makes no difference in the first update on a batch, where the ratio is 1: engines warn of runs that
    make but one."""

    @property
    def may_replace_advantages(self) -> bool:
        """Whether advantages may be made of raw rewards, which lack the KL penalty that some engines add to them."""
        return "rewards" in self.needs and "advantages" in self.turns

    def wants(self, batch: Batch, goal: Goal) -> frozenset[str]:
        """Return which of `needs` this decision depends on; the engine makes them before it asks."""
        return self.needs

    def read(self, tokens: Tokens, total: Total) -> Any:
        """Return what the tokens of all ranks say, handed back as `batch.reading`.

        Ranks must exchange sums and counts, through `total`, never means.
        """
        return None

    @abstractmethod
    def decide(self, batch: Batch, goal: Goal) -> Decision:
        """Return what the update may use: for the same state, batch and goal the same on every rank."""

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor | None:
        """Return a factor on each token's advantage (B, T) on this rank, 0 to leave it out; None for all alike."""
        return None

    def surrogate(self, seen: MiniBatch, decision: Decision, total: Total) -> Surrogate | None:
        """Return what stands in for the loss's own surrogate in this mini-batch; None to leave it as it is.

        Asked each time that the loss is computed, on every rank, by engines that carry `surrogate`.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        if state:
            raise InvalidValueError(
                f"controller state: {type(self).__name__} has none to restore, got {dict(state)!r:.200}; a method that "
                "returns one from state_dict must read it in load_state_dict"
            )


def num_counted_and_chosen(tokens: Tokens, chosen_BT: Tensor, total: Total) -> tuple[float, float]:
    """Return how many tokens of all ranks the loss counts, and how many are chosen, of which it must count all."""
    counts = torch.stack([tokens.mask_BT.bool().sum(), chosen_BT.sum()])
    num_counted, num_chosen = total(counts.cpu().double()).tolist()
    return num_counted, num_chosen
