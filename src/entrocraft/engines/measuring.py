"""Log-probabilities and entropies of a batch: from logits, or noted down while the batch is sampled.

A policy that transformers samples from has shown its distribution at every token already. Noting it down saves the pass
that would compute it again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from entrocraft.dynamics import entropy_sensitivity, self_kernel
from entrocraft.entropy import token_entropy, token_log_probs

logger = logging.getLogger(__name__)

# Sampling reads from a cache, a pass does not, and half precision rounds them differently. In nats per token.
_TOLERANCE_LOG_PROBS, _TOLERANCE_ENTROPY = 0.05, 0.005


@dataclass
class Scores:
    """What the policy thinks of each completion token; nothing in a row is meant to be read beyond its mask."""

    log_probs_BT: Tensor
    entropy_BT: Tensor
    sensitivity_BT: Tensor | None = None
    self_kernel_BT: Tensor | None = None


def scores_of(logits_BTV: Tensor, tokens_BT: Tensor, exact: bool) -> Scores:
    """Return the scores of tokens from the logits they were sampled from, with the exact predictors' part or without."""
    scores = Scores(token_log_probs(logits_BTV, tokens_BT), token_entropy(logits_BTV))
    if exact:
        scores.sensitivity_BT = entropy_sensitivity(logits_BTV, tokens_BT)
        scores.self_kernel_BT = self_kernel(logits_BTV, tokens_BT)
    return scores


def concatenated(parts: list[Scores], dim: int) -> Scores:
    """Return parts of a batch as one."""

    def joined(name: str) -> Any:
        column = [getattr(part, name) for part in parts]
        return None if column[0] is None else torch.cat(column, dim=dim)

    return Scores(**{field.name: joined(field.name) for field in fields(Scores)})


class SamplingRecord(LogitsProcessor):
    """Notes the scores of every token that `generate` of transformers samples.

    What it notes is taken on trust only after it has agreed with a pass over the same batch: settings of generation can
    change logits before they get here (a repetition penalty), dropout makes each pass another.

    Args:
        temperature: The sampling temperature.
        exact: Also note what the exact predictions need.
    """

    def __init__(self, temperature: float, exact: bool):
        self.trusted: bool | None = None
        self._temperature, self._exact = temperature, exact
        self._logits_BV: Tensor | None = None
        self._parts: list[Scores] = []
        self._tokens_BT: Tensor | None = None

    @contextmanager
    def recording(self, model: Any) -> Iterator[None]:
        """Note what `model.generate` samples meanwhile; no trace of it is left on the model."""
        self.clear()
        generate, patched = model.generate, vars(model).get("generate")

        def recorded(*args: Any, **kwargs: Any) -> Any:
            processors = LogitsProcessorList([*(kwargs.pop("logits_processor", None) or []), self])
            ids = generate(*args, logits_processor=processors, **kwargs)
            self._finish(ids)
            return ids

        model.generate = recorded
        try:
            yield
        finally:
            if patched is None:
                del model.generate
            else:
                model.generate = patched

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Note the distribution of the next token, before the temperature, and what became of the one before."""
        self._note(input_ids[:, -1:])
        self._logits_BV = scores / self._temperature
        return scores

    def _note(self, tokens_B1: Tensor) -> None:
        if self._logits_BV is not None:
            self._parts.append(scores_of(self._logits_BV[:, None], tokens_B1, self._exact))

    def _finish(self, ids: Any) -> None:
        if isinstance(ids, Tensor) and self._logits_BV is not None and self._tokens_BT is None:
            self._note(ids[:, -1:])
            self._tokens_BT = ids[:, -len(self._parts) :]
        else:  # several turns, or another way to generate
            self._tokens_BT = None
        self._logits_BV = None

    def scores(self, tokens_BT: Tensor, mask_BT: Tensor) -> Scores | None:
        """Return what was noted for these completions; None if it was not they that were sampled, token by token."""
        num_columns = tokens_BT.shape[1]
        if self._tokens_BT is None or self._tokens_BT.shape[1] < num_columns or len(self._tokens_BT) != len(tokens_BT):
            return None
        if not ((self._tokens_BT[:, :num_columns] == tokens_BT) | ~mask_BT.bool()).all():
            return None
        return concatenated(self._parts[:num_columns], dim=1)

    def agrees(self, noted: Scores, passed: Scores, mask_BT: Tensor) -> bool:
        """Return whether what was noted is what a pass gives, and say so in the log."""
        counted = mask_BT.bool()
        log_probs = (noted.log_probs_BT - passed.log_probs_BT)[counted].abs().mean().item()
        entropy = abs((noted.entropy_BT - passed.entropy_BT)[counted].mean().item())
        agree = log_probs <= _TOLERANCE_LOG_PROBS and entropy <= _TOLERANCE_ENTROPY
        logger.log(
            logging.INFO if agree else logging.WARNING,
            "entropy noted while sampling differs from a pass over the batch by %.2g nats per token, log-probabilities "
            "by %.2g: %s",
            entropy,
            log_probs,
            "the pass is left out from now on" if agree else "each batch gets a pass of its own",
        )
        return agree

    def clear(self) -> None:
        """Forget what was noted."""
        self._logits_BV, self._tokens_BT, self._parts = None, None, []
