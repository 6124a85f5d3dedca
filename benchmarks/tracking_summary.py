"""What tracking.py's `summary` writes: how closely each method followed each curve, as tables and pictures."""

import json
import statistics

from tracking_cells import BAND, CURVES, RULES, SMOLLM2_RULES, Cells

# Half the width of a 95 % interval for the mean of n values, in standard errors (Student).
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def scored(row, curve=None):
    """Return a cell's row of the table; runs without control are measured against `curve`."""
    targets = row["target"] if curve is None else curve
    errors = [abs(entropy - target) for entropy, target in zip(row["entropy"], targets, strict=True)]
    jumps = settling(row["entropy"], targets)
    settled = [updates for updates in jumps if updates is not None]
    return {
        "mean_error": statistics.fmean(errors),
        "p95_error": sorted(errors)[int(0.95 * len(errors))],
        "in_band": sum(error <= BAND / 2 for error in errors) / len(errors),
        "settling": statistics.fmean(settled) if settled else None,
        "settled": len(settled) / len(jumps) if jumps else None,
        "kept": statistics.fmean(row["kept_tokens"]),
        "mean@32": row["mean@32"],
        "pass@32": row["pass@32"],
    }


def settling(entropies, targets):
    """Return the updates after each jump of the target until entropy is in the band three times in a row, or None."""
    jumps = [step for step in range(1, len(targets)) if abs(targets[step] - targets[step - 1]) > BAND]
    inside = [abs(entropy - target) <= BAND / 2 for entropy, target in zip(entropies, targets, strict=True)]
    return [
        next((step - jump for step in range(jump, end - 2) if all(inside[step : step + 3])), None)
        for jump, end in zip(jumps, [*jumps, len(targets)][1:], strict=True)
    ]


def interval(values):
    """Return mean and half-width of its 95 % interval over seeds."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return [round(statistics.fmean(values), 4), None if half is None else round(half, 4)]


def spread(values, scale=1, digits=3):
    """Return mean and 95 % interval over seeds as text."""
    mean, half = interval(values)
    return f"{scale * mean:.{digits}f}" + ("" if half is None else f" ± {scale * half:.{digits}f}")


def summarise(output):
    """Write summary.json, the tables as Markdown and the pictures, from the cells that are there."""
    summary = {}
    rows = Cells(output / "countdown.jsonl").rows
    if rows:
        summary["countdown"] = {"noise_floor": noise_floor(rows), "curves": tables(rows)}
        draw_countdown(rows, output / "countdown.png")
    rows = Cells(output / "smollm2.jsonl").rows
    if rows:
        summary["smollm2"] = {"noise_floor": smollm2_noise_floor(rows), "rules": smollm2_table(rows)}
        draw_smollm2(rows, output / "smollm2.png")
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (output / "tables.md").write_text(markdown(summary))


def noise_floor(rows):
    """Return how far the batch entropy of a frozen policy lies from its mean, over all its batches."""
    frozen = [row["entropy"] for row in rows if row["rule"] == "frozen"]
    deviations = [abs(value - statistics.fmean(entropies)) for entropies in frozen for value in entropies]
    return {
        "mean_error": round(statistics.fmean(deviations), 4),
        "p95_error": round(sorted(deviations)[int(0.95 * len(deviations))], 4),
        "in_band": round(sum(value <= BAND / 2 for value in deviations) / len(deviations), 3),
    }


def tables(rows):
    """Return, per curve and rule, mean and interval over seeds of each measure."""
    result = {}
    for curve in CURVES:
        targets = next((row["target"] for row in rows if row["curve"] == curve), None)
        result[curve] = {}
        for rule in RULES:
            mine = [row for row in rows if row["rule"] == rule and row["curve"] in (curve, None)]
            if not mine or targets is None:
                continue
            scores = [scored(row, targets if rule == "none" else None) for row in mine]
            result[curve][rule] = {"seeds": len(mine)} | {
                name: interval([score[name] for score in scores]) for name in scores[0]
            }
    return result


def smollm2_noise_floor(rows):
    """Return how far the batch entropy of the frozen model lies from its mean, as a share of it, over its batches."""
    frozen = [row["entropy"] for row in rows if row["rule"] == "frozen"]
    deviations = [abs(value / statistics.fmean(entropies) - 1) for entropies in frozen for value in entropies]
    return deviations and {
        "mean_distance": round(statistics.fmean(deviations), 3),
        "within_10_percent": round(statistics.fmean(deviation <= 0.1 for deviation in deviations), 3),
    }


def smollm2_table(rows):
    """Return, per rule and kind of weights, how entropy relates to its start after 10 steps, per seed."""
    table = {}
    for row in rows:
        if row["rule"] == "frozen":
            continue
        late = [entropy / target for entropy, target in zip(row["entropy"], row["target"], strict=True)][10:]
        measures = {
            "mean_ratio": statistics.fmean(late),
            "mean_distance": statistics.fmean(abs(ratio - 1) for ratio in late),
            "within_10_percent": statistics.fmean(abs(ratio - 1) <= 0.1 for ratio in late),
            "last_5_ratio": statistics.fmean(late[-5:]),
            "kept": statistics.fmean(row["kept"]),
            "last_5_reward": statistics.fmean(row["reward"][-5:]),
        }
        entry = table.setdefault(f"{row['rule']}, {row['weights']}", {})
        for name, value in measures.items():
            entry.setdefault(name, []).append(round(value, 3))
    return table


def markdown(summary):
    """Return the tables as Markdown."""

    def shown(value, digits=3, percent=False):
        if value is None:
            return "-"
        mean, half = value
        scale, digits = (100, 0) if percent else (1, digits)
        return f"{scale * mean:.{digits}f}" + ("" if half is None else f" ± {scale * half:.{digits}f}")

    text = ""
    if "countdown" in summary:
        floor = summary["countdown"]["noise_floor"]
        text += f"Noise floor: mean {floor['mean_error']}, 95th percentile {floor['p95_error']}, "
        text += f"in band {floor['in_band']:.0%}\n"
        text += overview(summary["countdown"]["curves"], shown)
        for curve, rules in summary["countdown"]["curves"].items():
            text += f"\n### {curve}\n\n| rule | mean error | 95th percentile | in band, % | updates to settle "
            text += "| tokens kept, % | mean@32 | pass@32 |\n|---|---|---|---|---|---|---|---|\n"
            for rule, row in rules.items():
                settled = row["settled"] and row["settled"][0]
                settling = shown(row["settling"], 1) if settled != 0 else "never"
                settling += f" ({settled:.0%} of jumps)" if settled and settled < 1 else ""
                cells = [shown(row["mean_error"], 4), shown(row["p95_error"], 3), shown(row["in_band"], percent=True)]
                cells += [settling, shown(row["kept"], percent=True)]
                text += f"| {rule} | {' | '.join([*cells, shown(row['mean@32']), shown(row['pass@32'])])} |\n"
    if "smollm2" in summary:
        text += "\n### SmolLM2-135M-Instruct, entropy over its target after 10 steps\n\n"
        if floor := summary["smollm2"]["noise_floor"]:
            text += f"Noise floor: mean distance {floor['mean_distance']:.1%}, "
            text += f"within 10 % {floor['within_10_percent']:.0%}\n\n"
        text += "| rule, weights | mean, per seed | mean distance from it, % | steps within 10 %, % "
        text += "| mean of the last 5 steps | rollouts kept, % | reward of the last 5 steps |\n"
        text += "|---|---|---|---|---|---|---|\n"
        for name, row in summary["smollm2"]["rules"].items():
            cells = (
                ", ".join(
                    f"{100 * v:.0f}" if key in ("mean_distance", "within_10_percent", "kept") else f"{v:.2f}"
                    for v in row[key]
                )
                for key in row
            )
            text += f"| {name} | {' | '.join(cells)} |\n"
    return text


def overview(curves, shown):
    """Return a table of rules by curves: the mean distance, and what is held, kept and scored over all curves."""
    text = "\n### Mean distance from the curve, in thousandths of a nat\n\n"
    text += f"| rule | {' | '.join(curves)} | in band, % | tokens kept, % |\n"
    text += "|---|" + "---|" * (len(curves) + 2) + "\n"
    for rule in RULES:
        rows = [rules[rule] for rules in curves.values() if rule in rules]
        if not rows:
            continue
        cells = [
            shown([value and 1000 * value for value in rules[rule]["mean_error"]], 0) if rule in rules else "-"
            for rules in curves.values()
        ]
        means = [100 * statistics.fmean(row[name][0] for row in rows) for name in ("in_band", "kept")]
        text += f"| `{rule}` | {' | '.join(cells)} | {' | '.join(f'{mean:.0f}' for mean in means)} |\n"
    return text


def draw_countdown(rows, path):
    """Draw entropy of seed 0 under a few rules over each curve."""
    from matplotlib.figure import Figure

    shown = {"none": "0.6", "advantage": "C3", "predicted": "C1", "token": "C0"}
    figure = Figure(figsize=(12, 6), layout="constrained")
    for axes, curve in zip(figure.subplots(2, 3, sharex=True, sharey=True).flat, CURVES, strict=True):
        mine = [row for row in rows if row["seed"] == 0 and row["curve"] in (curve, None)]
        targets = next((row["target"] for row in mine if "target" in row and row["curve"] == curve), None)
        if targets is None:
            continue
        steps = range(1, len(targets) + 1)
        axes.fill_between(
            steps, [t - BAND / 2 for t in targets], [t + BAND / 2 for t in targets], color="C0", alpha=0.15
        )
        axes.plot(steps, targets, color="black", linestyle="--", linewidth=1, label="target, band")
        for rule, color in shown.items():
            for row in mine:
                if row["rule"] == rule:
                    axes.plot(steps, row["entropy"], color=color, linewidth=1.2, label=rule)
        axes.set_title(curve)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("step")
    figure.supylabel("entropy, nats per token")
    figure.savefig(path, dpi=110)


def draw_smollm2(rows, path):
    """Draw entropy over its target for every rule, full weights and LoRA side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, weights in zip(figure.subplots(1, 2, sharey=True), ("full", "lora"), strict=True):
        axes.axhspan(0.9, 1.1, color="C0", alpha=0.1)
        for color, rule in enumerate(SMOLLM2_RULES):
            for row in (row for row in rows if (row["rule"], row["weights"]) == (rule, weights)):
                ratios = [entropy / target for entropy, target in zip(row["entropy"], row["target"], strict=True)]
                axes.plot(ratios, color=f"C{color}", linewidth=1.2, label=rule if row["seed"] == 0 else None)
        axes.set_title(f"SmolLM2-135M-Instruct, {weights}")
        axes.set_xlabel("step")
    figure.axes[0].set_ylabel("entropy over its target")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
