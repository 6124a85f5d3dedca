"""What the policy thinks of the tokens of a batch."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from entrocraft.dynamics import entropy_sensitivity, self_kernel
from entrocraft.entropy import token_entropy, token_log_probs


@dataclass
class Scores:
    """What the policy thinks of each completion token; nothing in a row is meant to be read beyond its mask."""

    log_probs_BT: Tensor
    entropy_BT: Tensor
    sensitivity_BT: Tensor | None = None
    self_kernel_BT: Tensor | None = None

    @classmethod
    def joined(cls, parts: list["Scores"], dim: int) -> "Scores":
        """Return parts of a batch, all of the same kind, as one."""

        def joined(name: str) -> Any:
            column = [getattr(part, name) for part in parts]
            return None if column[0] is None else torch.cat(column, dim=dim)

        return cls(**{field.name: joined(field.name) for field in fields(cls)})

    def padded(self, width: int) -> "Scores":
        """Return the same with columns of 0 on the right, up to `width`."""
        missing = width - self.log_probs_BT.shape[1]

        def wide(column_BT: Any) -> Any:
            return None if column_BT is None else pad(column_BT, (0, missing))

        return Scores(*(wide(getattr(self, field.name)) for field in fields(self)))


def scores_of(logits_BTV: Tensor, tokens_BT: Tensor, exact: bool) -> Scores:
    """Return the scores of tokens from the logits they were sampled from, with the exact predictors' part or without."""
    scores = Scores(token_log_probs(logits_BTV, tokens_BT), token_entropy(logits_BTV))
    if exact:
        scores.sensitivity_BT = entropy_sensitivity(logits_BTV, tokens_BT)
        scores.self_kernel_BT = self_kernel(logits_BTV, tokens_BT)
    return scores
