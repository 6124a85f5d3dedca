"""Configuration files with overrides, as `entrocraft train` reads them."""

import json
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import yaml

from entrocraft.config import load_config, parse_config
from fuzz import mutate, noise, places
from fuzz.target import Case, Outcome, Target, expect

_RECIPES = Path(__file__).parents[2] / "recipes"
_SECTIONS: tuple[dict[str, Any], ...] = (
    {"control": {"schedule": {"type": "join", "schedules": [0.5, "linear(0.6, 0.2)"], "at": [0.5]}, "width": 0.1}},
    {"control": {"lower": 0.2, "upper": "linear(0.6, 0.3)", "guard": "relax", "method": {"name": "token"}}},
    {"control": {"method": {"name": "predicted", "visitation": False}, "predictor": "whole_model"}},
    {"control": {"method": "budget", "rejected": "mask", "estimator": {"name": "grpo"}, "aggregation": "token_mean"}},
    {"control": None, "train": {"algorithm": "rloo", "lora": {"r": 8, "alpha": 16, "target_modules": ["q_proj"]}}},
    {"train": {"trl": {"chat_template_kwargs": {"enable_thinking": False}, "generation_kwargs": {"min_p": 0.1}}}},
    {"train": {"steps": 30, "prompts_per_step": 4, "micro_batch_size": 8, "learning_rate": 1e-4, "save_every": 10}},
    {"task": {"name": "dataset", "options": {"train": "a.jsonl", "prompt": "{q}", "reward": "exact"}}},
    {"task": {"name": "countdown", "options": {"num_numbers": 3, "operators": "+-*/"}, "num_problems": 100}},
    {"task": {"name": "additions", "options": {"max_number": 20}}, "seed": 7, "model": "countdown-base"},
    {"eval": {"every": 5, "num_problems": 20, "num_samples": 8, "k": [1, 4, 8], "temperature": 0.6, "top_p": 0.9}},
)
_OVERRIDES = (
    *("train.steps=20", "control=null", "control.schedule=linear(0.6, 0.2)", "eval.k=[1, 2]", "seed=3"),
    *("train.trl.beta=0.1", "task.options={max_number: 5}", "task.name=additions", "train.lora.r=4", "model=x/y"),
    *("control={schedule: 0.5, width: 0.1}", "train={steps: 5}", "control.method=token", "train.learning_rate=1e-4"),
)
_TEXTS = (
    *("a: &a [1, 2]\nb: *a\n", "<<: {seed: 3}\nseed: 4\n", "base: &b {steps: 3}\ntrain: {<<: *b}\n", "- 1\n- 2\n"),
    *("seed: !!int '3'\n", "model: >\n  folded\n  text\n", "? {a: 1}\n: 2\n", "train: {steps: 1e2}\n", "seed: 0b11\n"),
    *("model: !!binary aGVsbG8=\n", "model: 2026-01-01\n", "task: !!set {a, b}\n", "eval: !!omap [a: 1]\n"),
)


@cache
def _recipes() -> tuple[tuple[str, Any], ...]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(_RECIPES.glob("*.yaml"))]
    return tuple((text, yaml.safe_load(text)) for text in texts)


def draw(rng: Random) -> Case:
    """Draw the bytes of a file, what lies in its place, and overrides."""
    overrides = [rng.choice(_OVERRIDES) for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3)))]
    overrides = [mutate.edited(rng, each, most=1) if rng.random() < 0.3 else each for each in overrides]
    return {"text": mutate.as_bytes(_text(rng)), "kind": places.kind(rng), "overrides": overrides}


def _text(rng: Random) -> str:
    kind = rng.random()
    text, data = rng.choice(_recipes())
    if kind < 0.15:
        return mutate.edited(rng, text)
    if kind < 0.25:
        return mutate.edited(rng, rng.choice(_TEXTS), most=2)
    if kind < 0.256:
        return _bomb(rng)
    if kind < 0.7:
        data = {key: value for section in rng.sample(_SECTIONS, 2) for key, value in section.items()}
    data = data if rng.random() < 0.1 else mutate.changed(rng, data)
    written = mutate.as_json(rng, data)  # JSON is YAML
    return mutate.edited(rng, written, most=1) if rng.random() < 0.1 else written


def _bomb(rng: Random) -> str:
    """Return text that grows as it is read."""
    kind = rng.randrange(5)
    if kind == 0:
        return f"train: {noise.nested(rng)}"
    if kind == 1:
        return f"train: {noise.nested(rng, '{a: ', '}')}"
    if kind == 2:
        lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, rng.randint(2, 40))]
        return "a0: &a0 x\n" + "\n".join(lines)
    if kind == 3:
        return "model: &a {b: *a}\n"
    return "a: " + "1" * rng.choice((4000, 5000, 100_000)) + rng.choice(("", "e5", ":30", ".5", "_0"))


def try_case(case: Case) -> Outcome:
    """Read a configuration; one that is taken must survive its own dump, build its task and know its band."""
    with places.folder() as folder:
        path = folder / "run.yaml"
        places.put(path, case["text"], case["kind"])
        config = load_config(path, case["overrides"])
    again = parse_config(json.loads(json.dumps(config.to_dict())))
    expect(again == config, f"dumped and read again it is another configuration: {config.to_dict()!r:.600}")
    if config.control is not None:
        for step in (0, 1, config.train.steps):
            lower, upper = config.control.band()(step, config.train.steps)
            expect(lower <= upper, f"the band is upside down at step {step}: {lower} and {upper}")
    config.eval.sampling(config.task.build(), config.train.carried_over())
    return "accepted"


def _prepare() -> None:
    for name in ("transformers.generation", "entrocraft.tasks.procedural_entries", "entrocraft.control.methods"):
        import_module(name)


TARGET = Target("configs", draw, try_case, prepare=_prepare)
