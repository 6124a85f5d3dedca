"""Whole commands with odd files and values: each ends soon, says what is wrong in a line, and leaves nothing half-made.

Some are processes of their own; most are forks of one that has imported torch and all else that takes long.
"""

import os
import re
from pathlib import Path
from random import Random
from typing import Any

from fuzz import mutate, noise, places, processes, run_directories, schedule_strings
from fuzz.target import Case, Outcome, Target, expect

_CONFIG: dict[str, Any] = {
    "task": {"name": "countdown", "options": {"num_numbers": 3}, "num_problems": 8},
    "train": {"steps": 2, "prompts_per_step": 2, "rollouts_per_prompt": 2, "save_every": 1},
    "eval": {"num_problems": 2, "num_samples": 2, "k": [1]},
}
_DATA = '{"prompt": "1+1=", "answer": "2"}\n{"prompt": "1+2=", "answer": "3"}\n{"prompt": "2+2=", "answer": "4"}\n'
_FAST = ("--num-samples", "2", "--k", "1", "--max-tokens", "3", "--batch-size", "4")
_HALF_MADE = re.compile(r"\.[0-9a-f]{32}.*")
_ELSEWHERE = ("/", "//", "..", "./..", "/dev/zero", "/dev/stdin")  # where a command may write beside its folder
_NOISE = (
    *(each for each in noise.TEXTS if "\0" not in each and each not in _ELSEWHERE),
    "nowhere",
    "run.yaml",
    "runs/good",
    "runs/bad",
    "data.jsonl",
)
_LIGHT = ("schedule", "steer", "list", "--help", "--version")  # which start in a second, and are often real processes
_VALUES = ("0", "-1", "1e400", "nan", "x", "", "10" * 9, "1.5", "\u0663", "1,0", "1,,2", "[1]")


def draw(rng: Random) -> Case:
    """Draw a command's arguments, the files that lie where it runs, and whether it is a process of its own."""
    arguments = _arguments(rng)
    if rng.random() < 0.5:
        protected = {"--dry-run", "train", "eval", "diagnose", "study", "verl"}
        at = rng.randrange(len(arguments))
        if arguments[at] not in protected and not arguments[at].startswith(("--num", "--max")):
            arguments[at] = rng.choice((*_NOISE, *_VALUES, mutate.edited(rng, arguments[at], _NOISE)))
    config = mutate.changed(rng, _CONFIG, most=1) if rng.random() < 0.5 else _CONFIG
    files: dict[str, Any] = {
        "run.yaml": {"kind": places.kind(rng, 0.05), "content": mutate.as_bytes(mutate.as_json(rng, config))},
        "data.jsonl": {"kind": "file", "content": mutate.edited(rng, _DATA) if rng.random() < 0.3 else _DATA},
    }
    files["data.jsonl"]["content"] = mutate.as_bytes(files["data.jsonl"]["content"])
    damaged = run_directories.draw(rng)["files"]
    real = rng.random() < (0.25 if arguments[0] in _LIGHT else 0.05)
    arguments = [_as_typed(argument) for argument in arguments]
    return {"arguments": arguments, "files": files, "damaged": damaged, "real": real}


def _as_typed(argument: str) -> str:
    """Return what a system can hand to a program: no NUL, bytes where there is half of a character, no megabyte."""
    return os.fsdecode(argument.replace("\0", "")[:5000].encode("utf-8", "surrogatepass"))


def _arguments(rng: Random) -> list[str]:
    """Return the arguments of one command, right or nearly so."""
    run = rng.choice(("runs/good", "runs/good", "runs/bad"))
    output = rng.choice(("out", "out/a", "data.jsonl", "runs/good", "."))
    picture = rng.choice(("a.png", "a.svg", "out/a.pdf", "a.xyz", "runs/good", "data.jsonl/a.png"))
    spec = schedule_strings.draw(rng) if rng.random() < 0.7 else "linear(0.6, 0.2)"
    override = rng.choice(
        ("train.steps=3", "control=null", "seed=4", "control=0.5", f"task.num_problems={rng.choice(_VALUES)}")
    )
    strange = rng.choice(
        ("train.trl.beta=0.1", "train.trl.bx=1", "model=nowhere", "a.b=1", "train.lora.r=4", "eval.k=[2]")
    )
    value = rng.choice((*_VALUES, "2"))
    commands: tuple[tuple[float, list[str]], ...] = (
        (20, ["schedule", spec, *rng.choice(([], ["--steps", value], ["-o", picture]))]),
        (12, ["steer", run, spec, *rng.choice(([], ["--width", value]))]),
        (10, ["plot", run, *rng.choice(([], ["runs/good"])), "-o", picture]),
        (10, ["explain", run, *rng.choice(([], ["--momentum", value], ["-o", picture]))]),
        (16, ["train", "run.yaml", override, strange, "--dry-run", *rng.choice(([], ["--output", output]))]),
        (4, ["eval", rng.choice(("countdown-base", run)), "--task", "countdown", "--num-problems", "2", *_FAST]),
        (3, ["eval", run, "nowhere", "--task", "run.yaml", "--num-problems", "2", *_FAST, "--output", output]),
        (4, ["diagnose", rng.choice(("countdown-base", run)), "--task", rng.choice(("countdown", "run.yaml")),
             "--num-prompts", "2", "--num-rollouts", "2", "--max-tokens", "3", "--output", output]),
        (6, ["export", run, output]),
        (7, ["verl", "data", "dataset", "train=data.jsonl", f"test_share={value}", "-o", "out.parquet"]),
        (3, ["verl", "data", "countdown", f"max_target={value}", "--num-problems", "3", "-o", "out.parquet"]),
        (1, ["verl", "train", "run.yaml", "trainer.nnodes=2", "--dry-run"]),
        (6, ["list", rng.choice(("methods", "tasks", "schedules", "estimators", "models", "runs", "runs"))]),
        (3, ["study", "run.yaml", "--dry-run"]),
        (2, [rng.choice(("--help", "--version", "trian", "", "-x")), *rng.choice(([], ["--help"]))]),
    )  # fmt: skip
    (chosen,) = rng.choices([arguments for _, arguments in commands], [odds for odds, _ in commands])
    return chosen


def try_case(case: Case) -> Outcome:
    """Run a command where such files lie, and look at what it said and left."""
    with places.folder() as folder, places.folder() as logs:
        for name, about in case["files"].items():
            places.put(folder / name, about["content"], about["kind"])
        run_directories.build(folder / "runs" / "good", {})
        run_directories.build(folder / "runs" / "bad", case["damaged"])
        before = _listing(folder)
        ended = processes.run(case["arguments"], folder, logs, real=case["real"])
        after = _listing(folder)
    said = f"{case['arguments']!r:.300} ends with {ended.status}, saying {ended.errors[-1500:]!r}"
    assert "Traceback (most recent call last)" not in ended.output + ended.errors, said
    assert ended.status in (0, 1, 2), said
    made = sorted(after.keys() - before.keys())
    expect(not any(_HALF_MADE.fullmatch(Path(name).name) for name in made), f"{said}; left {made}")
    expect(not any(after[name] == 0 for name in made), f"{said}; left empty {made}")
    if ended.status:
        expect(after == before, f"{said}; left {made or 'another content than there was'}")
        expect(0 < len(ended.errors) <= 4000, said)
    return "accepted" if ended.status == 0 else "refused"


def _listing(folder: Path) -> dict[str, int]:
    """Return what a folder holds, with the sizes of files; folders and other things are -1."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() and not path.is_symlink() else -1
        for path in folder.rglob("*")
    }


TARGET = Target(
    "commands",
    draw,
    try_case,
    cpu_seconds=60.0,
    wall_seconds=200.0,
    prepare=processes.prepare,
    labels=lambda case: ["process of its own" if case["real"] else "fork"],
)
