"""How long until the better of two strategies is found, in closed form and sampled, left to itself and held open.

The smallest case of recipes/study/two_strategies.yaml, without a model. A policy chooses between a habit, right with
probability p, and working, right with probability s < p, by one logit x: it works with probability pi = sigmoid(x).
Working gets better by practice. At learning rate `eta`, with `c` gained for each success, the mean update is

    dx/dt = eta pi (1 - pi) (s - p)        the policy gradient; the centred advantage of working is (1 - pi) (s - p)
    ds/dt = c pi s                         practice

While s < p the gradient closes the choice. Dividing the two leaves an equation that can be integrated: with the odds
o = pi / (1 - pi),

    log o + o = log o_0 + o_0 - eta / c (p log(s / s_0) - (s - s_0)),

so that at s = p, where working overtakes, the odds have fallen by a factor that is exponential in eta / c. Held open by
a curve, pi stays what it is, and working overtakes after log(p / s_0) / (c pi) steps.

    python benchmarks/choice.py --output results/choice
"""

import argparse
import json
import math
import statistics
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import lambertw

import entrocraft as ec

HABIT, WORKING, BEST = 0.5, 0.25, 0.95  # p, s at the start, and what practice can lead to
START = 0.3  # pi at the start
PRACTICE = 0.02  # c
NUM_ROLLOUTS, GROUP = 64, 8
CENTRED = 1 - 1 / GROUP  # a rollout is part of the mean that it is compared with
RATES = (0.2, 0.5, 1.0, 2.0)
HELD_AT_RATE = 2.0
HELD = (0.5, 0.3, 0.15)  # nats
METHODS = ("token", "budget")
SEEDS = range(5)
MOST_STEPS = 3000


def odds_when(skill: float, rate: float) -> float:
    """Return the odds of working once practice has led to `skill`, if nothing holds the choice open."""
    start = START / (1 - START)
    fall = rate * CENTRED / PRACTICE * (HABIT * math.log(skill / WORKING) - (skill - WORKING))
    # log o + o = z is solved by Lambert's W of exp(z).
    return float(lambertw(math.exp(math.log(start) + start - fall)).real)


def steps_left_alone(rate: float) -> float:
    """Return after how many steps working overtakes the habit, if nothing holds the choice open."""

    def steps_per_skill(skill: float) -> float:
        odds = odds_when(skill, rate)
        return (1 + odds) / (odds * PRACTICE * skill)

    return quad(steps_per_skill, WORKING, HABIT)[0]


def share_at(entropy: float) -> float:
    """Return the lesser probability of a choice between two with this entropy, in nats."""
    return brentq(lambda pi: _entropy(pi) - entropy, 1e-9, 0.5)


def steps_held(entropy: float, kept: float = 1.0) -> float:
    """Return after how many steps working overtakes, if the choice is held at `entropy` nats.

    Args:
        entropy: Of the choice.
        kept: Share of the successes of working that the update uses.
    """
    return math.log(HABIT / WORKING) / (PRACTICE * kept * share_at(entropy))


def sampled(
    rate: float, seed: int, most_steps: int, entropy: float | None = None, method: str = "token"
) -> dict[str, float | None]:
    """Return what becomes of the choice in rollouts that are sampled, with `entropy` held by the library or without."""
    generator = np.random.default_rng(seed)
    logit, skill, state = math.log(START / (1 - START)), WORKING, None
    groups, mask = torch.arange(NUM_ROLLOUTS) // GROUP, torch.ones(NUM_ROLLOUTS, 1)
    # What the curve asks for begins where the policy is, and is there after a tenth of the time that holding takes.
    settings = {"method": method, "width": 0.03, "schedule": "constant(0.0)"}
    if entropy is not None:
        way = round(0.1 * steps_held(entropy))
        settings["schedule"] = [[0, _entropy(START)], [way / most_steps, entropy], [1, entropy]]
    overtook, worked, kept_work, entropies = None, 0, 0, []
    for step in range(1, most_steps + 1):
        pi = 1 / (1 + math.exp(-logit))
        works = generator.random(NUM_ROLLOUTS) < pi
        right = generator.random(NUM_ROLLOUTS) < np.where(works, skill, HABIT)
        rewards = torch.tensor(right, dtype=torch.float32)
        advantages = ec.advantages.estimate("dr_grpo", rewards.view(-1, GROUP)).flatten()
        used = advantages.numpy()
        if entropy is not None:
            log_probs = torch.tensor(np.where(works, math.log(pi), math.log1p(-pi)), dtype=torch.float32)
            use = ec.decide(
                settings,
                state,
                step=step,
                total_steps=most_steps,
                log_probs=log_probs[:, None],
                entropies=torch.full((NUM_ROLLOUTS, 1), _entropy(pi)),
                mask=mask,
                advantages=advantages,
                groups=groups,
                loop=ec.Loop(momentum=0.0),
            )
            used, state = use.advantages[:, 0].numpy(), use.state
        logit += rate * float(np.mean(used * (works - pi)))
        # Only what the update uses is practice: a success of working whose advantage was not set to 0.
        practised = works & right & ((used != 0) | (advantages.numpy() == 0))
        worked += int((works & right).sum())
        kept_work += int(practised.sum())
        entropies.append(_entropy(pi))
        skill = min(BEST, skill + PRACTICE * float(practised.mean()))
        if skill >= HABIT:
            overtook = step
            break
    later = entropies[len(entropies) // 2 :]
    return {
        "overtook": overtook,
        "skill": round(skill, 4),
        "entropy": round(statistics.mean(later), 4),
        "kept": round(kept_work / max(worked, 1), 4),
    }


def _entropy(pi: float) -> float:
    return -pi * math.log(pi) - (1 - pi) * math.log1p(-pi)


def rows() -> list[dict]:
    """Return a row for each rate without control, and for each method and entropy with it."""
    found = []
    for rate in RATES:
        runs = [sampled(rate, seed, MOST_STEPS) for seed in SEEDS]
        closed = {"odds": odds_when(HABIT, rate), "steps": steps_left_alone(rate)}
        found.append({"rate": rate, "held": None, "method": None, "closed": closed, "sampled": runs})
    for method in METHODS:
        for entropy in HELD:
            most = round(3 * steps_held(entropy))
            runs = [sampled(HELD_AT_RATE, seed, most, entropy, method) for seed in SEEDS]
            kept = statistics.mean(run["kept"] for run in runs)
            closed = {"steps": steps_held(entropy), "steps_of_what_was_kept": steps_held(entropy, kept)}
            found.append({"rate": HELD_AT_RATE, "held": entropy, "method": method, "closed": closed, "sampled": runs})
    return found


def table(found: list[dict]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [
        "| learning rate | choice held at | steps, in closed form | sampled: runs that overtake | their median |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        steps = [run["overtook"] for run in row["sampled"] if run["overtook"] is not None]
        held = "-" if row["held"] is None else f"{row['held']:g} nats by `{row['method']}`"
        median = f"{statistics.median(steps):.0f}" if steps else "-"
        closed = row["closed"].get("steps_of_what_was_kept", row["closed"]["steps"])
        said = f"{closed:.0f}" if closed < 1e5 else f"{closed:.0e}"
        lines.append(f"| {row['rate']:g} | {held} | {said} | {len(steps)} of {len(row['sampled'])} | {median} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/choice"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of batches of which nothing is kept
        found = rows()
    (folder / "choice.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "choice.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
