"""From the rollouts of all ranks to a line of `rollouts.jsonl`, the same in every engine.

Shapes: B rollouts of this rank.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from entrocraft.engines.ranks import Ranks
from entrocraft.runs.rollouts import LIMIT_BYTES, RolloutFile, Texts


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

    def record(
        self,
        step: int,
        total_steps: int,
        *,
        groups: Tensor,
        advantages_B: Tensor,
        tokens_B: Tensor,
        kept_tokens_B: Tensor,
        rewards: Tensor | None = None,
        change: Tensor | None = None,
        texts: Texts | None = None,
    ) -> None:
        """Record one batch; every rank calls it.

        Args:
            step: The optimizer step that the rollouts were sampled for.
            total_steps: Optimizer steps of the whole run.
            groups: Index of the prompt of each rollout of all ranks.
            advantages_B: This rank's, before any decision.
            tokens_B: Tokens of this rank's rollouts that the loss counts.
            kept_tokens_B: Those that the update uses.
            rewards: Of the rollouts of all ranks.
            change: Predicted entropy changes of the rollouts of all ranks, where the decision asked for them.
            texts: Gives the texts of rows of this rank.
        """
        advantages, tokens, kept_tokens = self._ranks.gathered(advantages_B, tokens_B, kept_tokens_B)
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
        self._file.append(step, columns, texts, num_texts=len(tokens_B))
