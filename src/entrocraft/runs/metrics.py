"""The columns of `metrics.jsonl`: one table that writers, reports, pictures and `docs/metrics.md` read.

A line is one optimizer step or one evaluation. To log something new, add a row; a test refuses names without one.
No number stands in a file twice: what follows from other columns of the same line is marked by `follows_from`, is
told to trackers only, and is left out of the file. Two columns stay although they follow: `direction`, and of an
evaluation `pass@1`, which is what it was asked for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

QUADRANTS = ("positive_confident", "positive_rare", "negative_confident", "negative_rare")
"""The sign of the advantage by the kind of token; see `dynamics.quadrants`."""

EVALUATION = "eval/"
"""Columns of evaluations begin with this, and no others."""
TRACKERS = "entrocraft/"
"""Our columns begin with this where a framework's own trackers show them beside others, and in the file without."""

NATS = "nats per token"
SHARE = "share"
FLAG = "1 or 0"
COUNT = "count"

RUN = "the run"
CONTROLLER = "the controller"
METHOD = "the method"
ENGINE = "the engine"
GRADING = "grading"
VERL = "verl's engine, for its trackers"
TRL = "TRL"


@dataclass(frozen=True)
class Column:
    """One column of the metrics, or several of one kind: `<...>` in the name stands for what varies."""

    name: str
    unit: str
    """What its numbers are measured in; empty if they have no unit."""
    meaning: str
    """What it says, as the page of documentation does."""
    writer: str
    """The part of the program that knows it."""
    required: bool = False
    """True if every line of an optimizer step has it; it may be null."""
    follows_from: str = ""
    """How it is computed from other columns of the same line, if it is left out of the file for that."""

    @property
    def label(self) -> str:
        """The name with its unit, as axes and headings show it."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def _table(*columns: Column) -> Mapping[str, Column]:
    return MappingProxyType({column.name: column for column in columns})


COLUMNS: Mapping[str, Column] = _table(
    # What every step has, with or without control.
    Column("step", "", "The optimizer step, counted from 1; of an evaluation, the steps made before it.", RUN, True),
    Column(
        "entropy",
        NATS,
        "Entropy of the policy on the step's rollouts, before the update. Without control it is TRL's own. TRL's is "
        "not written beside ours: it covers the kept rollouts only.",
        CONTROLLER,
        True,
    ),
    Column("target", NATS, "Entropy that the curve asks for at this step; null without control.", CONTROLLER, True),
    Column("lower", NATS, "Lower edge of the band around the target; null without control.", CONTROLLER, True),
    Column("upper", NATS, "Upper edge of the band; null without control.", CONTROLLER, True),
    Column(
        "direction",
        "1, 0 or -1",
        "Side of the band that entropy is on: 1 above, -1 below, 0 inside. A mean where one step has several "
        "decisions.",
        CONTROLLER,
        True,
    ),
    Column("kept_fraction", SHARE, "Rollouts that the update uses, of all.", CONTROLLER, True),
    Column(
        "reward", "", "Mean reward of the rollouts, in its own unit; null where no new ones were sampled.", TRL, True
    ),
    Column("tokens", "tokens", "Completion tokens sampled for this step; null where none were.", RUN, True),
    Column("seconds", "seconds", "Wall time since the line before.", RUN, True),
    # What the controller knows of its decision.
    Column(
        "entropy_stderr", NATS, "Standard error of `entropy` as a reading of the policy's, over prompts.", CONTROLLER
    ),
    Column("tracking_error", NATS, "How far entropy is from its target.", CONTROLLER, follows_from="entropy - target"),
    Column("kept_token_fraction", SHARE, "Tokens that the update uses, of `num_tokens`.", CONTROLLER),
    Column(
        "num_tokens",
        "tokens",
        "Tokens that the loss counts in the batch decided on: less than `tokens` where truncated answers or the output "
        "of tools are masked, and there on steps that use rollouts again, where `tokens` is null.",
        CONTROLLER,
    ),
    Column("out_of_band_batches", COUNT, "Decisions so far at which entropy was out of the band.", CONTROLLER),
    Column("empty_batches", COUNT, "Decisions so far that left nothing to learn from.", CONTROLLER),
    Column("uncounted_batches", COUNT, "Batches so far of which the loss counted no token.", CONTROLLER),
    Column(
        "kept_positive_fraction",
        SHARE,
        "Share of the tokens of rollouts with a positive advantage that the update uses; absent where there are none.",
        CONTROLLER,
    ),
    Column("kept_negative_fraction", SHARE, "The same for rollouts with a negative advantage.", CONTROLLER),
    Column(
        "quadrants/<quadrant>",
        f"{NATS} per unit step",
        "Contribution of one quadrant to the predicted local change of entropy, per token of the whole batch. A "
        "quadrant is the sign of the advantage by whether the token is confident or rare: `"
        + "`, `".join(QUADRANTS)
        + "`.",
        CONTROLLER,
    ),
    Column(
        "kept_quadrants/<quadrant>",
        f"{NATS} per unit step",
        "The same contribution, of the tokens that the update uses and per token of what its loss is averaged over.",
        CONTROLLER,
    ),
    Column("steering_accepted", COUNT, "Curves so far that a person wrote mid-run and the run follows.", CONTROLLER),
    Column("steering_refused", COUNT, "Curves so far that a person wrote mid-run and that cannot be used.", CONTROLLER),
    Column("schedule_progress", SHARE, "How much of an adaptive curve is done.", CONTROLLER),
    Column("schedule_moving", FLAG, "Whether an adaptive curve moves on, as the reward has stalled.", CONTROLLER),
    Column(
        "reward_trend", "standard errors", "Slope of the last rewards, which an adaptive curve waits for.", CONTROLLER
    ),
    Column(
        "guard_<symptom>",
        COUNT,
        "Decisions so far at which the guard saw a symptom: `out_of_reach`, `small_batch`, `scarce_negatives` or "
        "`gradient_norm`.",
        CONTROLLER,
    ),
    Column("guard_offset", NATS, "What the guard has added to the target to ease it.", CONTROLLER),
    # What single methods add.
    Column("wanted_effect", "nats per decision", "Change of entropy that the plan asks of this update.", METHOD),
    Column("saturated", FLAG, "Whether the plan wants more than leaving out can do.", METHOD),
    Column(
        "filtered_entropy",
        NATS,
        "Entropy as the method estimates it, with the noise of the measurement taken out.",
        METHOD,
    ),
    Column("drift", "nats per decision", "What entropy changes by when nothing that is predicted happens.", METHOD),
    Column(
        "process_noise_scale",
        "",
        "How far measurements of entropy are from what the method expected, squared, over what is usual: 1 on average.",
        METHOD,
    ),
    Column(
        "gain_<term>",
        "nats per unit of effect",
        "What one unit of a term's effect moves entropy by, as learnt.",
        METHOD,
    ),
    Column(
        "effect_<term>",
        "units of its usual size",
        "Effect of a term of the prediction (0 the local change, 1 visitation) that is under way in the optimizer's "
        "memory.",
        METHOD,
    ),
    Column(
        "fallback_<stage>",
        COUNT,
        "Decisions so far at which no rollout moved entropy back and the fallback acted: `smaller_step`, "
        "`fewer_rollouts`, `entropy_bonus` or `skip`. There from the first such decision on.",
        METHOD,
    ),
    Column(
        "alpha", "", "EntroPIC: balance between successes (weighed by 1 + alpha) and failures (by 1 - alpha).", METHOD
    ),
    Column("integral", "nats decisions", "EntroPIC: sum of entropy minus target over the decisions so far.", METHOD),
    Column("confident_fraction", SHARE, "EntroPIC as released: tokens that its balance acts on, of all.", METHOD),
    Column("eligible_fraction", SHARE, "Clip-Cov: tokens that may be left out, of all.", METHOD),
    Column(
        "strength",
        "",
        "Rivals with one strength (zeta, weight, threshold, spread, gamma, tau, k): that of this update. "
        "Of flexible_clip: the share of its upper threshold, less that of its lower one.",
        METHOD,
    ),
    Column("entropy_coef", "", "Entropy bonus: its coefficient in the loss of this update.", METHOD),
    Column("learning_rate_factor", "", "Methods that turn it: factor on this update's learning rate.", METHOD),
    Column(
        "temperature",
        "",
        "Methods that turn it: what the step's rollouts were sampled at, and entropy is measured at.",
        METHOD,
    ),
    # What engines and tasks know.
    Column("skipped", FLAG, "Whether the step left the weights as they were, as nothing was kept.", ENGINE),
    Column("late_graders", COUNT, "Calls of graders in this step that took too long or raised, and scored 0.", GRADING),
    Column("trained_rows", "rows", "Rows in the update's mini-batches, those that only fill them up included.", VERL),
    Column("filler_rows", "rows", "Rows that fill mini-batches up and count for nothing.", VERL),
    # What TRL logs under its own names, and is kept.
    Column("loss", "", "The loss that TRL reports.", TRL),
    Column("grad_norm", "", "Norm of the gradient before it is clipped.", TRL),
    Column("learning_rate", "", "The optimizer's learning rate.", TRL),
    Column("kl", NATS, "Distance to the reference policy, if the loss has a term for it.", TRL),
    Column("reward_std", "", "Standard deviation of rewards within a group, on average.", TRL),
    Column("frac_reward_zero_std", SHARE, "Groups whose rewards are all equal, of all: they teach nothing.", TRL),
    Column("completions/mean_length", "tokens", "Mean length of a completion.", TRL),
    Column("completions/clipped_ratio", SHARE, "Completions that were cut before they ended, of all.", TRL),
    # Evaluations, on lines of their own.
    Column(
        f"{EVALUATION}<measure>",
        "chance",
        "A score on held-out problems: `mean@n`, how often one of n samples is right, or `pass@k`, how often at least "
        "one of k is. `pass@1` is `mean@n` by definition.",
        RUN,
    ),
    Column(
        f"{EVALUATION}<measure>/<edge>",
        "chance",
        "The ends, `low` and `high`, of the measure's 95 % interval over problems.",
        RUN,
    ),
)
"""Every column, in the order of the page."""

OLD_NAMES: Mapping[str, str] = MappingProxyType({"restlessness": "process_noise_scale"})
"""What columns were called in files of earlier versions."""

REQUIRED = tuple(name for name, column in COLUMNS.items() if column.required)
"""Columns of every line of an optimizer step."""

_VARYING = {
    "quadrant": "|".join(QUADRANTS),
    "symptom": "[a-z_]+",
    "stage": "[a-z_]+",
    "term": "[0-9]+",
    "measure": "[^/]+",
    "edge": "low|high",
}
"""What may stand for each `<...>` in a name."""


def _pattern(name: str) -> re.Pattern[str]:
    """Return what the names of a column look like, with something in place of each `<...>`."""
    literal_and_varying = re.split(r"<(\w+)>", name)  # in turns
    return re.compile(
        "".join(f"(?:{_VARYING[part]})" if i % 2 else re.escape(part) for i, part in enumerate(literal_and_varying))
    )


_PATTERNS = [(_pattern(name), column) for name, column in COLUMNS.items() if "<" in name]


def column_of(name: str) -> Column | None:
    """Return the column that `name` belongs to, or None if there is none.

    Args:
        name: As it stands in a file, or in an earlier version's.

    Example:
        >>> column_of("gain_0").name, column_of("eval/pass@8/low").name, column_of("gain")
        ('gain_<term>', 'eval/<measure>/<edge>', None)
    """
    name = OLD_NAMES.get(name, name)
    if name in COLUMNS:
        return COLUMNS[name]
    return next((column for pattern, column in _PATTERNS if pattern.fullmatch(name)), None)


def quadrant_columns(*, kept: bool) -> dict[str, str]:
    """Return the column of each quadrant's contribution, in the whole batch or in what is kept.

    Example:
        >>> quadrant_columns(kept=True)["positive_rare"]
        'kept_quadrants/positive_rare'
    """
    return {name: f"{'kept_' if kept else ''}quadrants/{name}" for name in QUADRANTS}


def measure_of(name: str) -> str | None:
    """Return the measure whose score a column holds, or None if it holds none.

    Example:
        >>> measure_of("eval/pass@8"), measure_of("eval/pass@8/low"), measure_of("reward")
        ('pass@8', None, None)
    """
    column = column_of(name)
    return name.removeprefix(EVALUATION) if column is COLUMNS[f"{EVALUATION}<measure>"] else None
