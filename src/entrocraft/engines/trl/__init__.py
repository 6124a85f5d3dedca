"""Entropy control for TRL's trainers: change one import, draw a curve.

    from entrocraft.engines.trl import EntropyControlledGRPOTrainer

    trainer = EntropyControlledGRPOTrainer(..., entropy_control="linear(0.6, 0.2)")

What happens in a training step, all of it around TRL's own methods:

1. TRL generates and scores a batch. The policy's entropy is measured on that batch, before the
   update, for the sampling temperature: in the pass over old log-probabilities where TRL makes one
   (RLOO; GRPO with vLLM correction or with several updates per batch), else while transformers
   samples, else in one pass of our own without gradient.
2. Per-rollout sums are gathered over ranks, and every rank computes the same decision, once for all
   micro-batches and iterations of the generation batch.
3. Rejected rows are left out of each micro-batch's forward and backward pass. Every micro-batch still
   runs on every rank, at least on one filler row of one token, so collectives stay in step.
"""

from entrocraft.engines.trl.recording import with_rollout_recording
from entrocraft.engines.trl.trainer import (
    EntropyControlledGRPOTrainer,
    EntropyControlledRLOOTrainer,
    EntropyControlMixin,
    with_entropy_control,
)

__all__ = [
    "EntropyControlMixin",
    "EntropyControlledGRPOTrainer",
    "EntropyControlledRLOOTrainer",
    "with_entropy_control",
    "with_rollout_recording",
]
