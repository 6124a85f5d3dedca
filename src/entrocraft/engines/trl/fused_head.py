"""TRL's fused output layer, put in its own way: at another temperature, or asked for one number more.

TRL scores completions without ever holding their logits: its output layer folds them, tile by tile, into
log-probabilities and entropies. The same fold gives `log sum_v p_v^2`, how likely two draws from a distribution are the
same token, at the cost of one sum more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from entrocraft.errors import MeasurementError


class CollisionRecord:
    """Sums of squared probabilities of the passes that are made while it records.

    Example:
        >>> record = CollisionRecord()
        >>> record.log_sums.append(torch.tensor([[0.0, -1.0, -2.0]]))  # of one prompt token and two of the completion
        >>> record.collision_probabilities(width=2)
        tensor([[0.3679, 0.1353]])
    """

    def __init__(self) -> None:
        self.log_sums: list[Tensor] = []
        """`log sum_v p_v^2` of each part of a batch, (rows, at least T)."""

    def collision_probabilities(self, width: int) -> Tensor:
        """Return `sum_v p_v^2` (B, T) at the last `width` positions.

        Raises:
            MeasurementError: Nothing was recorded.
        """
        if not self.log_sums:
            raise MeasurementError(
                "visitation needs sums of squared probabilities, and the trainer scored its completions without TRL's "
                "fused output layer, which gives them; use TRL's own _get_per_token_logps_and_entropies, or "
                "visitation=False"
            )
        return torch.cat([part[:, -width:] for part in self.log_sums]).exp()


@contextmanager
def fused_head(trainer: Any, model: Any, outputs: tuple[str, ...]) -> Iterator[Any]:
    """Give a model a fused output layer like the one that TRL has given it, at the trainer's temperature of now.

    Afterwards it has TRL's own again.

    Args:
        trainer: The TRL trainer.
        model: Its model or its reference.
        outputs: What the layer gives; see TRL's `add_fused_lm_head`.

    Yields:
        The model that has the layer.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # TRL patches what PEFT wraps
    own = base.forward
    cast = getattr(trainer.args, "cast_lm_head_to_fp32", False)
    add_fused_lm_head(base, temperature=trainer.temperature, cast_lm_head_to_fp32=cast, outputs=outputs)
    try:
        yield base
    finally:
        base.forward = own


@contextmanager
def recorded_collisions(trainer: Any) -> Iterator[CollisionRecord]:
    """Record sums of squared probabilities of all that TRL scores with the trainer's model meanwhile.

    The model gets a fused output layer like the one that TRL has given it, with one output more; afterwards it has
    TRL's own again, so that no other pass pays for what it does not need.

    Args:
        trainer: The TRL trainer.
    """
    record = CollisionRecord()
    with fused_head(trainer, trainer.model, ("log_probs", "entropy", "log_sum_sq_probs")) as base:
        fused = base.forward

        @wraps(fused)
        def recording(*args: Any, **kwargs: Any) -> Any:
            output = fused(*args, **kwargs)
            if getattr(output, "log_sum_sq_probs", None) is not None:
                record.log_sums.append(output.log_sum_sq_probs)
            return output

        base.forward = recording
        yield record
