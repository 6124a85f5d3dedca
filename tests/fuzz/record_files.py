"""Metrics and rollouts files, which grow while they are read and may end in a torn line."""

import json
import math
from random import Random
from typing import Any

from entrocraft.errors import RunDirectoryError
from entrocraft.runs.lines import JsonLines
from entrocraft.runs.rollouts import RolloutFile, RolloutText, rewind_rollouts
from fuzz import mutate, noise, places
from fuzz.target import Case, Outcome, Target, expect

_PIECES = (
    "\n",
    "\n\n",
    "}",
    "{",
    '{"step": 3}',
    "NaN",
    "Infinity",
    "1e999",
    "-0",
    "\x00",
    "\xff",
    "\r",
    "\xed\xa0\xbd",
)


def draw(rng: Random) -> Case:
    """Draw what a file holds after each time something was added to it, and a step to go back to."""
    metrics = rng.random() < 0.7
    lines = [_metrics_line(rng, step) if metrics else _rollouts_line(rng, step) for step in range(1, rng.randint(1, 7))]
    if lines and rng.random() < 0.5:
        i = rng.randrange(len(lines))
        lines[i] = mutate.as_json(rng, mutate.changed(rng, json.loads(lines[i]), most=2))
    text = "".join(f"{line}\n" for line in lines)
    if rng.random() < 0.02:
        text += noise.nested(rng, '{"a": ', "}")
    content = mutate.as_bytes(text)
    if rng.random() < 0.5:
        content = mutate.edited(rng, content, _PIECES, most=2)
        content = content.encode("latin-1", "replace").decode("latin-1")
    cuts = sorted(rng.randrange(len(content) + 1) for _ in range(rng.choice((0, 1, 2))))
    return {
        "file": "metrics" if metrics else "rollouts",
        "contents": [content[:cut] for cut in (*cuts, len(content))],
        "step": rng.randint(0, 6),
    }


def _metrics_line(rng: Random, step: int) -> str:
    if rng.random() < 0.2:
        return json.dumps({"step": step, "eval/mean@8": 0.5, "eval/mean@8/low": 0.4, "eval/mean@8/high": 0.6})
    line: dict[str, Any] = {"step": step, "entropy": round(rng.uniform(0, 2), 4), "target": 0.5, "lower": 0.4}
    return json.dumps(line | {"upper": 0.6, "direction": 1, "kept_fraction": 0.5, "reward": None, "seconds": 1.25})


def _rollouts_line(rng: Random, step: int) -> str:
    line: dict[str, Any] = {"step": step, "group": [0, 0, 1], "reward": [1, 0, 0.5], "tokens": [3, 2, 1]}
    return json.dumps(line | {"texts": [{"row": 0, "prompt": "1+1=", "completion": rng.choice(("2", "\u2028", "x"))}]})


def try_case(case: Case) -> Outcome:
    """Read a file as it grows, then go back to a step in it; no line is lost, and none is made up."""
    with places.folder() as folder:
        path = folder / f"{case['file']}.jsonl"
        if case["file"] == "metrics":
            reader = JsonLines(path)
            for content in case["contents"]:
                places.put(path, content)  # a file of the same place: it only grows
                found = reader.read()
                _check_lines(found, content)
            return _go_back_in_metrics(reader, case["step"])
        places.put(path, case["contents"][-1])
        _go_back_in_rollouts(case, path)
        JsonLines(path, numbers_only=False).read()
        RolloutFile(path, total_steps=10).append(
            7,
            {"group": [0], "reward": [math.inf]},
            lambda rows: [RolloutText("a", "\ud83d", ["\ud83d"], [math.nan], [True])],
        )
        return "accepted"


def _check_lines(found: list[dict[str, Any]], content: str) -> None:
    """Hold what was read against the lines of the file, each read by itself."""
    lines = content.encode("latin-1").split(b"\n")
    whole = [line for line in lines[:-1] if line.strip()]
    expect(len(found) in (len(whole) - 1, len(whole), len(whole) + 1), f"{len(found)} lines of {len(whole)}")
    expect(len(found) >= len(whole) or not _is_line(whole[-1]), f"the last line is lost: {whole[-1:]!r:.200}")
    for line, raw in zip(found, (*whole, lines[-1]), strict=False):
        wanted = json.loads(raw)
        expect(line.keys() == wanted.keys(), f"line {raw[:200]!r} has other columns: {line!r:.300}")
        for name, value in wanted.items():
            same = line[name] == value or (line[name] is None and isinstance(value, float) and not math.isfinite(value))
            expect(same, f"{name!r:.100} is {value!r:.100} in the file, and {line[name]!r:.100} when read")


def _is_line(raw: bytes) -> bool:
    """Return whether bytes are a line of metrics, judged without the reader."""
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict) or type(data.get("step")) is not int or not 0 <= data["step"] < 2**63:
        return False
    return all(value is None or isinstance(value, bool | float | int) for value in data.values()) and all(
        abs(value) < 2**63 for value in data.values() if type(value) is int
    )


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _go_back_in_metrics(reader: JsonLines, step: int) -> Outcome:
    before = reader.read()
    kept = reader.keep_up_to(step)
    if kept is not None:
        reader.path.write_bytes(kept)
        wanted = [line for line in before if line["step"] <= step]
        expect(JsonLines(reader.path).read() == wanted, f"other lines stay than those up to step {step}")
    return "accepted"


def _go_back_in_rollouts(case: Case, path: Any) -> None:
    """Forget later steps; what stays is a beginning of the file, in whole lines of earlier steps."""
    rewind_rollouts(path, case["step"])
    kept, content = path.read_bytes(), case["contents"][-1].encode("latin-1")
    expect(content.startswith(kept) and kept[-1:] in (b"", b"\n"), "what stays is no beginning of the file")
    try:
        lines = JsonLines(path, numbers_only=False).read()
    except RunDirectoryError:
        return  # damaged before; nothing was made worse
    expect(all(line["step"] <= case["step"] for line in lines), f"steps after {case['step']} stay")


TARGET = Target("record_files", draw, try_case, labels=lambda case: [case["file"]])
