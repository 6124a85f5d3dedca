"""What keeps method `token` from the six curves: its planner against a plant that is known, in simulation.

A plant with the equations of `control.planning.plant` stands in for the embedded model: an update of effect u moves
entropy by its average under the optimizer's memory, entropy wanders, and is read with a noise. `REACH`, `FREE` and
`WALK` were set so that the distances come out as `tracking.py` measures them; the noise of a reading is measured. Then
one thing at a time is taken away, to see what the distance is made of.

    python benchmarks/limits.py --output results/tracking
"""

import argparse
import json
import random
import statistics
from pathlib import Path

import torch
from tracking_cells import BAND, CURVES, STEPS

import entrocraft as ec
from entrocraft.control.planning.plan import REJECTION_COST_OF_TOKENS
from entrocraft.control.planning.plant import EntropyPlant

MOMENTUM = 0.9
READING_SD = 0.0064  # nats; a mean distance of 0.0051 for a policy that stands still, as in results/tracking
REACH = 0.02  # nats per update that leaving out tokens can ask for, either way
FREE = -0.006  # nats per update, of keeping everything
WALK = 0.002  # nats per update that entropy wanders by itself
GAIN = 0.03  # nats per unit of effect

VARIANTS = {
    "as it is": {},
    "rejection costs a fifth, no slack": {"cost": REJECTION_COST_OF_TOKENS / 5, "slack": 0.0},
    "entropy, drift and gain are known": {"known": True},
    "known, a fifth of the cost, no slack": {"known": True, "cost": REJECTION_COST_OF_TOKENS / 5, "slack": 0.0},
    "twice the reach": {"reach": 2 * REACH},
    "four times the reach": {"reach": 4 * REACH},
    "no memory in the optimizer": {"momentum": 0.0},
    "twice as far ahead": {"horizon": 24},
}
# Nothing is read wrong, nothing wanders, everything is known: what is left is the way from one level to the next.
TRANSIT = {"sd": 1e-6, "walk": 0.0, "known": True, "slack": 0.0, "cost": REJECTION_COST_OF_TOKENS / 5}
TRANSITS = {
    "the way alone": TRANSIT,
    "the way alone, twice the reach": TRANSIT | {"reach": 2 * REACH},
    "the way alone, four times the reach": TRANSIT | {"reach": 4 * REACH},
}


def distance(
    curve,
    seed,
    *,
    cost=REJECTION_COST_OF_TOKENS,
    slack=0.25,
    reach=REACH,
    sd=READING_SD,
    walk=WALK,
    momentum=MOMENTUM,
    horizon=12,
    known=False,
):
    """Return the mean distance of the entropy that is read from the curve, in nats, over a simulated run."""
    draw, schedule = random.Random(seed), ec.schedule_from(CURVES[curve])
    plant = EntropyPlant(1, momentum, horizon=horizon, rejection_cost=cost)
    entropy, under_way, distances = schedule(1, STEPS), 0.0, []
    for step in range(1, STEPS + 1):
        reading = entropy + draw.gauss(0, sd)
        distances.append(abs(reading - schedule(step, STEPS)))
        plant.observe(reading, sd)
        if known:
            plant._mean[:] = torch.tensor([entropy, 0.0, GAIN])
        # Nats as the plant believes them; what is done is done in true ones.
        belief = float(plant.gains) / GAIN
        targets = [schedule(step + ahead, STEPS) for ahead in range(1, horizon + 1)]
        wanted = plant.plan(targets, FREE * belief, -reach * belief, reach * belief, slack=slack * BAND / 2)
        effect = min(max(wanted / belief, -reach), reach)
        plant.advance(torch.tensor([effect / GAIN]))
        share = (1 - momentum) / (1 - momentum**step)
        under_way = (1 - share) * under_way + share * effect
        entropy += under_way + draw.gauss(0, walk)
    return statistics.fmean(distances)


def main():
    """Simulate every variant, write numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name, options in (VARIANTS | TRANSITS).items():
        seeds = range(1 if name in TRANSITS else args.seeds)  # without noise all are alike
        rows[name] = {
            curve: round(statistics.fmean(distance(curve, seed, **options) for seed in seeds), 4) for curve in CURVES
        }
        print(name, rows[name], flush=True)
    record = {"command": f"python benchmarks/limits.py --output results/tracking --seeds {args.seeds}", "rows": rows}
    (args.output / "limits.json").write_text(json.dumps(record, indent=1) + "\n")
    text = f"| method `token`, simulated | {' | '.join(CURVES)} |\n|---|{'---|' * len(CURVES)}\n"
    for name, row in rows.items():
        text += f"| {name} | {' | '.join(f'{1000 * value:.1f}' for value in row.values())} |\n"
    (args.output / "limits.md").write_text(text)


if __name__ == "__main__":
    main()
