"""All that is found on a model and a task before anything is trained.

Shapes: P prompts, G rollouts per prompt, B = P * G rollouts, T tokens.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from entrocraft.advantages import estimate
from entrocraft.analysis.diagnosis.findings import (
    Agreement,
    Conditions,
    Likelihood,
    Parts,
    agreement_of,
    conditions_of,
    likelihood_of,
    row_means,
)
from entrocraft.analysis.diagnosis.prospects import Prospects, prospects_of
from entrocraft.analysis.diagnosis.recommendation import FLOOR, Recommendation, prompts_for, recommend
from entrocraft.analysis.diagnosis.rollouts import ScoredRollouts, scored_rollouts
from entrocraft.dynamics import (
    Quadrants,
    estimated_entropy_sensitivity,
    quadrants,
    rollout_entropy_change,
    visitation_entropy_change,
)
from entrocraft.entropy import entropy_from_sums, entropy_standard_error, entropy_sums
from entrocraft.tasks import Task
from entrocraft.tasks.base import CORRECT

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Prompts per step for which the noise floor is given."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found; see `diagnose`."""

    num_prompts: int
    """Problems that were asked."""
    num_rollouts: int
    """Answers to each of them."""
    num_tokens: int
    """Tokens of all answers."""
    entropy: float
    """Entropy of the policy, in nats per token."""
    entropy_stderr: float
    """The noise floor: standard error of the entropy over `num_prompts` prompts, in nats per token."""
    mean_score: float
    """Mean score of the answers."""
    mixed_groups: float
    """Share of prompts whose rollouts differ in score: the others give no gradient in GRPO."""
    prospects: Prospects
    """How far several answers beat one, and what groups of rollouts miss."""
    mean_length: float
    """Tokens of a rollout."""
    truncated: float
    """Share of rollouts without an end."""
    conditions: dict[str, Conditions]
    """How often the paper's conditions hold, among `correct`, `wrong` and `all` rollouts."""
    agreement: dict[str, Agreement]
    """How well predictors see the exact change: `advantage` (-A) and `estimate` (from log-probability and entropy).
    Empty if no rollout changes anything."""
    parts: Parts
    """The batch's predicted change, local and by visitation."""
    likelihood: dict[str, Likelihood]
    """How likely the policy finds its rollouts, among `correct` and `wrong` ones."""
    quadrants: Quadrants
    """Where the local change comes from."""
    rollouts: dict[str, list[float]]
    """One value per rollout: `score`, `advantage`, `log_likelihood` and `baseline` (means per token), and the changes
    `exact`, `estimate` and `visitation` (its part of the batch's, in nats per token per unit step)."""
    recommendation: Recommendation
    """Settings to begin with."""

    def floor(self, num_prompts: int) -> float:
        """Return the noise floor of a batch of `num_prompts` prompts, in nats: it goes as 1 / sqrt(prompts)."""
        return self.entropy_stderr * math.sqrt(self.num_prompts / num_prompts)

    @property
    def floors(self) -> dict[int, float]:
        """The noise floor, in nats per token, of each number of prompts in `BATCH_SIZES`."""
        return {num_prompts: self.floor(num_prompts) for num_prompts in BATCH_SIZES}

    @property
    def prompts_for_floor(self) -> int:
        """Prompts a batch needs for a noise floor of `FLOOR`, at as many rollouts each."""
        return prompts_for(FLOOR, self.entropy_stderr, self.num_prompts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("conditions", "agreement", "likelihood"):
            data[name] = {key: asdict(value) for key, value in data[name].items()}
        return data | {
            "floors": {str(num_prompts): floor for num_prompts, floor in self.floors.items()},
            "prompts_for_floor": {str(FLOOR): self.prompts_for_floor},
            # JSON has no infinity.
            "parts": asdict(self.parts) | {"ratio": self.parts.ratio if self.parts.local_size else None},
            "prospects": asdict(self.prospects)
            | {name: getattr(self.prospects, name) for name in ("headroom", "keeps_breadth", "outlook")},
            "quadrants": self.quadrants.to_dict(),
            "recommendation": asdict(self.recommendation),
        }


def diagnose(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    num_prompts: int = 32,
    num_rollouts: int = 8,
    max_tokens: int | None = None,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Sample rollouts of the model on training problems and say what entropy control would meet.

    Args:
        model: A causal language model of transformers. It is left as it was.
        tokenizer: The model's tokenizer.
        task: The task that problems and scores come from.
        num_prompts: Problems, at least 2: their spread is the noise floor. Where a task has fewer, all are taken.
        num_rollouts: Answers to each, at least 2: advantages compare them.
        max_tokens: Tokens after which an answer is cut; by default what the task's longest right answer needs.
        temperature: Sampling temperature; entropy and all else is that of the policy at it.
        batch_size: Answers generated at once. The pass for logits takes as many or fewer, so that it holds
            no more than 2^27 logits.
        seed: Seed of the choice of problems and of the answers drawn.
        sampling: Other fields of `SamplingConfig`, such as `chat_template_kwargs`.

    Returns:
        The diagnosis.

    Raises:
        InvalidValueError: A number is out of range.
        MeasurementError: A score or an entropy is not finite.
    """
    return diagnosis_of(
        scored_rollouts(
            model,
            tokenizer,
            task,
            num_prompts=num_prompts,
            num_rollouts=num_rollouts,
            max_tokens=max_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
            sampling=sampling,
        )
    )


def diagnosis_of(rollouts: ScoredRollouts) -> Diagnosis:
    """Return the diagnosis of rollouts that are sampled and scored.

    A rollout's change is its part of the batch's, for a loss that averages over all tokens of the batch (TRL's
    default): `-A * sum_t S_t / N` locally, N the tokens of the batch. The local changes add up to
    `Quadrants.total`.

    Raises:
        MeasurementError: A score or an entropy is not finite.
    """
    r = rollouts
    num_prompts, num_rollouts = r.scores_PG.shape
    advantages_B = estimate("grpo", r.scores_PG).flatten()
    sums_B, counts_B = entropy_sums(r.entropy_BT, r.mask_BT)
    groups_B = torch.arange(num_prompts).repeat_interleave(num_rollouts)
    entropy, standard_error = entropy_from_sums(sums_B, counts_B), entropy_standard_error(sums_B, counts_B, groups_B)
    assert standard_error is not None, "there are two prompts at least"

    weights_B = counts_B / counts_B.sum()  # n_i / N: what a rollout's mean over its tokens weighs in the batch's
    estimated_BT = estimated_entropy_sensitivity(r.log_probs_BT, r.entropy_BT, r.mask_BT)
    changes = {
        "exact": weights_B * rollout_entropy_change(r.sensitivity_BT, advantages_B, r.mask_BT),
        "estimate": weights_B * rollout_entropy_change(estimated_BT, advantages_B, r.mask_BT),
        "visitation": weights_B
        * visitation_entropy_change(r.self_kernel_BT, r.entropy_BT, advantages_B, r.mask_BT, entropy),
    }
    exact_B = changes["exact"]
    predictors = {"advantage": -advantages_B, "estimate": changes["estimate"]} if exact_B.any() else {}
    agreement = {name: agreement_of(predicted_B, exact_B) for name, predicted_B in predictors.items()}
    parts = Parts(
        local_size=exact_B.abs().sum().item(),
        local=exact_B.sum().item(),
        visitation_size=changes["visitation"].abs().sum().item(),
        visitation=changes["visitation"].sum().item(),
    )
    correct_B = r.scores_PG.flatten() > CORRECT
    kinds = {"correct": correct_B, "wrong": ~correct_B}
    log_likelihood_B, baseline_B = row_means(r.log_probs_BT, r.mask_BT), row_means(r.baseline_BT, r.mask_BT)
    mixed_groups = (r.scores_PG.amax(1) > r.scores_PG.amin(1)).float().mean().item()
    columns = {
        "score": r.scores_PG.flatten(),
        "advantage": advantages_B,
        "log_likelihood": log_likelihood_B,
        "baseline": baseline_B,
        **changes,
    }
    return Diagnosis(
        num_prompts=num_prompts,
        num_rollouts=num_rollouts,
        num_tokens=int(counts_B.sum()),
        entropy=entropy,
        entropy_stderr=standard_error,
        mean_score=r.scores_PG.mean().item(),
        mixed_groups=mixed_groups,
        prospects=prospects_of(r.scores_PG, r.answers),
        mean_length=counts_B.double().mean().item(),
        truncated=r.truncated_B.double().mean().item(),
        conditions={
            name: conditions_of(r, rows_B) for name, rows_B in (kinds | {"all": torch.ones_like(correct_B)}).items()
        },
        agreement=agreement,
        parts=parts,
        likelihood={name: likelihood_of(log_likelihood_B, baseline_B, rows_B) for name, rows_B in kinds.items()},
        quadrants=quadrants(r.sensitivity_BT, advantages_B, r.mask_BT),
        rollouts={name: [float(f"{value:.6g}") for value in column.tolist()] for name, column in columns.items()},
        recommendation=recommend(entropy, standard_error, num_prompts, agreement, parts),
    )
