"""Figures that README and docs give, made anew from the raw numbers in results/ and held against the sentence."""

import statistics

import pytest
from support.figures import MINUS, TIMES, distance, percent, read, read_lines, says, table_row


def demo():
    def run(name):
        lines = read_lines(f"demo/{name}/metrics.jsonl")
        last = [line for line in lines if "eval/mean@32" in line][-1]
        scores = [percent(last[f"eval/{measure}"]) for measure in ("mean@32", "pass@32")]
        return [line for line in lines if "entropy" in line], scores

    (grpo, plain), (_, searched), (curve, curved) = map(run, ("grpo", "grpo-2e-5", "entrocraft"))
    fell = statistics.mean(line["entropy"] for line in grpo[-10:]) / grpo[0]["entropy"]
    away = distance(*([line[key] for line in curve] for key in ("entropy", "target")), after=0.2)
    yield "README.md", f"GRPO's entropy falls to {fell:.0%} of its start (last ten steps)".replace("%", " %")
    yield "README.md", f"with the curve it stays {away:.3f} nats from its target on average"
    yield "README.md", f"the share of right answers is {curved[0]} with the curve and {plain[0]} without"
    yield "README.md", f"at least one of 32 is right for {curved[1]} of the problems with it and {plain[1]} without"
    yield "README.md", f"which ends at {searched[0]} and {searched[1]}"
    (_, curved), (_, plain) = map(run, ("seed-1/entrocraft", "seed-1/grpo"))
    yield "README.md", f"With seed 1 it is {curved[0]} and {plain[0]}, and {curved[1]} and {plain[1]}"


def tracking():
    summary = read("tracking/summary.json")["countdown"]
    curves = ("constant", "linear", "cosine", "steps", "sine", "drawn")
    for method in ("none", "advantage", "predicted", "predicted + visitation", "probabilistic", "budget", "token"):
        rows = [summary["curves"][curve][method] for curve in curves]
        cells = [" ± ".join(f"{1000 * value:.0f}" for value in row["mean_error"]) for row in rows]
        yield "docs/tracking.md", f"| `{method}` | {' | '.join(cells)} |"
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
    above = table_row("saturation/table.md", "| curve | 0.6 |", cells=8)
    cells = [cell.strip().replace("-", MINUS) for cell in above]
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


SOURCES = (
    demo,
    tracking,
    long_runs,
    on_verl,
    costs,
    the_page,
    trust,
    found,
    recording,
)
CLAIMS = [claim for figures in SOURCES for claim in figures()]


@pytest.mark.parametrize(("page", "claim"), CLAIMS, ids=[claim[:60] for _, claim in CLAIMS])
def test_the_page_says_what_the_raw_numbers_say(page, claim):
    assert says(page, claim)
