"""A diagnosis in words and tables."""

from typing import TYPE_CHECKING

from entrocraft.runs.metrics import QUADRANTS

if TYPE_CHECKING:  # which loads torch
    from entrocraft.analysis.diagnosis import Diagnosis


def describe(diagnosis: "Diagnosis") -> str:
    """Return the diagnosis in words and tables."""
    d = diagnosis
    floors = ", ".join(f"{num_prompts}: {floor:.4f}" for num_prompts, floor in d.floors.items())
    chances = ", ".join(f"{k}: {chance:.3f}" for k, chance in d.prospects.pass_at.items())
    lines = [
        f"{d.num_prompts} prompts x {d.num_rollouts} rollouts, {d.num_tokens} tokens",
        f"  entropy             {d.entropy:.4f} nats per token, "
        f"standard error {d.entropy_stderr:.4f} (the noise floor)",
        f"  floor by prompts    {floors}",
        f"  mean score          {d.mean_score:.3f}; groups with mixed scores {d.mixed_groups:.0%}",
        f"  pass@k              {chances}",
        f"  prompts             never right {d.prospects.all_wrong:.0%}, always right {d.prospects.all_right:.0%}",
        f"  right answers       {_percent(d.prospects.different)} of them differ where a prompt has several; "
        f"no answer to be read in {d.prospects.unread:.0%}",
        f"  mean length         {d.mean_length:.1f} tokens; truncated {d.truncated:.0%}",
        "",
        "share for which reinforcing lowers entropy",
        "             rollouts  Theorem 2  mean S > 0  Theorem 1 (tokens)",
    ]
    for name, c in d.conditions.items():
        signs = f"{_percent(c.sequence_condition):>9}  {_percent(c.mean_sensitivity):>10}"
        lines.append(f"  {name:<9}  {c.num_rollouts:>8}  {signs}  {_percent(c.token_condition):>18}")
    lines += ["", "agreement with the exact local change", "             signs  by size  correlation"]
    for name, a in d.agreement.items():
        correlation = "-" if a.correlation is None else f"{a.correlation:.2f}"
        lines.append(f"  {name:<9}  {a.by_count:>5.0%}  {a.by_size:>7.0%}  {correlation:>11}")
    lines += [
        "",
        "parts of the change, nats per token per unit step",
        "                size       net",
        f"  local       {d.parts.local_size:>6.4f}  {d.parts.local:>+8.4f}",
        f"  visitation  {d.parts.visitation_size:>6.4f}  {d.parts.visitation:>+8.4f}   "
        f"{d.parts.ratio:.1f} times the local one",
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
    lines += ["", d.prospects.outlook, *d.recommendation.reasons]
    return "\n".join(lines if d.recommendation.control is None else [*lines, "", d.recommendation.to_yaml().rstrip()])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
