"""Log-probabilities and entropies, recorded while transformers samples.

A policy that is sampled from has shown its distribution at every token already. Recording it saves the pass that would
compute it again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from entrocraft.engines.tokens import TokenStats, token_stats_of

logger = logging.getLogger(__name__)

# Sampling reads from a cache, a pass does not, and half precision rounds them differently. In nats per token; of the
# entropy also as a share of it, whichever is more: high entropies are rounded by more, and have wider bands.
_TOLERANCE_LOG_PROBS, _TOLERANCE_ENTROPY, _TOLERANCE_ENTROPY_SHARE = 0.05, 0.005, 0.005


class SamplingRecord(LogitsProcessor):
    """Records the scores of every token that `generate` of transformers samples.

    What it records is taken on trust only while it agrees with passes over the same batches: settings of generation can
    change logits before they get here (a repetition penalty), dropout makes each pass another.

    Args:
        sensitivity: Also record the exact entropy sensitivities.
        self_kernel: Also record the self-kernels.
    """

    def __init__(self, *, sensitivity: bool, self_kernel: bool):
        self.trusted: bool | None = None
        """None before the first comparison."""
        self._temperature = 1.0
        self._options = {"sensitivity": sensitivity, "self_kernel": self_kernel}
        self._logits_BV: Tensor | None = None
        self._tokens: list[Tensor] = []
        self._parts: list[TokenStats] = []

    @contextmanager
    def recording(self, model: Any, temperature: float) -> Iterator[None]:
        """Record what `model.generate` samples at a temperature meanwhile; no trace of it is left on the model."""
        self.clear()
        self._temperature = temperature
        generate, patched = model.generate, vars(model).get("generate")

        def recorded(*args: Any, **kwargs: Any) -> Any:
            processors = LogitsProcessorList([*(kwargs.pop("logits_processor", None) or []), self])
            ids = generate(*args, logits_processor=processors, **kwargs)
            if isinstance(ids, Tensor):
                # The last token is sampled after the last call of a processor.
                self._record(ids[:, -1:])
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
        """Record the distribution of the next token, before the temperature, and what became of the one before."""
        self._record(input_ids[:, -1:])
        self._logits_BV = scores / self._temperature
        return scores

    def _record(self, tokens_B1: Tensor) -> None:
        if self._logits_BV is not None and len(self._logits_BV) == len(tokens_B1):
            self._tokens.append(tokens_B1)
            self._parts.append(token_stats_of(self._logits_BV[:, None], tokens_B1, **self._options))
        self._logits_BV = None

    def scores(self, tokens_BT: Tensor, mask_BT: Tensor) -> TokenStats | None:
        """Return what was recorded for these completions; None if it was not they that were sampled, token by token."""
        counted_BT = mask_BT.bool()
        # TRL pads completions, and cuts what follows their end.
        width = min(len(self._parts), tokens_BT.shape[1])
        if not width or counted_BT[:, width:].any():
            return None
        # Another number of rows: sampled in several calls, or several times for each prompt.
        if any(len(tokens_B1) != len(tokens_BT) for tokens_B1 in self._tokens[:width]):
            return None
        recorded_BT = torch.cat(self._tokens[:width], dim=1)
        if ((recorded_BT != tokens_BT[:, :width]) & counted_BT[:, :width]).any():
            return None
        return TokenStats.joined(self._parts[:width], dim=1).padded(tokens_BT.shape[1])

    def agrees(self, recorded: TokenStats, passed: TokenStats, mask_BT: Tensor, *, entropies: bool = True) -> bool:
        """Return whether what was recorded is what a pass gives, and say so in the log.

        Args:
            recorded: What was recorded.
            passed: What the pass gave.
            mask_BT: 1 where a token counts.
            entropies: False if the pass gave none, so that log-probabilities alone can tell.
        """
        counted = mask_BT.bool()
        if not counted.any():
            return True  # nothing to tell them apart by
        log_probs = (recorded.log_probs_BT - passed.log_probs_BT)[counted].abs().mean().item()
        entropy = abs((recorded.entropy_BT - passed.entropy_BT)[counted].mean().item())
        tolerance = max(_TOLERANCE_ENTROPY, _TOLERANCE_ENTROPY_SHARE * passed.entropy_BT[counted].mean().item())
        agree = log_probs <= _TOLERANCE_LOG_PROBS and (entropy <= tolerance or not entropies)
        logger.log(
            logging.INFO if agree else logging.WARNING,
            "entropy recorded while sampling differs from a pass over the batch by %s nats per token, "
            "log-probabilities by %.2g: %s",
            f"{entropy:.2g}" if entropies else "an unknown number of",
            log_probs,
            "no pass is needed" if agree else "each batch gets a pass of its own",
        )
        return agree

    def clear(self) -> None:
        """Let go of what was recorded."""
        self._logits_BV, self._tokens, self._parts = None, [], []
