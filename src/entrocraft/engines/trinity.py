"""Entropy control as an advantage function of Trinity-RFT, on `decide`: one of its own, and what was decided of it.

Its trainer measures entropies where `algorithm.bypass_old_logprobs` is false; otherwise that of a batch is the mean of
-log p over what was sampled.
"""

import warnings
from pathlib import Path
from typing import Any

from entrocraft.engines.loop import Loop, decide
from entrocraft.engines.loop.states import StateLog
from entrocraft.errors import InvalidValueError

LOSSES = {
    "token-mean": "token_mean",
    "seq-mean-token-mean": "sequence_mean",
    "seq-mean-token-sum": "sequence_sum",
    "seq-mean-token-sum-norm": "sequence_sum",
}
"""By Trinity's `loss_agg_mode`: `Loop.loss`."""


class ControlledAdvantageFn:
    """An advantage function of Trinity's with entropy control; its trainer calls it before each update.

    Args:
        control: As for `decide`: a schedule, or settings.
        total_steps: Steps of the whole run, as `trainer.total_steps`.
        advantage_fn: Name of the function of Trinity's that makes the advantages, one that works in the trainer.
        advantage_fn_args: Its arguments; by default its own.
        loss_agg_mode: As `algorithm.loss_agg_mode`.
        whole_rollouts: True for losses with one ratio per rollout, such as `policy_loss_fn: gspo`.
        other_terms: True if the loss has a KL term or an entropy bonus.
        entropies: True if `algorithm.bypass_old_logprobs` is false, so that entropies are measured.
        beta1: Adam's, as `algorithm.optimizer.betas[0]`.
        updates: Optimizer steps of each step of the trainer.
        checkpoint_dir: Trinity's `checkpoint_job_dir`, to go on from where its last checkpoint is; None for a new run
            that will not be resumed.

    Raises:
        InvalidValueError: The settings ask for what this host does not carry out, or cannot tell.
        UnknownNameError: A word is not known.
    """

    def __init__(
        self,
        control: Any = None,
        total_steps: int | None = None,
        advantage_fn: str = "grpo_verl",
        advantage_fn_args: dict[str, Any] | None = None,
        loss_agg_mode: str = "token-mean",
        whole_rollouts: bool = False,
        other_terms: bool = True,
        entropies: bool = True,
        beta1: float = 0.9,
        updates: float = 1.0,
        checkpoint_dir: str | None = None,
    ):
        from trinity.algorithm import ADVANTAGE_FN

        if total_steps is None:
            raise InvalidValueError(
                "expected advantage_fn_args.total_steps, the steps of the whole run, as in `trainer`"
            )
        if loss_agg_mode not in LOSSES:
            raise InvalidValueError(f"loss_agg_mode must be one of {', '.join(LOSSES)}, got {loss_agg_mode!r}")
        base = ADVANTAGE_FN.get(advantage_fn)
        if not base.compute_in_trainer():
            raise InvalidValueError(
                f"advantage_fn {advantage_fn!r} works before the trainer has the batch, which decisions are about; use "
                "one that works in it, such as 'grpo_verl', 'rloo' or 'reinforceplusplus'"
            )
        self._advantage_fn = base(**(base.default_args() if advantage_fn_args is None else advantage_fn_args))
        self._loop = Loop(
            name="Trinity's trainer",
            loss=LOSSES[loss_agg_mode],  # type: ignore[arg-type]
            whole_rollouts=whole_rollouts,
            other_terms=other_terms,
            momentum=beta1,
            steps_per_decision=updates,
        )
        self._control = self._loop.settled(control, entropies=entropies)
        self._entropies, self._total_steps = entropies, total_steps
        self._states = None if checkpoint_dir is None else StateLog(Path(checkpoint_dir) / "entrocraft.jsonl")
        self._step = 0 if checkpoint_dir is None else _last_checkpoint(checkpoint_dir)
        self._state = self._states.after(self._step) if self._states is not None else None

    def __call__(self, exps: Any, **kwargs: Any) -> tuple[Any, dict[str, float]]:
        """Return the batch with the advantages that the update must use, and what to log."""
        exps, metrics = self._advantage_fn(exps, **kwargs)
        batch, updates = exps.batch, self._loop.steps_per_decision
        if self._entropies and "entropys" not in batch:
            raise InvalidValueError(
                "Trinity's batch has no entropies; set algorithm.bypass_old_logprobs=false, or advantage_fn_args."
                "entropies=false with a method that needs none, such as 'advantage'"
            )
        self._step += 1
        # Scores are rewards before any KL penalty; they lie on tokens, as a rule on the last.
        decided = decide(
            self._control,
            self._state,
            step=round((self._step - 1) * updates) + 1,
            total_steps=round(self._total_steps * updates),
            log_probs=batch["old_log_probs"],
            entropies=batch["entropys"] if self._entropies else None,
            advantages=batch["advantages"],
            mask=batch["response_mask"].long(),
            groups=exps.non_tensor_batch["uid"].tolist(),
            rewards=batch["token_level_scores"].sum(-1),
            loop=self._loop,
        )
        batch["advantages"], self._state = decided.advantages, decided.state
        if self._states is not None:
            self._states.append(self._step, decided.state)
        if decided.empty:
            warnings.warn(
                "a batch with nothing to learn from: Trinity makes the update all the same, so momentum and weight "
                "decay still act",
                stacklevel=2,
            )
        return exps, metrics | {f"entrocraft/{name}": value for name, value in decided.metrics.items()}

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """Return what Trinity fills in where a configuration has no `advantage_fn_args`: none will do."""
        return {}

    @classmethod
    def compute_in_trainer(cls) -> bool:
        """Return True: the trainer's driver has the whole batch."""
        return True


def _last_checkpoint(folder: str) -> int:
    """Return the step of the checkpoint that Trinity goes on from; 0 if there is none."""
    from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

    path = find_latest_ckpt_path(folder)
    return 0 if path is None else int(path.split("global_step_")[-1])
