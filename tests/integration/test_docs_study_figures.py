"""Figures that docs give of studies, made anew from their rows and held against the sentence."""

import re
import statistics

import pytest
from support.figures import RESULTS, percent, read, read_lines, says

from entrocraft.study.rows import last_entropy, last_quarter


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
        if phase == "A":
            tokens.setdefault(arm, []).append(row["tokens_per_step"] / 128)  # rollouts of a step
        if phase == "B":
            learnt.setdefault(arm, {})[seed] = last_quarter(row, "mean@8") > 0.9
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
    leads = []
    for row in curve:
        ((wanted, breadth),) = (over_the_run(other, "at 1") for other in grpo if other["seed"] == row["seed"])
        (mean_hot, breadth_hot), (mean_cool, breadth_cool) = over_the_run(row, "at 1"), over_the_run(row, "at 0.6")
        share = (wanted - mean_hot) / (mean_cool - mean_hot)
        leads.append(breadth_hot + share * (breadth_cool - breadth_hot) - breadth)
    yield "docs/found.md", f"the curve's lead is {min(leads):.2f} to {max(leads):.2f} by seed"


def learning_rate():
    """Seeds 2 to 4 of the tables, the last quarter: plain GRPO at two rates, and two methods on one curve."""
    rows = {row["name"]: row for row in read_lines("study/tables/rows.jsonl")}
    arms = {
        "grpo": "plain GRPO",
        "token": "`token`, a line to 0.8",
        "learning_rate": "`learning_rate`, the same line",
        "rate_and_token": "`rate_and_token`, the same line",
        "grpo, rate 2e-5": "plain GRPO at 2e-5",
        "token, constant": "`token`, held where it began",
        "token, constant, rate 2e-5": "`token` at 2e-5, held where it began",
        "rate_and_token, constant": "`rate_and_token`, held where it began",
    }
    measures = ("mean@32", "pass@8", "pass@32")
    found = {arm: [[last_quarter(rows[f"{arm}, seed {n}"], m) for n in (2, 3, 4)] for m in measures] for arm in arms}
    for arm, said in arms.items():
        entropy = statistics.mean(last_entropy(rows[f"{arm}, seed {n}"]) for n in (2, 3, 4))
        cells = [f"{statistics.mean(seeds):.3f} ({min(seeds):.3f} to {max(seeds):.3f})" for seeds in found[arm]]
        yield "docs/found.md", f"| {said} | {' | '.join(cells)} | {entropy:.3f} |"
    # Against plain GRPO at the same rate, seed by seed: the mean, and pass@32.
    mean, breadth = (
        [one - other for one, other in zip(found["learning_rate"][m], found["grpo"][m], strict=True)] for m in (0, 2)
    )
    gain = (
        f"by {min(mean):.3f} to {max(mean):.3f} in the mean and by {min(breadth):.3f} to {max(breadth):.3f} in pass@32"
    )
    yield "docs/found.md", gain
    yield "README.md", gain
    # Held where it began, against `token` at the same rate.
    mean, breadth = (
        [
            one - other
            for one, other in zip(found["rate_and_token, constant"][m], found["token, constant"][m], strict=True)
        ]
        for m in (0, 2)
    )
    yield (
        "docs/found.md",
        f"by {min(mean):.3f} to {max(mean):.3f} in the mean and by {min(breadth):.3f} to {max(breadth):.3f} in breadth",
    )
    # Where plain GRPO at the rate that was searched for passes by: after 40 of its 100 steps.
    passing = [rows[f"grpo, rate 2e-5, seed {n}"] for n in (2, 3, 4)]
    scores = [
        statistics.mean(row["scores"][measure][row["evaluated"].index(40)] for row in passing)
        for measure in ("mean@32", "pass@32")
    ]
    yield "docs/found.md", f"After 40 of its 100 steps, plain GRPO at 2e-5 has {scores[0]:.3f} and {scores[1]:.3f}"
    distance = {
        arm: statistics.mean(rows[f"{arm}, seed {n}"]["tracking"]["mean_error"] for n in (2, 3, 4))
        for arm in ("rate_and_token, constant", "token, constant")
    }
    yield "docs/found.md", " and ".join(f"{nats:.3f}" for nats in distance.values())


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
    a_choice,
    two_strategies,
    sampled_hotter,
    learning_rate,
    two_tasks,
    long_run,
    beds,
)
CLAIMS = [claim for figures in SOURCES for claim in figures()]


@pytest.mark.parametrize(("page", "claim"), CLAIMS, ids=[claim[:60] for _, claim in CLAIMS])
def test_the_page_says_what_the_rows_say(page, claim):
    assert says(page, claim)
