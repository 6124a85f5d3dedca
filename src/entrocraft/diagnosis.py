"""What entropy control would meet on a model and a task, before anything is trained.

Rollouts are sampled and scored once, one pass gives their logits, and everything else follows from that: where
entropy starts and how noisily one batch reads it, which rules would see the sign of an update's effect, and
so which settings to begin with.

Shapes: P prompts, G rollouts per prompt, B = P * G rollouts, T tokens, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import yaml
from torch import Tensor

from entrocraft.advantages import estimate
from entrocraft.control import EntropyControl
from entrocraft.dynamics import (
    QUADRANTS,
    Quadrants,
    entropy_sensitivity,
    estimated_entropy_sensitivity,
    output_space_baseline,
    quadrants,
    rollout_entropy_change,
    self_kernel,
    sequence_condition,
    token_condition,
    visitation_entropy_change,
)
from entrocraft.entropy import entropy_from_sums, entropy_standard_error, entropy_sums, token_entropy, token_log_probs
from entrocraft.errors import InvalidValueError
from entrocraft.sampling import Answers, SamplingConfig, sample_answers
from entrocraft.tasks import Task

FLOOR = 0.01
"""The noise floor, in nats, for which the number of prompts is given."""
AGREES = 0.9
"""Sign agreement, weighted by size, from which the advantage's sign is good enough."""
DOMINATES = 10.0
"""How many times larger than the local part visitation must be for local predictions to be of little use."""
WIDTH_IN_ERRORS = 4.0
"""Width of the band in standard errors of one reading: two to either side of the curve."""
MIN_WIDTH = 0.02
"""Width of the band at least, as a share of the starting entropy."""

_CORRECT = 0.5  # a score above it is a right answer, as in evaluation
_MAX_LOGITS = 2**27  # of one forward pass: 512 MiB in float32
_BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class ScoredRollouts:
    """Rollouts with their scores, and what one pass of the policy says of each token; see `dynamics`."""

    scores_PG: Tensor
    truncated_B: Tensor
    mask_BT: Tensor
    log_probs_BT: Tensor
    entropy_BT: Tensor
    sensitivity_BT: Tensor
    self_kernel_BT: Tensor
    baseline_BT: Tensor


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Shares, 0 to 1, of some rollouts for which reinforcing lowers entropy; None if there is none of them."""

    num_rollouts: int
    sequence_condition: float | None
    """Of rollouts: Theorem 2 as stated, which weighs all tokens alike and so says little."""
    mean_sensitivity: float | None
    """Of rollouts: mean S > 0, the sign that decides to first order."""
    token_condition: float | None
    """Of tokens: Theorem 1."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well a predictor agrees with the exact local change, over the rollouts that change anything."""

    by_count: float
    """Share of rollouts with the same sign."""
    by_size: float
    """The same, each rollout weighted by the size of its exact change."""
    correlation: float | None
    """Pearson's; None where one side does not vary."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two parts of the predicted change of the batch, in nats per token per unit step."""

    local_size: float
    """Sum of the absolute local changes of the rollouts."""
    local: float
    visitation_size: float
    """Sum of the absolute changes by visiting other contexts."""
    visitation: float

    @property
    def ratio(self) -> float:
        """Visitation over local, by size; infinite if there is no local change."""
        return self.visitation_size / self.local_size if self.local_size else math.inf


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Medians over some rollouts of their means per token, in nats; None if there is none of them."""

    log_likelihood: float | None
    baseline: float | None


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Settings to begin with, and why."""

    control: dict[str, Any] | None
    """Arguments of `EntropyControl`; None if there is nothing to control."""
    reasons: tuple[str, ...]

    def to_yaml(self) -> str:
        """Return the block to paste into a configuration."""
        return yaml.safe_dump({"control": self.control}, sort_keys=False)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found; see `diagnose`."""

    num_prompts: int
    num_rollouts: int
    num_tokens: int
    entropy: float
    """In nats per token."""
    entropy_stderr: float
    """The noise floor: standard error of the entropy over `num_prompts` prompts, in nats per token."""
    mean_score: float
    mixed_groups: float
    """Share of prompts whose rollouts differ in score: the others give no gradient in GRPO."""
    mean_length: float
    """Tokens of a rollout."""
    truncated: float
    """Share of rollouts without an end."""
    conditions: dict[str, Conditions]
    """By correctness: `correct`, `wrong`, `all`."""
    agreement: dict[str, Agreement]
    """By predictor: `advantage` (-A) and `estimate` (log-probability and entropy). Empty if no rollout changes anything."""
    parts: Parts
    likelihood: dict[str, Likelihood]
    """By correctness: `correct`, `wrong`."""
    quadrants: Quadrants
    rollouts: dict[str, list[float]]
    """One value per rollout: `score`, `advantage`, `log_likelihood` and `baseline` (means per token), and the changes
    `exact`, `estimate` and `visitation` (its part of the batch's, in nats per token per unit step)."""
    recommendation: Recommendation

    def floor(self, num_prompts: int) -> float:
        """Return the noise floor of a batch of `num_prompts` prompts, in nats: it goes as 1 / sqrt(prompts)."""
        return self.entropy_stderr * math.sqrt(self.num_prompts / num_prompts)

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
            "floors": {str(num_prompts): self.floor(num_prompts) for num_prompts in _BATCH_SIZES},
            "prompts_for_floor": {str(FLOOR): self.prompts_for_floor},
            # JSON has no infinity.
            "parts": asdict(self.parts) | {"ratio": self.parts.ratio if self.parts.local_size else None},
            "quadrants": self.quadrants.to_dict(),
            "recommendation": asdict(self.recommendation),
        }


def prompts_for(floor: float, standard_error: float, num_prompts: int) -> int:
    """Return how many prompts a batch needs for the noise floor `floor`, given that of `num_prompts` prompts.

    Example:
        >>> prompts_for(0.01, standard_error=0.02, num_prompts=32)  # half the error takes four times the prompts
        128
    """
    # Rounded before it is rounded up: 128.00000000000003 is 128.
    return max(1, math.ceil(round(num_prompts * (standard_error / floor) ** 2, 6)))


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
) -> Diagnosis:
    """Sample rollouts of the model on training problems and say what entropy control would meet.

    Args:
        model: A causal language model of transformers. It is left as it was.
        tokenizer: Its tokenizer.
        task: Where problems and scores come from.
        num_prompts: Problems, at least 2: their spread is the noise floor.
        num_rollouts: Answers to each, at least 2: advantages compare them.
        max_tokens: Where an answer is cut; by default what the task's longest right answer needs.
        temperature: Of the sampling; entropy and all else is that of the tempered policy.
        batch_size: Answers generated at once. The pass for logits takes as many or fewer, so that it holds
            no more than 2^27 logits.
        seed: Of problems and answers.

    Returns:
        The diagnosis.

    Raises:
        InvalidValueError: A number is out of range.
        MeasurementError: A score or an entropy is not finite.
    """
    if num_prompts < 2 or num_rollouts < 2:
        raise InvalidValueError(
            f"num_prompts and num_rollouts must be at least 2, got {num_prompts} and {num_rollouts}: one prompt shows "
            "no noise floor, and one rollout has no advantage"
        )
    max_tokens = task.max_completion_tokens if max_tokens is None else max_tokens
    if max_tokens < 1:
        raise InvalidValueError(f"max_tokens must be at least 1, got {max_tokens}")
    sampling = SamplingConfig(num_samples=num_rollouts, temperature=temperature, batch_size=batch_size)
    problems = task.problems("train", num_prompts, seed)
    answers = sample_answers(model, tokenizer, problems, sampling, max_tokens, seed)
    texts = [text for batch in answers for text in batch.texts]
    scores = [task.score(text, problems[i // num_rollouts]) for i, text in enumerate(texts)]
    was_training = model.training
    model.eval()
    try:
        rows = [row for batch in answers for row in _score_tokens(model, batch, temperature)]
    finally:
        model.train(was_training)
    return diagnosis_of(
        ScoredRollouts(
            scores_PG=torch.tensor(scores).view(num_prompts, num_rollouts),
            truncated_B=torch.cat([batch.truncated_B for batch in answers]).cpu(),
            **{name: _stacked([row[name] for row in rows], max_tokens) for name in rows[0]},
        )
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

    weights_B = counts_B / counts_B.sum()
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
    correct_B = r.scores_PG.flatten() > _CORRECT
    kinds = {"correct": correct_B, "wrong": ~correct_B}
    log_likelihood_B, baseline_B = _row_means(r.log_probs_BT, r.mask_BT), _row_means(r.baseline_BT, r.mask_BT)
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
        mean_length=counts_B.double().mean().item(),
        truncated=r.truncated_B.double().mean().item(),
        conditions={
            name: _conditions(r, rows_B) for name, rows_B in (kinds | {"all": torch.ones_like(correct_B)}).items()
        },
        agreement=agreement,
        parts=parts,
        likelihood={
            name: Likelihood(log_likelihood=_median(log_likelihood_B[rows_B]), baseline=_median(baseline_B[rows_B]))
            for name, rows_B in kinds.items()
        },
        quadrants=quadrants(r.sensitivity_BT, advantages_B, r.mask_BT),
        rollouts={name: [float(f"{value:.6g}") for value in column.tolist()] for name, column in columns.items()},
        recommendation=recommend(entropy, standard_error, num_prompts, agreement, parts),
    )


def agreement_of(predicted_B: Tensor, exact_B: Tensor) -> Agreement:
    """Return how well predicted changes agree with exact ones, where those are not zero.

    Args:
        predicted_B: In any unit.
        exact_B: In any unit; not all zero. A rollout of zero has no sign and does not count.

    Example:
        >>> a = agreement_of(torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.tensor([3.0, -1.0, 4.0, 0.0]))
        >>> round(a.by_count, 3), a.by_size  # 2 of 3; 7 of 8
        (0.667, 0.875)
    """
    moving_B = exact_B != 0
    predicted, exact = predicted_B[moving_B].double(), exact_B[moving_B].double()
    same = (predicted.sign() == exact.sign()).double()
    varies = len(exact) > 1 and bool(predicted.std() > 0) and bool(exact.std() > 0)
    return Agreement(
        by_count=same.mean().item(),
        by_size=((same * exact.abs()).sum() / exact.abs().sum()).item(),
        correlation=torch.corrcoef(torch.stack([predicted, exact]))[0, 1].item() if varies else None,
    )


def recommend(
    entropy: float, standard_error: float, num_prompts: int, agreement: dict[str, Agreement], parts: Parts
) -> Recommendation:
    """Return settings to begin with.

    - rule `budget` with predictor `aligned` where visitation is `DOMINATES` times larger than the local part: local signs see little
      of what happens;
    - rule `advantage`, the paper's, where visitation is smaller than the local part and the advantage's sign agrees
      with the exact change by `AGREES`;
    - rule `token` otherwise.

    The curve is half of the starting entropy by the end, and the band `WIDTH_IN_ERRORS` standard errors wide.

    Args:
        entropy: At the start, in nats per token.
        standard_error: Of it, in nats per token, over `num_prompts` prompts.
        num_prompts: Prompts of a step.
        agreement: Of predictor `advantage`, at least; empty if no rollout changes anything.
        parts: The parts of the predicted change.
    """
    if not agreement:
        return Recommendation(
            control=None,
            reasons=(
                "No rollout would change entropy: no prompt has rollouts of different scores, or the policy is certain "
                "of every token. GRPO has nothing to learn here, and rejection nothing to choose from. Take easier or "
                "harder problems, more rollouts per prompt, or a higher temperature.",
            ),
        )
    signs = agreement["advantage"].by_size
    sign_text = f"the sign of the advantage is that of the local entropy change for {signs:.0%} of it, by size"
    part_text = f"the part of visitation is {parts.ratio:.1f} times as large as the local one"
    if parts.ratio >= DOMINATES:
        settings = {"rule": "budget", "predictor": "aligned"}
        why = (
            f"Rule `budget` with predictor `aligned`: {part_text} ({DOMINATES:g} or more), so what the policy will visit decides, and "
            f"rules that look at visited tokens alone can lose the curve; {sign_text}."
        )
    elif parts.ratio < 1 and signs >= AGREES:
        settings = {"rule": "advantage"}
        why = f"Rule `advantage`, the paper's, suffices: {sign_text} ({AGREES:.0%} or more), and {part_text}."
    else:
        settings = {"rule": "token"}
        why = (
            f"Rule `token`, which predicts each token's change and leaves out few: {sign_text}, and {part_text}. "
            f"The paper's rule would want {AGREES:.0%} and less than 1. (Where the loss weighs whole rollouts, as RLOO's "
            "and GSPO's do, take rule `budget`.)"
        )
    relative = WIDTH_IN_ERRORS * standard_error / entropy
    width = float(f"{max(relative, MIN_WIDTH):.2g}")
    width_why = (
        f"A band {width:g} of it wide, {width * entropy:.3f} nats: "
        + (
            f"{WIDTH_IN_ERRORS:g} standard errors of one reading"
            if relative >= MIN_WIDTH
            else f"the narrowest advised, wider than {WIDTH_IN_ERRORS:g} standard errors of one reading"
        )
        + f" at {num_prompts} prompts a step. A noise floor of {FLOOR:g} nats takes "
        f"{prompts_for(FLOOR, standard_error, num_prompts)} prompts."
    )
    schedule_why = f"A line from the starting entropy to half of it: {entropy:.3f} to {entropy / 2:.3f} nats per token."
    control: dict[str, Any] = {"schedule": "linear(1.0, 0.5, unit='initial')", "width": width, **settings}
    EntropyControl(**control)  # what is recommended can be used
    return Recommendation(control=control, reasons=(why, schedule_why, width_why))


def _conditions(r: ScoredRollouts, rows_B: Tensor) -> Conditions:
    num_rollouts = int(rows_B.sum())
    if not num_rollouts:
        return Conditions(num_rollouts=0, sequence_condition=None, mean_sensitivity=None, token_condition=None)
    log_probs_BT, baseline_BT, mask_BT = r.log_probs_BT[rows_B], r.baseline_BT[rows_B], r.mask_BT[rows_B].bool()
    return Conditions(
        num_rollouts=num_rollouts,
        sequence_condition=sequence_condition(log_probs_BT, baseline_BT, mask_BT).double().mean().item(),
        mean_sensitivity=(_row_means(r.sensitivity_BT[rows_B], mask_BT) > 0).double().mean().item(),
        token_condition=token_condition(log_probs_BT, baseline_BT)[mask_BT].double().mean().item(),
    )


def _row_means(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    mask_BT = mask_BT.bool()
    return x_BT.double().masked_fill(~mask_BT, 0.0).sum(-1) / mask_BT.sum(-1).clamp(min=1)


def _median(x: Tensor) -> float | None:
    return x.quantile(0.5).item() if len(x) else None


def describe(diagnosis: Diagnosis) -> str:
    """Return the diagnosis in words and tables."""
    d = diagnosis
    floors = ", ".join(f"{n}: {d.floor(n):.4f}" for n in _BATCH_SIZES)
    lines = [
        f"{d.num_prompts} prompts x {d.num_rollouts} rollouts, {d.num_tokens} tokens",
        f"  entropy             {d.entropy:.4f} nats per token, standard error {d.entropy_stderr:.4f} (the noise floor)",
        f"  floor by prompts    {floors}",
        f"  mean score          {d.mean_score:.3f}; groups with mixed scores {d.mixed_groups:.0%}",
        f"  mean length         {d.mean_length:.1f} tokens; truncated {d.truncated:.0%}",
        "",
        "share for which reinforcing lowers entropy",
        "             rollouts  Theorem 2  mean S > 0  Theorem 1 (tokens)",
    ]
    for name, c in d.conditions.items():
        shares = f"{_percent(c.sequence_condition):>9}  {_percent(c.mean_sensitivity):>10}  {_percent(c.token_condition):>18}"
        lines.append(f"  {name:<9}  {c.num_rollouts:>8}  {shares}")
    lines += ["", "agreement with the exact local change", "             signs  by size  correlation"]
    for name, a in d.agreement.items():
        correlation = "-" if a.correlation is None else f"{a.correlation:.2f}"
        lines.append(f"  {name:<9}  {a.by_count:>5.0%}  {a.by_size:>7.0%}  {correlation:>11}")
    lines += [
        "",
        "parts of the change, nats per token per unit step",
        "                size       net",
        f"  local       {d.parts.local_size:>6.4f}  {d.parts.local:>+8.4f}",
        f"  visitation  {d.parts.visitation_size:>6.4f}  {d.parts.visitation:>+8.4f}   {d.parts.ratio:.1f} times the local one",
        "",
        "medians over rollouts, nats per token",
        "           log-likelihood  output-space baseline",
    ]
    for name, m in d.likelihood.items():
        lines.append(f"  {name:<7}  {_nats(m.log_likelihood):>14}  {_nats(m.baseline):>21}")
    lines += ["", "quadrants               share  contribution"]
    flat = d.quadrants.to_dict()
    for name in QUADRANTS:
        lines.append(
            f"  {name.replace('_', ', '):<20}  {flat[f'{name}_share']:>5.0%}  {flat[f'{name}_contribution']:>+12.4f}"
        )
    lines += ["", *d.recommendation.reasons]
    return "\n".join(lines if d.recommendation.control is None else [*lines, "", d.recommendation.to_yaml().rstrip()])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
