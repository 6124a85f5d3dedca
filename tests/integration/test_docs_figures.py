"""Figures that README and docs give, made anew from the raw numbers in results/ and held against the sentence."""

import json
import re
import statistics
from pathlib import Path

import pytest

from entrocraft.study.rows import last_entropy, last_quarter

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def read(path):
    return json.loads((RESULTS / path).read_text(encoding="utf-8"))


def read_lines(path):
    return [json.loads(line) for line in (RESULTS / path).read_text(encoding="utf-8").splitlines()]


def distance(entropy, target, after=0.0):
    """Return the mean distance of entropy from its target, from this share of the steps on."""
    pairs = list(zip(entropy, target, strict=True))[int(after * len(entropy)) :]
    return statistics.mean(abs(value - wanted) for value, wanted in pairs)


def table_row(path, start, cells):
    """Return the cells of the row of a table of Markdown that begins so and has so many of them."""
    lines = (RESULTS / path).read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(start) and line.count("|") == cells + 1]
    return row.strip("|").split("|")


def percent(share):
    return f"{share:.0%}".replace("%", " %")


def demo():
    runs = [read_lines(f"demo/{name}/metrics.jsonl") for name in ("grpo", "entrocraft")]
    grpo, curve = ([line for line in run if "entropy" in line] for run in runs)
    last, last_with = ([line for line in run if "eval/mean@32" in line][-1] for run in runs)
    fell = statistics.mean(line["entropy"] for line in grpo[-10:]) / grpo[0]["entropy"]
    away = distance(*([line[key] for line in curve] for key in ("entropy", "target")), after=0.2)
    yield "README.md", f"GRPO's entropy falls to {fell:.0%} of its start (last ten steps)".replace("%", " %")
    yield "README.md", f"with the curve it stays {away:.3f} nats from its target on average"
    right, any_right = ((last_with[f"eval/{name}"], last[f"eval/{name}"]) for name in ("mean@32", "pass@32"))
    mean = f"the share of right answers is {percent(right[0])} with the curve and {percent(right[1])} without"
    breadth = (
        f"at least one of 32 is right for {percent(any_right[0])} of the problems with it and {percent(any_right[1])}"
    )
    yield "README.md", f"{mean}, but {breadth} without"
    others = (read_lines(f"demo/seed-1/{name}/metrics.jsonl") for name in ("entrocraft", "grpo"))
    other = [[line for line in run if "eval/mean@32" in line][-1] for run in others]
    means, breadths = ([percent(run[f"eval/{name}"]) for run in other] for name in ("mean@32", "pass@32"))
    yield "README.md", f"With seed 1 it is {' and '.join(means)}, and {' and '.join(breadths)}"


def tracking():
    summary = read("tracking/summary.json")["countdown"]
    curves = ("constant", "linear", "cosine", "steps", "sine", "drawn")
    for method in ("none", "advantage", "predicted", "predicted + visitation", "probabilistic", "budget", "token"):
        rows = [summary["curves"][curve][method] for curve in curves]
        cells = [" ± ".join(f"{1000 * value:.0f}" for value in row["mean_error"]) for row in rows]
        yield "docs/control.md", f"| `{method}` | {' | '.join(cells)} |"
    yield "README.md", f"reading the entropy is off by {summary['noise_floor']['mean_error']:.3f} by itself"
    loose = [summary["curves"][curve]["advantage"]["mean_error"][0] for curve in curves]
    yield "README.md", f"the distance is {min(loose):.3f} to {max(loose):.3f} on this model"
    errors = [summary["curves"][curve]["token"]["mean_error"][0] for curve in curves]
    yield "README.md", f"stays {min(errors):.3f} to {max(errors):.3f} nats from its target on average"
    yield "docs/results.md", f"entropy stays {min(errors):.3f} to {max(errors):.3f} nats from its target on average"
    held, free = (summary["curves"]["constant"][method] for method in ("token", "none"))
    held_pass, free_pass = (f"{row['pass@32'][0]:.2f} ± {row['pass@32'][1]:.2f}" for row in (held, free))
    yield "README.md", f"the policy ends with pass@32 {held_pass}, without control with {free_pass}"
    held_mean, free_mean = (f"{row['mean@32'][0]:.2f} ± {row['mean@32'][1]:.2f}" for row in (held, free))
    yield "README.md", f"its mean@32 is lower, {held_mean} to {free_mean}"


def long_runs():
    runs = read_lines("saturation/runs.jsonl")
    curves = [run for run in runs if run["method"] == "curve"]
    away = statistics.mean(distance(run["entropy"], run["target"]) for run in curves)
    yield "README.md", f"With the curve, entropy stays {away:.3f} nats from its target"
    above = table_row("saturation/table.md", "| curve | 0.6 |", cells=8)
    cells = [cell.strip().replace("-", MINUS) for cell in above]
    yield "README.md", f"Over the run pass@32 is then higher by {cells[7]} and pass@8 by {cells[6]}"
    yield "README.md", f"at the same mean@32 ({cells[5]})"
    yield "README.md", f"at the end it is {cells[4]}"
    yield (
        "docs/results.md",
        f"Over the run pass@32 is higher with the curve by {cells[7]}, at the same mean@32 ({cells[5]})",
    )
    yield "docs/results.md", f"At the end the lead in pass@32 is {cells[4]}"


def on_verl():
    figures = [value["mean_error"] for key, value in read("verl/tracking.json")["figures"].items() if "seed" in key]
    sentence = f"entropy stays {min(figures):.4f} to {max(figures):.4f} nats from its target on average"
    yield "docs/results.md", sentence


def costs():
    cases = read("benchmarks/step_time.json")["cases"]
    for size, case in (
        (size, case)
        for case in ("noted while sampling", "TRL makes the pass", "we add a pass")
        for size in ("embedded", "large")
    ):
        row = cases[f"{size}, {case}"]
        cells = [f"+{row['overhead_of_keeping_all']:.0%}".replace("%", " %")]
        cells += [f"{TIMES} {row[key]:.2f}" for key in ("update_time_at_half_kept", "step_time_at_half_kept")]
        yield "docs/results.md", f"| {'1.2' if size == 'embedded' else '27'} M | {' | '.join(cells)} |"
    token = [row["cost_of_token"] for row in cases.values()]
    yield (
        "docs/results.md",
        f"({MINUS}{-max(token):.0%} to {MINUS}{-min(token):.0%} of a step)".replace("%", " %", 2).replace(
            " % to", " to"
        ),
    )
    ratios = read("benchmarks/bare_loop.json")["of the bare loop"]
    yield (
        "docs/results.md",
        f"TRL takes {ratios['TRL']:.2f} times as long, and with a curve {ratios['entrocraft']:.2f} times",
    )
    whole = [row["cost_of_aligned"] for row in cases.values()]
    yield (
        "docs/results.md",
        f"A prediction by `whole_model` costs {100 * min(whole):.0f} to {100 * max(whole):.0f} % of a step",
    )
    ratios = {
        name: (row["time_ratio"], row["memory_ratio"])
        for name, row in read("benchmarks/vocabulary.json")["table"].items()
    }
    entropy, exact, estimate = (
        "{:.1f} and {:.1f}".format(*ratios[name])
        for name in ("entropy", "entropy and exact change", "log-probs, entropy and estimated change")
    )
    first = entropy.replace(" and", " times its time and")
    yield "docs/results.md", f"entropy from logits takes {first} times its memory"
    yield (
        "docs/results.md",
        f"with the exact predicted change {exact}; log-probabilities, entropy and the estimated change {estimate}",
    )


def the_page():
    speed, load, slow = (read(f"app/{name}.json") for name in ("browser", "load", "slowdown"))
    low, high = slow["ratio_95_percent"]
    yield (
        "docs/page.md",
        f"| {slow['ratio']:.2f} (95 % interval {low:.2f} to {high:.2f}; {slow['steps'] // 2} steps each",
    )
    paint = {key: value / 1000 for key, value in speed["first_paint_ms"].items()}
    yield "docs/page.md", f"| {paint['median']:.2f} s ({paint['least']:.2f} to {paint['most']:.2f} of seven openings) |"
    update = speed["update_ms"]
    yield "docs/page.md", f"| {update['median']} ms (at most {update['most']:.0f} ms of forty) |"
    yield "docs/page.md", f"| {load['load']['server_megabytes_most']:.0f} MB |"


def trust():
    table = read("trust/faults.json")["table"]
    tried, survived = table["all"]["tried"], table["all"]["survived"]
    assert tried == survived
    yield "docs/results.md", f"{tried} trainings were killed, starved, damaged or misled"
    for name, row in table.items():
        yield "docs/faults.md", f"| {name} | {' | '.join(str(value) for value in row.values())} |"
    for row in read("trust/fuzz.json")["rows"]:
        counts = [
            f"{row[key]:,}" for key in ("tried", "accepted", "refused", "traceback", "unbounded", "silently_wrong")
        ]
        yield "docs/faults.md", f"| {row['target'].replace('_', ' ')} | {' | '.join(counts)} |"


def found():
    page = "docs/found.md"
    yield page, next(claim for _, claim in demo()).removesuffix(" (last ten steps)")
    summary = read("tracking/summary.json")["countdown"]
    for method, sentence in (
        ("token", "stays {} to {} nats from six curves"),
        ("advantage", "the distance is {} to {},"),
    ):
        errors = [curve[method]["mean_error"][0] for curve in summary["curves"].values()]
        yield page, sentence.format(f"{min(errors):.3f}", f"{max(errors):.3f}")
    yield page, f"reading the entropy is off by {summary['noise_floor']['mean_error']:.3f} by itself"
    grpo = [run for run in read_lines("saturation/runs.jsonl") if run["method"] == "grpo"]
    began = statistics.mean(run["entropy"][0] for run in grpo)
    row = [cell.strip() for cell in table_row("saturation/table.md", "| grpo | 0.6 |", cells=12)]
    yield (
        page,
        f"it falls from {began:.2f} nats per token to {row[9]}, and pass@32 with it, from {row[7][:5]} to {row[8]}",
    )
    above = [cell.strip() for cell in table_row("saturation/table.md", "| curve | 0.6 |", cells=8)]
    yield (
        page,
        f"pass@32 is higher over the run by {above[7]}, and the mean is the same: {above[5]}".replace("-", MINUS),
    )
    yield page, f"at the end it is {above[4]}"
    theorems = read("dynamics/agreement.json")["mean over seeds"]["theorems"]
    holds, agrees = (theorems[f"rollouts where Theorem 2 {what}"] for what in ("holds", "and the sign of mean S agree"))
    yield (
        page,
        f"holds for {percent(holds)} of the rollouts, and says the right sign of what they do for {percent(agrees)}",
    )
    rivals = {row["name"]: row["tracking"] for row in read_lines("rivals/rows.jsonl")}
    released, ours = (rivals[f"{name}, line, seed 0"] for name in ("reward (released code)", "token"))
    (away, kept), (our_away, our_kept) = (
        (f"{row['mean_error']:.3f}", percent(row["kept_token_fraction"])) for row in (released, ours)
    )
    yield page, f"{away} nats from a line, with {kept} of the tokens kept"
    yield page, f"where the default method keeps {our_kept} at {our_away}"


def recording():
    measured = read("benchmarks/recording.json")
    kilobytes, milliseconds = measured["bytes a recorded step"] / 1000, 1000 * measured["seconds of recording"]
    yield "docs/faults.md", f"that takes {kilobytes:.0f} KB and {milliseconds:.1f} ms a step"


def a_choice():
    rows = {(row["rate"], row["held"], row["method"]): row for row in read("choice/choice.json")}
    steps = [f"{rows[rate, None, None]['closed']['steps']:,.0f}" for rate in (0.5, 1.0, 2.0)]
    sentence = "at a rate of 0.5 working overtakes after {} steps, at 1 after {}, and at 2 after {}"
    yield "docs/found.md", sentence.format(*steps)
    held = rows[2.0, 0.3, "token"]
    overtook = [run["overtook"] for run in held["sampled"]]
    assert None not in overtook and len(overtook) == 5
    said = f"after {statistics.median(overtook):.0f} steps by method `token`"
    yield "docs/found.md", f"{said} ({held['closed']['steps_of_what_was_kept']:.0f} by the formula)"
    assert all(run["overtook"] is None for run in rows[2.0, None, None]["sampled"])


def two_strategies():
    learnt, tokens = {}, {}
    for row in read_lines("study/two_strategies/rows.jsonl"):
        arm, seed, phase = re.fullmatch(r"(.+), seed (\d), phase ([AB])", row["name"]).groups()
        late = [
            score
            for step, score in zip(row["evaluated"], row["scores"]["mean@8"], strict=True)
            if step > 0.75 * row["step"]
        ]
        if phase == "A":
            tokens.setdefault(arm, []).append(row["tokens_per_step"] / 128)  # rollouts of a step
        if phase == "B":
            learnt.setdefault(arm, {})[seed] = statistics.mean(late) > 0.9
    assert all(len(seeds) == 5 for seeds in learnt.values())
    found = {arm: f"{sum(seeds.values())} of 5" for arm, seeds in learnt.items()}
    yield "docs/found.md", f"plain GRPO ends above 0.9 on B in {found['grpo']} seeds"
    held = f"held by tokens in {found['tokens held, then grpo']}"
    yield "docs/found.md", f"{held}, and after it was held by rollouts in {found['rollouts held, then grpo']}"
    grpo, *kept = (
        f"{statistics.mean(tokens[arm]):.1f}" for arm in ("grpo", "tokens held, then grpo", "rollouts held, then grpo")
    )
    yield "docs/found.md", f"over A an answer has {grpo} tokens on average under GRPO"
    yield "docs/found.md", f"{kept[0]} where entropy is held by tokens and {kept[1]} where it is held by rollouts"
    in_a = [row for row in read_lines("study/two_strategies/rows.jsonl") if row["name"].endswith("phase A")]
    by_rollouts, by_tokens = (
        [row["tracking"] for row in in_a if row["name"].startswith(arm)] for arm in ("rollouts held", "tokens held")
    )
    well, badly = (statistics.mean(each["mean_error"] for each in arm) for arm in (by_rollouts, by_tokens))
    yield "docs/found.md", f"By rollouts it was held well ({well:.3f} nats from its target on average)"
    yield (
        "docs/found.md",
        f"{badly:.3f} nats, and {percent(statistics.mean(each['in_band'] for each in by_tokens))} of the steps",
    )
    ends = [
        statistics.mean(last_entropy(row) for row in in_a if row["name"].startswith(f"{arm}, seed"))
        for arm in ("grpo", "grpo, triple rate in A")
    ]
    yield "docs/found.md", f"which is {ends[0]:.3f} nats under GRPO and {ends[1]:.3f} at the triple rate"
    rate = f"after a phase A at the triple learning rate it is {found['grpo, triple rate in A']}"
    yield "docs/found.md", f"{rate}, and from the base model itself {found['B alone']}"


def sampled_hotter():
    """Over the run without its first evaluation: GRPO at temperature 1 beside the curve at 0.6."""
    rows = read_lines("saturation/runs.jsonl")

    def over_the_run(row, temperature):
        return [statistics.mean(row[temperature][name][1:]) for name in ("mean@32", "pass@32")]

    grpo, curve = ([row for row in rows if row["method"] == method] for method in ("grpo", "curve"))
    hot, cool = (
        [statistics.mean(column) for column in zip(*(over_the_run(row, at) for row in arm), strict=True)]
        for arm, at in ((grpo, "at 1"), (curve, "at 0.6"))
    )
    yield "docs/found.md", f"a pass@32 of {hot[1]:.3f} over the run, at a mean of {hot[0]:.3f}"
    yield "docs/found.md", f"the curve's have {cool[1]:.3f} at 0.6, at a mean of {cool[0]:.3f}"
    yield (
        "README.md",
        f"{hot[1]:.3f}, where the curve's is {cool[1]:.3f} at 0.6, at a mean {cool[0] - hot[0]:.3f} higher",
    )
    leads = []
    for row in curve:
        ((wanted, breadth),) = (over_the_run(other, "at 1") for other in grpo if other["seed"] == row["seed"])
        (mean_hot, breadth_hot), (mean_cool, breadth_cool) = over_the_run(row, "at 1"), over_the_run(row, "at 0.6")
        share = (wanted - mean_hot) / (mean_cool - mean_hot)
        leads.append(breadth_hot + share * (breadth_cool - breadth_hot) - breadth)
    yield "docs/found.md", f"the curve's lead is {min(leads):.2f} to {max(leads):.2f} by seed"


def two_tasks():
    """Seed 0: the second task over its last quarter, and the first once more at the end."""
    rows = {row["name"]: row for row in read_lines("study/two_tasks/rows.jsonl")}
    arms = {
        "grpo": "plain GRPO in both",
        "held, then grpo": "held through the first, then plain GRPO",
        "held, then falling late": "held through the first, then a curve that falls late",
        "B alone": "the second task alone",
    }
    breadth = {}
    for arm, said in arms.items():
        row = rows[f"{arm}, seed 0, phase B"]
        late = [last_quarter(row, name) for name in ("mean@32", "pass@8", "pass@32")]
        breadth[arm] = late[-1]
        cells = [*late, row["scorings"]["on A"]["mean@32"], row["scorings"]["on A"]["pass@32"]]
        yield "docs/found.md", f"| {said} | {' | '.join(f'{cell:.3f}' for cell in cells)} |"
    more = breadth["held, then falling late"] / breadth["grpo"] - 1
    yield "docs/found.md", f"the mean is level, pass@32 is {percent(more)} higher"


def long_run():
    """One seed: what there was at some steps, and what became of the means."""
    grpo, held = read_lines("study/long/rows.jsonl")

    def at(row, step):
        index = row["evaluated"].index(step)
        scores = (row["scores"][name][index] for name in ("mean@32", "pass@32"))
        return row["entropy"][step // row["block"] - 1], *scores

    for step in (200, 1000, 1400, 2200, 2600, 3000):
        cells = " | ".join(f"{cell:.3f}" for row in (grpo, held) for cell in at(row, step))
        yield "docs/found.md", f"| {step:,} | {cells} |"
    _, mean, breadth = at(held, 2200)
    later = max(at(grpo, step)[-1] for step in grpo["evaluated"] if step >= 1200)
    yield (
        "docs/found.md",
        f"At step 2,200 the mean is {mean:.3f} and pass@32 {breadth:.3f}; "
        f"GRPO's own pass@32 is never above {later:.3f} from step 1,200 on",
    )
    pairs = [(at(held, step)[-1], at(grpo, other)[-1]) for step, other in ((2200, 600), (2400, 800))]
    yield (
        "docs/found.md",
        f"near 0.31 nats pass@32 is {pairs[0][0]:.3f} after holding and {pairs[0][1]:.3f} under GRPO, "
        f"near 0.27 it is {pairs[1][0]:.3f} and {pairs[1][1]:.3f}",
    )
    good = max(at(grpo, step)[-1] for step in grpo["evaluated"] if at(grpo, step)[-2] >= 0.34)
    yield "docs/found.md", f"with a mean of 0.340 or more, none has a pass@32 above {good:.3f}"
    means = " and ".join(f"{last_quarter(row, 'mean@32'):.3f}" for row in (grpo, held))
    yield "docs/found.md", f"over the last quarter the means are level, {means}"


def beds():
    lines = (RESULTS / "beds" / "beds.md").read_text(encoding="utf-8").splitlines()
    for line in lines[2:]:
        if line.startswith("|"):
            yield "docs/found.md", line
    known = [row for row in read("beds/beds.json") if row["outcome"]]
    right = sum(row["expected"] == row["outcome"]["paid"] for row in known)
    yield "docs/found.md", f"So far it was right about {right} of {len(known)}"


SOURCES = (
    demo,
    tracking,
    long_runs,
    on_verl,
    costs,
    the_page,
    trust,
    found,
    a_choice,
    recording,
    two_strategies,
    sampled_hotter,
    two_tasks,
    long_run,
    beds,
)
CLAIMS = [claim for figures in SOURCES for claim in figures()]


@pytest.mark.parametrize(("page", "claim"), CLAIMS, ids=[claim[:60] for _, claim in CLAIMS])
def test_the_page_says_what_the_raw_numbers_say(page, claim):
    text = re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))
    assert re.sub(r"\s+", " ", claim) in text
