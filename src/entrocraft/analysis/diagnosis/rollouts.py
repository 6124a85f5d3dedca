"""Rollouts sampled for a diagnosis, and what one pass of the policy says of each token.

Shapes: P prompts, G rollouts per prompt, B = P * G rollouts, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entrocraft.dynamics import entropy_sensitivity, output_space_baseline, self_kernel
from entrocraft.entropy import token_entropy, token_log_probs
from entrocraft.errors import InvalidValueError
from entrocraft.models.sampling import Answers, SamplingConfig, sample_answers
from entrocraft.tasks import Task

_MAX_LOGITS = 2**27  # in one forward pass: 512 MiB in float32


@dataclass(frozen=True, kw_only=True)
class ScoredRollouts:
    """Rollouts with their scores, and what one pass of the policy says of each token; see `dynamics`."""

    scores_PG: Tensor
    answers: Sequence[str | None]
    """What each rollout answers, prompt after prompt; None where the task can read nothing."""
    truncated_B: Tensor
    """True for a rollout without an end token."""
    mask_BT: Tensor
    """True where a token belongs to a rollout; what else is said of tokens is meaningless elsewhere."""
    log_probs_BT: Tensor
    entropy_BT: Tensor
    sensitivity_BT: Tensor
    """S: what reinforcing the token lowers entropy by, to first order."""
    self_kernel_BT: Tensor
    """How far reinforcing the token raises its own log-probability."""
    baseline_BT: Tensor
    """The log-probability above which Theorem 1 holds."""


def scored_rollouts(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    num_prompts: int,
    num_rollouts: int,
    max_tokens: int | None,
    temperature: float,
    batch_size: int,
    seed: int,
    sampling: Mapping[str, Any] | None = None,
) -> ScoredRollouts:
    """Sample rollouts on training problems and score them; arguments and errors are those of `diagnose`."""
    if num_prompts < 2 or num_rollouts < 2:
        raise InvalidValueError(
            f"num_prompts and num_rollouts must be at least 2, got {num_prompts} and {num_rollouts}: one prompt shows "
            "no noise floor, and one rollout has no advantage"
        )
    max_tokens = task.max_completion_tokens if max_tokens is None else max_tokens
    if max_tokens < 1:
        raise InvalidValueError(f"max_tokens must be at least 1, got {max_tokens}")
    given = {"num_samples": num_rollouts, "temperature": temperature, "batch_size": batch_size}
    config = SamplingConfig(**dict(sampling or {}) | given)
    problems = task.problems_up_to("train", num_prompts, seed)
    num_prompts = len(problems)
    if num_prompts < 2:
        raise InvalidValueError(
            f"{task.name} has {num_prompts} problem to train on, and one shows no noise floor: give it two at least"
        )
    answers = list(sample_answers(model, tokenizer, problems, config, max_tokens, seed))
    texts = [text for batch in answers for text in batch.texts]
    scores = task.scores(texts, [problem for problem in problems for _ in range(num_rollouts)])
    was_training = model.training
    model.eval()
    try:
        rows = [row for batch in answers for row in _score_tokens(model, batch, temperature)]
    finally:
        model.train(was_training)
    return ScoredRollouts(
        answers=task.answers_of(texts),
        scores_PG=torch.tensor(scores).view(num_prompts, num_rollouts),
        truncated_B=torch.cat([batch.truncated_B for batch in answers]).cpu(),
        **{name: _stacked([row[name] for row in rows], max_tokens) for name in rows[0]},
    )


@torch.no_grad()
def _score_tokens(model: Any, answers: Answers, temperature: float) -> Iterator[dict[str, Tensor]]:
    """Yield per micro-batch what `ScoredRollouts` holds of each token."""
    ids = torch.cat([answers.prompt_ids_BL, answers.completion_ids_BT], dim=1)
    mask = torch.cat([answers.prompt_mask_BL, answers.completion_mask_BT], dim=1)
    num_columns = answers.completion_ids_BT.shape[1]
    num_rows = max(1, _MAX_LOGITS // (ids.shape[1] * model.config.get_text_config().vocab_size))
    for ids_BL, mask_BL in zip(ids.split(num_rows), mask.split(num_rows), strict=True):
        logits_BTV = model(input_ids=ids_BL, attention_mask=mask_BL).logits[:, -num_columns - 1 : -1] / temperature
        tokens_BT = ids_BL[:, -num_columns:]
        yield {
            "mask_BT": mask_BL[:, -num_columns:].bool().cpu(),
            "log_probs_BT": token_log_probs(logits_BTV, tokens_BT).cpu(),
            "entropy_BT": token_entropy(logits_BTV).cpu(),
            "sensitivity_BT": entropy_sensitivity(logits_BTV, tokens_BT).cpu(),
            "self_kernel_BT": self_kernel(logits_BTV, tokens_BT).cpu(),
            "baseline_BT": output_space_baseline(logits_BTV, tokens_BT).cpu(),
        }


def _stacked(parts: list[Tensor], num_columns: int) -> Tensor:
    """Put micro-batches of different lengths together; what is added is masked by the mask's own zeros."""
    return torch.cat([torch.nn.functional.pad(part, (0, num_columns - part.shape[1])) for part in parts])
