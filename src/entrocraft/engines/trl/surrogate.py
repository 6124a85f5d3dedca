"""A method's surrogate in TRL's loss, which asks for the policy's log-probabilities before it reads anything else."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.decision import Decision
from entrocraft.control.methods import Method
from entrocraft.control.surrogate import MiniBatch, Surrogate
from entrocraft.engines.ranks import Ranks
from entrocraft.engines.trl.rows import Batch, loss_mask
from entrocraft.errors import InvalidValueError


class LiveSurrogate:
    """Asks the method about each mini-batch, and rewrites what the loss is about to read.

    Args:
        trainer: A GRPOTrainer, with one of `settings.CLIPPING_LOSSES`.
        own_loss: Its `_compute_loss`.
        method: The method to ask.
        ranks: Among which the batch is divided.
    """

    def __init__(self, trainer: Any, own_loss: Callable[[Any, Batch], Tensor], method: Method, ranks: Ranks):
        self._trainer, self._own_loss, self._method, self._ranks = trainer, own_loss, method, ranks
        self._decision: Decision | None = None
        self._inputs: Batch | None = None
        self._bonus: Tensor | None = None

    def loss(self, model: Any, inputs: Batch, decision: Decision) -> Tensor:
        """Return TRL's loss of some rows, with the surrogate that the method asks for."""
        trainer = self._trainer
        own = {name: getattr(trainer, name) for name in ("epsilon_low", "epsilon_high")}
        self._inputs, self._decision, self._bonus = dict(inputs), decision, None
        try:
            loss = self._own_loss(model, self._inputs)
            if self._inputs is not None:
                raise InvalidValueError(
                    f"the loss of {type(trainer).__name__} asks for no entropies, and so not for the surrogate of "
                    f"{type(self._method).__name__}; train with TRL's own GRPOTrainer, or choose another method"
                )
        finally:
            for name, value in own.items():
                setattr(trainer, name, value)
            bonus, self._inputs, self._bonus = self._bonus, None, None
        # Like TRL's own bonus: scaled for gradient accumulation alone.
        return loss if bonus is None else loss - bonus / trainer.current_gradient_accumulation_steps

    def see(self, log_probs_BT: Tensor, entropy_BT: Tensor | None) -> None:
        """Take what the loss's pass gave; of any other pass, nothing."""
        inputs, decision = self._inputs, self._decision
        if inputs is None or decision is None or entropy_BT is None:
            return
        self._inputs = None  # one pass, one answer
        mask_BT = loss_mask(inputs)
        own = inputs["advantages"]
        now_BT = log_probs_BT.detach().float()
        old_BT = inputs.get("old_per_token_logps")
        seen = MiniBatch(
            log_probs_BT=now_BT,
            old_log_probs_BT=now_BT if old_BT is None else old_BT.float(),
            entropy_BT=entropy_BT.detach().float(),
            advantages_BT=(own if own.ndim == 2 else own[:, None]).expand(mask_BT.shape),
            mask_BT=mask_BT,
        )
        with torch.no_grad():
            asked = self._method.surrogate(seen, decision, lambda sums: self._ranks.summed(sums.cpu()))
        counted_BT = mask_BT.bool()
        asked = (asked or Surrogate()).checked(counted_BT, type(self._method).__name__)
        self._carry_out(asked, inputs, counted_BT, entropy_BT)

    def _carry_out(self, asked: Surrogate, inputs: Batch, counted_BT: Tensor, entropy_BT: Tensor) -> None:
        if asked.advantages_BT is not None:
            inputs["advantages"] = asked.advantages_BT
            # `clamp` to all numbers: the loss is `-ratio * advantage`.
            self._trainer.epsilon_low = self._trainer.epsilon_high = math.inf
        if asked.entropy_coef_BT is not None:
            weighed_BT = asked.entropy_coef_BT * entropy_BT.masked_fill(~counted_BT, 0.0)
            self._bonus = weighed_BT.sum() / counted_BT.sum().clamp(min=1)
