"""Run directories in which something is damaged, missing, or no file."""

import io
import json
import math
import socket
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import save

from entrocraft.analysis.explanation import explain
from entrocraft.cli.listing import rows_of
from entrocraft.config import RunConfig, carried_from, max_tokens_from, parse_config, resolved
from entrocraft.errors import EntrocraftError
from entrocraft.reports.explanation import describe
from entrocraft.reports.run import entropy_section, scores_section
from entrocraft.runs import RunDirectory, model_path_of
from entrocraft.runs.metrics import QUADRANTS
from entrocraft.runs.state import read_state
from entrocraft.runs.tracking import summarise_tracking
from fuzz import mutate, noise, places
from fuzz.target import Case, Outcome, Target, expect, fault_of_message

_STEPS = 10


@cache
def _whole() -> dict[str, str]:
    """Return the files of a run that nothing is wrong with, by path."""
    config = RunConfig().to_dict()
    lines = [json.dumps(_line(step)) for step in range(1, _STEPS + 1)]
    lines.insert(0, json.dumps({"step": 0, "eval/mean@8": 0.5, "eval/mean@8/low": 0.4, "eval/mean@8/high": 0.6}))
    state = {
        "pid": 1,
        "host": socket.gethostname(),
        "started": 1.0,
        "heartbeat": 2.0,
        "ended": 3.0,
        "exit": 0,
        "why": "completed",
    }
    checkpoint = f"checkpoints/checkpoint-{_STEPS}"
    weights = save({"a": np.zeros((2, 2), dtype=np.float32), "b": np.ones(3, dtype=np.float32)})
    return {
        "config.json": json.dumps(config),
        "metrics.jsonl": "".join(f"{line}\n" for line in lines),
        "state.json": json.dumps(state),
        "problems.json": '{"train": "00", "test": "11"}',
        "rollouts.jsonl": '{"step": 1, "group": [0, 0], "reward": [1, 0]}\n',
        "steering.yaml": "linear(0.6, 0.2)\n",
        f"{checkpoint}/trainer_state.json": json.dumps({"global_step": _STEPS}),
        f"{checkpoint}/entrocraft.json": "{}",
        f"{checkpoint}/config.json": '{"model_type": "llama"}',
        f"{checkpoint}/model.safetensors": weights.decode("latin-1"),
        **{f"{checkpoint}/{name}": _archive() for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")},
        "checkpoints/checkpoint-5/trainer_state.json": "{}",
    }


def _line(step: int) -> dict[str, Any]:
    line: dict[str, Any] = {"step": step, "entropy": 1.0 - 0.03 * step + 0.01 * (step % 3), "target": 0.9, "lower": 0.8}
    line |= {"upper": 1.0, "direction": step % 3 - 1, "kept_fraction": 0.5, "reward": 0.1 * step, "seconds": 1.5}
    for i, name in enumerate(QUADRANTS):
        line |= {f"quadrants/{name}": 0.01 * (i - 1.5) * step, f"kept_quadrants/{name}": 0.005 * math.sin(i + step)}
    return line


def _archive() -> str:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    return stream.getvalue().decode("latin-1")


def draw(rng: Random) -> Case:
    """Draw what is not as it should be: for a few paths, their content, another kind of thing, or nothing."""
    damaged: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(_whole()))
        if rng.random() < 0.5:
            name = rng.choice(("config.json", "metrics.jsonl", "state.json"))
        damaged[name] = _damage(rng, _whole()[name])
    if rng.random() < 0.05:
        number = rng.choice(("x", "9" * 30, "-1", "007", "\u0663"))
        damaged[f"checkpoints/checkpoint-{number}"] = {"kind": "folder"}
    return {
        "files": damaged,
        "resume_from": rng.choice((None, None, 0, 5, 10, 10**30)),
        "controlled": rng.random() < 0.5,
    }


def _damage(rng: Random, content: str) -> dict[str, str]:
    kind = rng.random()
    if kind < 0.08:
        return {"kind": rng.choice((*places.KINDS, "missing"))}
    if kind < 0.1:
        return {"kind": "file", "content": noise.nested(rng) if rng.random() < 0.5 else noise.nested(rng, '{"a":', "}")}
    if kind < 0.2 and content:
        start = rng.randrange(len(content))
        byte = chr(rng.randrange(256))
        return {"kind": "file", "content": content[:start] + byte * rng.choice((1, 8)) + content[start + 1 :]}
    if kind < 0.7 and content.startswith("{"):
        lines = content.splitlines()
        i = rng.randrange(len(lines))
        lines[i] = mutate.as_json(rng, mutate.changed(rng, json.loads(lines[i]), most=2))
        return {"kind": "file", "content": mutate.as_bytes("\n".join(lines) + "\n")}
    text = mutate.edited(rng, content).encode("utf-8", "surrogatepass") if content.isascii() else None
    return {"kind": "file", "content": (text or b"\0" + content.encode("latin-1")).decode("latin-1")}


def try_case(case: Case) -> Outcome:
    """Have everything read that reads run directories; each takes it, or says in one line why not."""
    with places.folder() as folder:
        path = folder / "runs" / "one"
        build(path, case["files"])
        errors = []
        for read in _READERS:
            try:
                read(path, case)
            except (EntrocraftError, OSError) as error:
                expect(not fault_of_message(str(error)), fault_of_message(str(error)))
                errors.append(error)
    return "refused" if errors else "accepted"


def build(path: Path, damaged: dict[str, Any]) -> None:
    """Make a run directory of which some files are not as they should be."""
    for name, content in (_whole() | damaged).items():
        about = {"kind": "file", "content": content} if isinstance(content, str) else content
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if about["kind"] != "missing":
            places.put(file, about.get("content", ""), about["kind"])


def _read_metrics(path: Path, case: Case) -> None:
    run = RunDirectory(path)
    lines = run.step_metrics()
    raw = [line for line in run.metrics_file.read_bytes().split(b"\n") if line.strip()] if lines else []
    steps = [line for line in raw if b'"entropy"' in line]
    expect(len(lines) in (len(steps), len(steps) - 1) or not lines, f"{len(lines)} steps of {len(steps)}")
    run.last_step()
    entropy_section(lines)
    scores_section(run.eval_metrics())
    summarise_tracking(lines)


def _read_config(path: Path, case: Case) -> None:
    run = RunDirectory(path)
    known = parse_config(run.config()).to_dict()
    run.refuse_unless_usable(known, resume=True, read=resolved)
    carried_from([str(path)], None)
    max_tokens_from(str(path), None)


def _explain(path: Path, case: Case) -> None:
    describe(explain(RunDirectory(path).step_metrics()))


_READERS = (
    _read_config,
    _read_metrics,
    _explain,
    lambda path, case: rows_of("runs", path.parent),
    lambda path, case: read_state(path / "state.json"),
    lambda path, case: model_path_of(str(path)),
    lambda path, case: RunDirectory(path).checkpoint_to_resume(controlled=case["controlled"], step=case["resume_from"]),
)

TARGET = Target("run_directories", draw, try_case)
