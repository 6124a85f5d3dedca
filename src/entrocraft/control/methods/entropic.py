"""EntroPIC: every rollout is kept, and successes are weighed against failures."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from entrocraft.control.batch import Batch, Tokens
from entrocraft.control.decision import Decision
from entrocraft.control.goal import Goal
from entrocraft.control.methods.base import Method, Total, num_counted_and_chosen
from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError
from entrocraft.schedules.base import checked_number


class Entropic(Method):
    """A proportional-integral controller of the balance between successes and failures, on all tokens.

    With the error e_t = H_t - H*_t, in nats per token,

        alpha_t = clip(K_P e_t + K_I sum_{s<=t} e_s, -1, 1),        J = (1 + alpha) J_pos - (1 - alpha) J_neg,

    that is `A + alpha |A|` for each advantage: where entropy is low, successes count for less and failures for more.
    The target moves along the schedule; the width of the band matters for the metrics alone. The integral is not held
    back while alpha is clipped.

    Args:
        proportional_gain: K_P, per nat.
        integral_gain: K_I, per nat and decision.

    Raises:
        InvalidValueError: A gain is negative or not a number.

    Source: EntroPIC, arXiv 2511.15248, with its gains, in the form that arXiv 2604.26326 compares with. What its
    authors released is `EntropicReleased`.

    Example:
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.tensor([1.0, -1.0]))
        >>> Entropic(integral_gain=0.0).decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).advantages  # low by 0.2
        tensor([ 0.8000, -1.2000])
    """

    turns = frozenset({"advantages"})
    _counts_newest = True
    """True if the newest error is in the integral when the balance is made, and not only afterwards."""
    _clips = True
    """True if the balance is held within [-1, 1]."""

    def __init__(self, proportional_gain: float = 1.0, integral_gain: float = 0.01):
        self.proportional_gain = checked_number("proportional_gain", proportional_gain)
        self.integral_gain = checked_number("integral_gain", integral_gain)
        self._integral = 0.0

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        alpha, metrics = self._alpha(batch.entropy - goal.target)
        return Decision.everything(batch, advantages=batch.advantages + alpha * batch.advantages.abs(), metrics=metrics)

    def _alpha(self, error: float) -> tuple[float, dict[str, float]]:
        """Take in the error, in nats, and return the balance, and what to log of it."""
        integral, self._integral = self._integral, self._integral + error
        if self._counts_newest:
            integral = self._integral
        alpha = self.proportional_gain * error + self.integral_gain * integral
        if self._clips:
            alpha = min(1.0, max(-1.0, alpha))
        return alpha, {"alpha": alpha, "integral": self._integral}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON data."""
        return {"integral": self._integral}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises `InvalidValueError` if it is another method's."""
        check_state("controller state of EntroPIC", state, self.state_dict())
        self._integral = float(state["integral"])


class EntropicReleased(Entropic):
    """EntroPIC as its authors released it: the balance acts on confident tokens alone, averaged over these.

    With alpha as in `Entropic`, but the newest error added to the integral after it has been used, the released loss is

        L = L_PG + alpha * mean over confident tokens of (-|A|),        confident: p > confidence,

    where the first mean is over all N counted tokens and the second over the N_c confident ones. In one mean over all
    tokens that is the advantage `A + alpha |A| N / N_c` on confident tokens, and `A` on the others.

    Args:
        proportional_gain: K_P, per nat.
        integral_gain: K_I, per nat and decision.
        confidence: Probability above which a sampled token counts as confident, in [0, 1).

    Raises:
        InvalidValueError: A gain is negative or not a number, or the confidence is out of range.

    Degenerate cases: without a confident token nothing is weighed, and the integral moves all the same.

    Source: the code of arXiv 2511.15248. Deviations: N and N_c, the error and its sum are those of the whole batch, not
    of each rank's micro-batch; the second term feels the loss's clipping, from which it is exempt there, which is the
    same as long as one update is made per batch.

    Example:
        >>> log_probs = torch.tensor([[0.99, 0.5, 0.5, 0.5]]).log()
        >>> ones = torch.ones(1, 4)
        >>> tokens = Tokens(log_probs_BT=log_probs, entropy_BT=-log_probs, advantages_BT=ones, mask_BT=ones)
        >>> method = EntropicReleased()
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.ones(1), reading=method.read(tokens, lambda x: x))
        >>> method.weigh(tokens, method.decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)))  # 1 - 0.2 * 4 / 1
        tensor([[0.2000, 1.0000, 1.0000, 1.0000]])
    """

    turns = frozenset({"tokens"})
    _counts_newest = False
    normalize = "all"  # what is weighed down is still counted

    def __init__(self, proportional_gain: float = 1.0, integral_gain: float = 0.01, confidence: float = 0.95):
        super().__init__(proportional_gain, integral_gain)
        self.confidence = checked_number("confidence", confidence)
        if not 0.0 <= self.confidence < 1.0:
            raise InvalidValueError(f"confidence must lie in [0, 1), got {confidence}")

    def _confident(self, tokens: Tokens) -> Tensor:
        return (tokens.log_probs_BT.exp() > self.confidence) & tokens.mask_BT.bool()

    def read(self, tokens: Tokens, total: Total) -> tuple[float, float]:
        """Return how many tokens of all ranks count, and how many of these are confident."""
        return num_counted_and_chosen(tokens, self._confident(tokens), total)

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        alpha, metrics = self._alpha(batch.entropy - goal.target)
        num_tokens, num_confident = batch.reading
        weight = alpha * num_tokens / max(num_confident, 1.0)
        metrics["confident_fraction"] = num_confident / max(num_tokens, 1.0)
        return Decision.everything(batch, note=weight, normalize=self.normalize, metrics=metrics)

    def weigh(self, tokens: Tokens, decision: Decision) -> Tensor:
        """Return `1 + weight * sign(A)` for confident tokens, 1 for the others."""
        return 1.0 + decision.note * torch.sign(tokens.advantages_BT) * self._confident(tokens)


class EntropicPort(Entropic):
    """EntroPIC as the code of Entrocraft compares with it: on rewards in place of advantages, and without a limit.

    With the error e_t = H_t - H*_t, in nats per token, and alpha_t = K_P e_t + K_I sum_{s<t} e_s, unclipped, the
    advantage is `1 + alpha` for each success and `-(1 - alpha)` for each failure, whatever their prompt's others are.

    Args:
        proportional_gain: K_P, per nat.
        integral_gain: K_I, per nat and decision.

    Raises:
        InvalidValueError: A gain is negative or not a number.

    Degenerate cases: prompts whose rewards are all equal have advantages, too. A rollout that no reward function scored
    has none. More than 1 nat from the target, successes are punished or failures rewarded: nothing holds alpha back.

    Source: the code of arXiv 2604.26326, which was read. Deviations: a success is a reward above 0 and all else a
    failure, so that rewards may be 0 and 1 as well as its -1 and 1; its fixed target is the schedule's here.

    Example:
        >>> batch = Batch(step=1, entropy=0.3, advantages=torch.zeros(2), rewards=torch.tensor([1.0, 0.0]))
        >>> EntropicPort().decide(batch, Goal(lower=0.4, target=0.5, upper=0.6)).advantages  # low by 0.2
        tensor([ 0.8000, -1.2000])
    """

    needs = frozenset({"rewards"})
    _counts_newest = False
    _clips = False
    normalize = "all"

    def decide(self, batch: Batch, goal: Goal) -> Decision:
        alpha, metrics = self._alpha(batch.entropy - goal.target)
        rewards = cast(Tensor, batch.rewards)
        balance = torch.where(rewards > 0, 1.0 + alpha, alpha - 1.0).masked_fill(rewards.isnan(), 0.0)
        advantages = balance.to(batch.advantages.dtype)
        return Decision.everything(batch, advantages=advantages, normalize=self.normalize, metrics=metrics)
