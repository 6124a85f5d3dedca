"""TRL's loss as decisions have it: over the kept rows, averaged as was decided, with knobs and surrogates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entrocraft.control.decision import Decision
from entrocraft.control.methods import Method
from entrocraft.engines.decider import Update
from entrocraft.engines.knobs import KNOB_FIELDS
from entrocraft.engines.ranks import Ranks
from entrocraft.engines.trl.knobs import turned
from entrocraft.engines.trl.learning_rate import ScaledRate
from entrocraft.engines.trl.rows import Batch, keep_rows, loss_mask, num_loss_tokens
from entrocraft.engines.trl.settings import LOSS_DENOMINATOR, has_kl_term, loss_type_of
from entrocraft.engines.trl.surrogate import LiveSurrogate

# Carried through TRL's shuffle and split.
_KEEP, _SCALE = "entrocraft_keep", "entrocraft_scale"


class ControlledLoss:
    """Carries out decisions in a trainer's loss, which is computed for one micro-batch at a time.

    Args:
        trainer: A GRPOTrainer or RLOOTrainer.
        own_loss: Its `_compute_loss`.
        method: The method that decides.
        ranks: Among which the batch is divided.
        drops: True if rejected rows are left out of the pass.
    """

    def __init__(
        self, trainer: Any, own_loss: Callable[[Any, Batch], Tensor], method: Method, ranks: Ranks, *, drops: bool
    ):
        self._trainer, self._own_loss, self._drops = trainer, own_loss, drops
        self._denominator = LOSS_DENOMINATOR.get(loss_type_of(trainer), "rows")
        self.live = LiveSurrogate(trainer, own_loss, method, ranks) if "surrogate" in method.turns else None
        self.rate = ScaledRate(trainer)
        self._num_rows = 0

    def prepared(self, batch: Batch, update: Update) -> Batch:
        """Return the batch with the advantages that were decided, and with what the loss needs for the rest."""
        if update.changes_nothing:
            return batch  # in band: the trainer's own step, untouched to the bit
        device = update.keep_B.device
        batch = batch | {"advantages": update.advantages}
        knobs = update.decision.turned_now
        # TRL's shuffle and split hand tensors without a dimension to every micro-batch.
        batch |= {KNOB_FIELDS[name]: torch.tensor(value, device=device) for name, value in knobs.items()}
        if update.decision.keep.all():
            return batch
        scale = update.loss_scale(by_tokens=self._denominator != "rows")
        return batch | {_KEEP: update.keep_B, _SCALE: torch.tensor(scale, device=device)}

    def __call__(self, model: Any, inputs: Batch, decision: Decision | None) -> Tensor:
        """Return the loss of a micro-batch."""
        inputs = dict(inputs)
        knobs = {name: float(inputs.pop(key)) for name, key in KNOB_FIELDS.items() if key in inputs}
        if self._trainer.model.training:
            self.rate.note(knobs.get("learning_rate", 1.0))
        with turned(self._trainer, knobs):
            if _KEEP in inputs:
                return self._of_kept(model, inputs, decision)
            if self._trainer.model.training:
                self._num_rows += len(inputs["completion_ids"])
            return self._of(model, inputs, decision)

    def take_num_rows(self) -> int:
        """Return how many rows the losses since the last call had something to do with."""
        num_rows, self._num_rows = self._num_rows, 0
        return num_rows

    def _of(self, model: Any, inputs: Batch, decision: Decision | None) -> Tensor:
        """Return the loss of all rows of a micro-batch."""
        # Ranks agree on the decision, and so on whether to ask.
        if self.live is None or decision is None or decision.empty or not self._trainer.model.training:
            return self._own_loss(model, inputs)
        return self.live.loss(model, inputs, decision)

    def _of_kept(self, model: Any, inputs: Batch, decision: Decision | None) -> Tensor:
        """Return the loss over the kept rows of a micro-batch, averaged as was decided."""
        trainer = self._trainer
        keep_B, factor = inputs.pop(_KEEP), inputs.pop(_SCALE)
        # Rows that are masked still pull towards the reference, with each token that the loss counts.
        felt_B = keep_B if self._drops or not has_kl_term(trainer) else loss_mask(inputs).any(dim=-1)
        rows_per_rank = trainer.accelerator.gather(felt_B.sum().view(1))
        self._num_rows += int(rows_per_rank.sum())

        # Every loss is homogeneous in the advantage, so scaling it scales the policy gradient and leaves TRL's
        # entropy bonus and load-balancing term alone.
        if not self._drops:
            return self._of(model, inputs | {"advantages": inputs["advantages"] * factor}, decision)

        # TRL gathers one value per row for its metrics, which needs as many rows on every rank.
        kept = keep_rows(inputs, keep_B, num_rows=max(int(rows_per_rank.max()), 1))
        # From the mean over the rows passed on to the mean over all rows of the micro-batch; `factor` goes on
        # from there to what `normalize` asks for.
        if self._denominator == "rows":
            factor = factor * (len(kept["completion_ids"]) / len(keep_B))
        elif self._denominator == "tokens":
            factor = factor * (num_loss_tokens(kept) / num_loss_tokens(inputs).clamp(min=1))
        kept["advantages"] = kept["advantages"] * factor
        beta = trainer.beta
        # The KL term of the kept rows is averaged like their policy term. Zero would switch off the exchange of
        # its metric on this rank alone; where the factor is zero no row is kept, so any value will do.
        trainer.beta = beta * float(factor) or beta
        try:
            return self._of(model, kept, decision)
        finally:
            trainer.beta = beta
