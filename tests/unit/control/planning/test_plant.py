import json

import pytest
import torch
from scipy.optimize import minimize

from entrocraft.control.planning.plant import EntropyPlant
from entrocraft.errors import InvalidValueError

GAIN, DRIFT, MOMENTUM, NOISE = 0.02, -0.003, 0.9, 0.008


class SimulatedPolicy:
    """Entropy that answers to effects as the model says, read with noise."""

    def __init__(self, seed=0, start=0.6, noise=NOISE, momentum=MOMENTUM):
        self.generator = torch.Generator().manual_seed(seed)
        self.entropy, self.noise, self.momentum = start, noise, momentum
        self.carried, self.num_updates = 0.0, 0

    def reading(self):
        return self.entropy + self.noise * torch.randn((), generator=self.generator).item()

    def update(self, effect):
        self.num_updates += 1
        weight = (1 - self.momentum) / (1 - self.momentum**self.num_updates)
        self.carried += weight * (effect - self.carried)
        self.entropy += DRIFT + GAIN * self.carried


def follow(target, num_steps=80, anticipate=True, momentum=MOMENTUM, seed=0):
    """Return errors of a policy whose effects, within -1 to 1, are chosen by a plant model, or by sign alone."""
    policy, plant = SimulatedPolicy(seed), EntropyPlant(1, momentum)
    errors = []
    for step in range(num_steps):
        reading = policy.reading()
        errors.append(reading - target(step))
        if anticipate:
            plant.observe(reading, NOISE)
            gain = float(plant.gains)
            ahead = [target(step + k) for k in range(1, plant.horizon + 1)]
            effect = plant.plan(ahead, free=0.0, low=-gain, high=gain) / gain
            plant.advance(torch.tensor([effect], dtype=torch.float64))
        else:
            effect = -1.0 if errors[-1] > 0.02 else 1.0 if errors[-1] < -0.02 else 0.0
        policy.update(effect)
    return torch.tensor(errors)


def test_drift_and_gain_are_learnt_from_what_is_measured():
    policy, plant = SimulatedPolicy(), EntropyPlant(1, MOMENTUM)
    generator = torch.Generator().manual_seed(1)
    for _block in range(20):
        effect = torch.rand((), generator=generator).item() * 2 - 1
        for _ in range(10):
            plant.observe(policy.reading(), NOISE)
            plant.advance(torch.tensor([effect], dtype=torch.float64))
            policy.update(effect)
    assert plant.gains.item() == pytest.approx(GAIN, rel=0.25)
    assert plant.drift == pytest.approx(DRIFT, abs=0.003)
    assert plant.entropy == pytest.approx(policy.entropy, abs=3 * NOISE)


def test_filtered_entropy_is_closer_than_the_readings():
    policy, plant = SimulatedPolicy(), EntropyPlant(1, MOMENTUM)
    filtered, read = [], []
    for _ in range(200):
        reading = policy.reading()
        plant.observe(reading, NOISE)
        filtered.append(abs(plant.entropy - policy.entropy))
        read.append(abs(reading - policy.entropy))
        plant.advance(torch.zeros(1, dtype=torch.float64))
        policy.update(0.0)
    assert sum(filtered) < 0.75 * sum(read)


@pytest.mark.parametrize("seed", range(3))
def test_planning_with_the_optimizers_memory_beats_reacting_to_the_band(seed):
    def jump(step):
        return 0.6 if step < 30 else 0.5

    planned, reacting = follow(jump, seed=seed), follow(jump, anticipate=False, seed=seed)
    memoryless = follow(jump, momentum=0.0, seed=seed)
    assert planned.abs().mean() < 0.8 * reacting.abs().mean()
    assert planned.abs().mean() < 0.9 * memoryless.abs().mean()
    assert (planned[40:].abs() < 0.02 + 2 * NOISE).double().mean() > 0.9  # there within 10 updates, and stays


def test_on_the_curve_and_without_drift_nothing_is_asked_for():
    plant = EntropyPlant(1, MOMENTUM)
    plant.observe(0.5, NOISE)
    assert plant.plan([0.5] * 12, free=0.0, low=-1.0, high=1.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("slack", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("rejection_cost", [0.05, 0.3])
@pytest.mark.parametrize(("high", "at_the_edge"), [(0.001, True), (0.5, False)])
def test_a_plan_minimises_its_cost(high, at_the_edge, rejection_cost, slack):
    plant = EntropyPlant(1, 0.8, horizon=4, rejection_cost=rejection_cost)
    plant.observe(0.5, NOISE)
    plant.advance(torch.tensor([0.3], dtype=torch.float64))
    targets, free, low = [0.52, 0.53, 0.55, 0.6], -0.002, -0.05
    carried, weight = 0.3 * float(plant.gains), (1 - 0.8) / (1 - 0.8**2)

    def cost(plan):
        entropy, effect, total = plant.entropy, carried, 0.0
        for wanted, target in zip(plan, targets, strict=True):
            effect = (1 - weight) * effect + weight * wanted
            entropy = entropy + plant.drift + effect
            total += max(0.0, abs(entropy - target) - slack) ** 2 + rejection_cost * (wanted - free) ** 2
        return total

    best = minimize(cost, [free] * 4, bounds=[(low, high)] * 4, tol=1e-14).x[0]
    assert plant.plan(targets, free, low, high, slack) == pytest.approx(best, abs=1e-4)
    assert (best == pytest.approx(high)) == at_the_edge


def test_what_is_near_enough_asks_for_nothing():
    plant = EntropyPlant(1, MOMENTUM)
    plant.observe(0.504, NOISE)
    assert plant.plan([0.5] * 12, free=0.0, low=-1.0, high=1.0, slack=0.005) == pytest.approx(0.0, abs=1e-9)
    assert plant.plan([0.5] * 12, free=0.0, low=-1.0, high=1.0) < -1e-4


def test_a_plant_that_changes_suddenly_is_relearnt():
    plant = EntropyPlant(1, MOMENTUM)
    for _ in range(30):
        plant.observe(0.5, NOISE)
        plant.advance(torch.zeros(1, dtype=torch.float64))
    for _ in range(3):
        plant.observe(0.8, NOISE)
        plant.advance(torch.zeros(1, dtype=torch.float64))
    assert plant.entropy == pytest.approx(0.8, abs=0.05)


def test_gains_never_turn_around():
    policy, plant = SimulatedPolicy(noise=0.0), EntropyPlant(1, MOMENTUM)
    for _ in range(50):  # effects that do the opposite of what was predicted
        plant.observe(policy.reading(), NOISE)
        plant.advance(torch.ones(1, dtype=torch.float64))
        policy.update(-1.0)
    assert plant.gains.item() > 0


def test_units_follow_the_size_of_the_terms_slowly():
    plant = EntropyPlant(2, MOMENTUM)
    assert plant.unit(torch.tensor([3.0, 0.1])).tolist() == pytest.approx([3.0, 0.1])
    assert 3.0 < plant.unit(torch.tensor([30.0, 0.1]))[0] < 30.0
    before = plant.unit(torch.zeros(2))
    assert torch.equal(plant.unit(torch.zeros(2)), before)  # a batch without gradient says nothing about size


def test_state_round_trips():
    plant = EntropyPlant(2, MOMENTUM)
    for reading in (0.6, 0.58, 0.61):
        plant.unit(torch.tensor([1.0, 2.0]))
        plant.observe(reading, NOISE)
        plant.advance(torch.tensor([0.5, -0.1], dtype=torch.float64))
    resumed = EntropyPlant(2, MOMENTUM)
    resumed.load_state_dict(json.loads(json.dumps(plant.state_dict())))
    assert resumed.state_dict() == plant.state_dict()
    assert resumed.observe(0.59, NOISE) == plant.observe(0.59, NOISE)


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"momentum": -0.1}, {"horizon": 0}, {"num_terms": 0}])
def test_options_are_checked(options):
    with pytest.raises(InvalidValueError, match="expected 0 <= momentum < 1"):
        EntropyPlant(**options)
