"""From the rollouts of all ranks to a line of `rollouts.jsonl`, the same in every engine.

Shapes: B rollouts of this rank, T tokens.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from entrocraft.engines.ranks import Ranks
from entrocraft.runs.rollouts import LIMIT_BYTES, RolloutFile, RolloutText

TokenIds = Callable[[Sequence[int]], Sequence[tuple[Tensor, Tensor]]]
"""Takes rows of this rank; returns the tokens of prompt and completion of each, which special ones may pad."""


class RolloutRecorder:
    """Writes down what each rollout was, and what became of it; the main rank writes.

    Args:
        path: The file; see `RolloutFile`.
        ranks: Among which a batch is divided.
        limit_bytes: Size of the file at most.
    """

    def __init__(self, path: Path | str, ranks: Ranks, limit_bytes: int = LIMIT_BYTES):
        self._path, self._ranks, self._limit = path, ranks, limit_bytes
        self._file: RolloutFile | None = None
        self._token_texts: dict[int, str] = {}

    def record(
        self,
        step: int,
        total_steps: int,
        *,
        groups: Tensor,
        advantages_B: Tensor,
        mask_BT: Tensor,
        kept_BT: Tensor,
        tokenizer: Any,
        token_ids: TokenIds,
        rewards: Tensor | None = None,
        change: Tensor | None = None,
        change_BT: Tensor | None = None,
    ) -> None:
        """Record one batch; every rank calls it.

        Args:
            step: The optimizer step that the rollouts were sampled for.
            total_steps: Optimizer steps of the whole run.
            groups: Index of the prompt of each rollout of all ranks.
            advantages_B: This rank's, before any decision.
            mask_BT: 1 for the tokens of this rank's rollouts that the loss counts.
            kept_BT: 1 for those that the update uses.
            tokenizer: Decodes; the same one each time.
            token_ids: Gives the tokens of rows of this rank.
            rewards: Of the rollouts of all ranks.
            change: Predicted entropy changes of the rollouts of all ranks, where the decision asked for them.
            change_BT: Those of the tokens of this rank's rollouts.
        """
        advantages, tokens, kept_tokens = self._ranks.gathered(advantages_B, mask_BT.sum(-1), kept_BT.sum(-1))
        # Only now: gathering is for all ranks together.
        if not self._ranks.is_main:
            return
        if self._file is None:
            self._file = RolloutFile(self._path, total_steps, self._limit)
        if not self._file.wants(step):
            return
        columns: dict[str, Sequence[float] | None] = {
            "group": groups.tolist(),
            "reward": None if rewards is None else rewards.tolist(),
            "advantage": advantages.tolist(),
            "change": None if change is None else change.tolist(),
            "tokens": tokens.tolist(),
            "kept_tokens": kept_tokens.tolist(),
        }
        if change_BT is not None:
            change_BT = change_BT.masked_fill(~mask_BT.bool(), math.nan)

        def texts(rows: Sequence[int]) -> list[RolloutText]:
            chosen = list(rows)
            kept = kept_BT[chosen].tolist()
            changes = [None] * len(chosen) if change_BT is None else change_BT[chosen].tolist()
            return [
                self._text(tokenizer, *ids, *each) for ids, *each in zip(token_ids(rows), changes, kept, strict=True)
            ]

        self._file.append(step, columns, texts, num_texts=len(mask_BT))

    def _text(
        self,
        tokenizer: Any,
        prompt: Tensor,
        completion: Tensor,
        changes: Sequence[float] | None,
        kept: Sequence[float],
    ) -> RolloutText:
        """Return what a rollout says; tokens without a text, which are special ones, are left out."""
        asked, said = tokenizer.batch_decode([prompt, completion], skip_special_tokens=True)
        texts = [self._token_text(tokenizer, token) for token in completion.tolist()]
        places = [place for place, text in enumerate(texts) if text]
        return RolloutText(
            prompt=asked,
            completion=said,
            tokens=[texts[place] for place in places],
            changes=None if changes is None else [changes[place] for place in places],
            kept=[kept[place] > 0 for place in places],
        )

    def _token_text(self, tokenizer: Any, token: int) -> str:
        """Return the text of a token, as it stands amid others; what was decoded once is remembered."""
        if token not in self._token_texts:
            # The second of two: some tokenizers leave out the space before the first.
            one, two = tokenizer.batch_decode([[token], [token, token]], skip_special_tokens=True)
            self._token_texts[token] = two[len(one) :]
        return self._token_texts[token]
