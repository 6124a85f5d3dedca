"""What trackers wrote of a run, read back: series of numbers by name, the run's name, tables of completions."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tracked:
    """What a tracker holds of one run."""

    name: str | None = None
    """What the tracker calls the run."""
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By name: optimizer step and value."""
    completions: list[list] = field(default_factory=list)
    """Texts of each table of completions."""

    def add(self, numbers, step):
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self.series.setdefault(name, []).append((step, value))


def from_tensorboard(folder):
    """Read the event file of the only run under a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = Path(folder).rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    said = events.Tensors("args/text_summary")[0].tensor_proto.string_val[0]
    series = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    return Tracked(json.loads(said)["run_name"], series)


def from_trackio(folder):
    """Read the data base of the only run of the project, whose name transformers chooses."""
    import sqlite3

    with sqlite3.connect(Path(folder) / "trackio" / "huggingface.db") as base:
        rows = base.execute("select run_name, metrics from metrics order by id").fetchall()
    found = Tracked(rows[0][0])
    for name, logged in rows:
        assert name == found.name
        numbers = json.loads(logged)
        if "completions" in numbers:
            found.completions.append([row["completion"] for row in numbers["completions"]["_value"]])
        found.add(numbers, numbers.get("train/global_step"))
    return found


def from_wandb(folder):
    """Read the file of the only offline run under a folder."""
    (file,) = Path(folder).rglob("run-*.wandb")
    found = Tracked()
    for record in _records(file.read_bytes()):
        if record.WhichOneof("record_type") == "run":
            found.name = record.run.display_name
        elif record.WhichOneof("record_type") == "history":
            logged = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            found.add(logged, logged.get("train/global_step"))
    for table in sorted(file.parent.rglob("completions_*.table.json")):
        content = json.loads(table.read_text())
        at = content["columns"].index("completion")
        found.completions.append([row[at] for row in content["data"]])
    return found


def _records(data):
    """Yield the records of a .wandb file: LevelDB's log format, behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    block, header, whole, last = 1 << 15, 7, 1, 4
    assert data.startswith(b":W&B")
    at, payload = header, b""
    while at + header <= len(data):
        if block - at % block < header:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + header])
        payload += data[at + header : at + header + length]
        at += header + length
        if kind in (whole, last):
            record = Record()
            record.ParseFromString(payload)
            payload = b""
            yield record
