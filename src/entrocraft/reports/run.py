"""The report of a run, in words, and its picture."""

import statistics
import warnings
from typing import Any

from entrocraft.config import parse_config
from entrocraft.errors import MissingDependencyError
from entrocraft.runs import RunDirectory
from entrocraft.runs.metrics import NATS, measure_of
from entrocraft.runs.tracking import TrackingSummary, summarise_tracking


def write_report(run: RunDirectory) -> None:
    """Write `report.md` and `curve.png` from what the run has recorded so far."""
    lines = run.step_metrics()
    if not lines:
        return
    sections = [
        f"# {run.path.name}",
        _what_was_run(run, lines),
        entropy_section(lines),
        scores_section(run.eval_metrics()),
    ]
    try:
        from entrocraft.reports.plots.runs import draw_runs

        if any(line["entropy"] is not None for line in lines):
            draw_runs([run], run.curve_file)
            sections.append(f"![entropy and reward]({run.curve_file.name})")
    except MissingDependencyError as error:
        warnings.warn(f"no {run.curve_file.name}: {error}", stacklevel=2)
    run.write(run.report_file, "\n\n".join(section for section in sections if section) + "\n")


def _what_was_run(run: RunDirectory, lines: list[dict[str, Any]]) -> str:
    """Return what was trained on what, how far it came and how long that took."""
    config = parse_config(run.config(), run.config_file)
    done, total = lines[-1]["step"], config.train.steps
    seconds = sum(line["seconds"] or 0.0 for line in lines)
    state = "It is complete." if done >= total else f"It stopped there, {total - done} steps before its end."
    return (
        f"{config.train.algorithm.upper()} on `{config.task.name}` from `{config.model}`, seed "
        f"{config.seed}: {done} of {total} steps in {seconds / 60:.1f} minutes. {state}"
    )


def entropy_section(lines: list[dict[str, Any]]) -> str:
    """Return how the curve was followed, as a section of Markdown; nothing if there are no steps."""
    lines = [line for line in lines if line["entropy"] is not None]
    if not lines:
        return ""
    first, last = lines[0]["entropy"], lines[-1]["entropy"]
    share = f" ({last / first:.0%} of its start)" if first > 0 else ""
    text = f"Entropy went from {first:.3f} to {last:.3f} {NATS}{share}."
    tracking = summarise_tracking(lines)
    if tracking is None:
        return f"## Entropy\n\nNo curve was asked for. {text}"
    tokens = tracking.kept_token_fraction
    kept = f"{tracking.kept_fraction:.0%}" + ("" if tokens is None else f", {tokens:.0%}")
    standard_error = ""
    if tracking.standard_error is not None:
        standard_error = f"| standard error of one step's entropy | {tracking.standard_error:.4f} nats |\n"
    factors = [factor for line in lines if (factor := line.get("learning_rate_factor")) is not None]
    rate = ""
    if factors:
        mean, least, most = statistics.fmean(factors), min(factors), max(factors)
        rate = f"| factor on the learning rate, all steps | {mean:.2f} ({least:.2f} to {most:.2f}) |\n"
    skipped = sum((line.get("skipped") or 0.0) > 0 for line in lines)
    return (
        f"## Entropy\n\n{_verdict(tracking, lines)} {text}\n\n"
        f"| over the last {tracking.num_steps} steps | |\n|---|---|\n"
        f"| mean distance from the target | {tracking.mean_error:.4f} nats |\n"
        f"| 95th percentile of it | {tracking.p95_error:.4f} nats |\n"
        f"{standard_error}"
        f"| steps inside the band | {tracking.in_band:.0%} |\n"
        f"| rollouts kept{'' if tokens is None else ', tokens kept'}, all steps | {kept} |\n"
        f"{rate}"
        f"| steps without an update, all rollouts rejected | {skipped} |"
    )


def _verdict(tracking: TrackingSummary, lines: list[dict[str, Any]]) -> str:
    """Return whether the curve was followed, as surely as one step's reading of the entropy allows to say."""
    steered = [line for line in lines if all(line[name] is not None for name in ("target", "lower", "upper"))]
    half_width = max((steered[-1]["upper"] - steered[-1]["lower"]) / 2, 0.01)
    if tracking.mean_error <= half_width:
        return "The curve was followed: on average entropy stayed within the band."
    noise = tracking.standard_error or 0.0
    if tracking.mean_error <= noise:
        return "The curve was followed as closely as steps of this size can tell, which is not within the band."
    drift = sum(line["entropy"] - line["target"] for line in steered[-tracking.num_steps :])
    # Learning is most of what lowers entropy.
    side, rate = ("above", "higher") if drift > 0 else ("below", "lower")
    if tracking.mean_error <= 2 * max(half_width, noise):
        return f"The curve was followed loosely: entropy ran {side} it, on average outside the band."
    return (
        f"The curve was not followed: entropy ran {side} it. Try another method (`entrocraft diagnose` says which "
        f"fits), a {rate} learning rate, more rollouts per step, or a curve nearer to where entropy starts."
    )


def scores_section(evaluations: list[dict[str, Any]]) -> str:
    """Return held-out scores as a section of Markdown; nothing if there are none."""
    if not evaluations:
        return ""
    measures = {measure: name for line in evaluations for name in line if (measure := measure_of(name)) is not None}
    rows = [
        f"| {line['step']} | " + " | ".join(_with_interval(line, column) for column in measures.values()) + " |"
        for line in evaluations
    ]
    header = f"| step | {' | '.join(measures)} |\n|{'---|' * (len(measures) + 1)}"
    return "## Held-out scores\n\nWith 95 % intervals over problems.\n\n" + "\n".join([header, *rows])


def _with_interval(line: dict[str, Any], column: str) -> str:
    """Return a score with its interval; a dash for what was not measured."""
    score, low, high = (line.get(name) for name in (column, f"{column}/low", f"{column}/high"))
    if score is None:
        return "-"
    return f"{score:.3f}" if low is None or high is None else f"{score:.3f} [{low:.3f}, {high:.3f}]"
