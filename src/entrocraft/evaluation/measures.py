"""Measures of a model from its recorded samples: one value per problem for each."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec

from entrocraft.evaluation.diversity import num_distinct, self_bleu
from entrocraft.evaluation.samples import Sample, by_problem
from entrocraft.evaluation.scores import correctness, majority_at_k, paired_interval
from entrocraft.tasks.base import CORRECT


def correct_by_problem(samples: Sequence[Sample]) -> list[list[bool]]:
    """Return whether each answer is right, problem after problem."""
    return [[sample.score > CORRECT for sample in group] for group in by_problem(samples)]


def measures_of(samples: Sequence[Sample], ks: Sequence[int]) -> dict[str, list[float]]:
    """Return each measure, one value per problem in their order.

    - `mean@n`, `pass@k`, `majority@k`: chances of a right answer, one that scores more than 0.5;
    - `score`: the mean score, where scores are not just 0 and 1;
    - `distinct@n`: different answers among the n samples; `self-bleu`: how alike their texts are, 0 to 1,
      if sacrebleu is installed;
    - `length`: tokens; `truncated`: share without an end;
    - `entropy`: in nats per token, of the policy at the sampling temperature, if it was seen.

    Args:
        samples: Samples of one model, equally many for each problem.
        ks: The k to report, each at most n.

    Returns:
        Measures by name, each a list over the problems in their order.
    """
    groups = list(by_problem(samples))
    n = len(groups[0])
    correct_PN = correct_by_problem(samples)
    answers_PN = [[sample.answer for sample in group] for group in groups]
    values = correctness(correct_PN, ks)
    for k in ks:
        if k > 1:
            values[f"majority@{k}"] = [
                majority_at_k(answers, correct, k) for answers, correct in zip(answers_PN, correct_PN, strict=True)
            ]
    if any(sample.score not in (0.0, 1.0) for sample in samples):
        values["score"] = [_mean([sample.score for sample in group]) for group in groups]
    if n > 1:
        values[f"distinct@{n}"] = [float(num_distinct(answers)) for answers in answers_PN]
        if find_spec("sacrebleu") is None:
            warnings.warn("self-bleu is left out: it needs sacrebleu, pip install 'entrocraft[eval]'", stacklevel=2)
        else:
            values["self-bleu"] = [self_bleu([sample.completion for sample in group]) for group in groups]
    values["length"] = [_mean([sample.num_tokens for sample in group]) for group in groups]
    values["truncated"] = [_mean([sample.truncated for sample in group]) for group in groups]
    # Sum of token entropies over number of tokens, within each problem: nats per token, long answers weighing more.
    if all(sample.entropy is not None for sample in samples):
        values["entropy"] = [
            sum(sample.entropy or 0.0 for sample in group) / max(sum(sample.num_tokens for sample in group), 1)
            for group in groups
        ]
    return values


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def differences(first: dict[str, list[float]], second: dict[str, list[float]]) -> dict[str, float]:
    """Return by how much `second` exceeds `first` in each measure that both have, with 95 % intervals.

    Args:
        first: Measures of one model, from `measures_of`.
        second: Measures of another model on the same problems, in the same order.

    Returns:
        Mean differences by name, and as `.../low` and `.../high` their intervals, paired by problem.
    """
    metrics = {}
    for name in (name for name in first if name in second):
        metrics[name] = _mean(second[name]) - _mean(first[name])
        metrics[f"{name}/low"], metrics[f"{name}/high"] = paired_interval(first[name], second[name])
    return metrics
