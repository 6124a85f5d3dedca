"""Folders of models and adapters in which something is damaged, missing, of another shape, or no file."""

import json
import struct
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from entrocraft.errors import EntrocraftError
from entrocraft.models import context_length, load_model, load_tokenizer
from entrocraft.models.loading import resolve_model
from entrocraft.runs.checkpoints import Checkpoint
from fuzz import mutate, noise, places
from fuzz.target import Case, Outcome, Target, expect, fault_of_message

_WEIGHTS = "model.safetensors"
_TINY = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
_TINY |= {"num_key_value_heads": 1, "head_dim": 8}
_ADAPTER = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


@cache
def _whole() -> dict[str, str]:
    """Return the files of a tiny model with the tokenizer of the embedded one."""
    embedded = files("entrocraft") / "assets" / "countdown-base"
    config = json.loads((embedded / "config.json").read_text()) | _TINY
    vocabulary = config["vocab_size"]
    shapes = {"model.embed_tokens.weight": (vocabulary, 8), "model.norm.weight": (8,)}
    layer = "model.layers.0"
    shapes |= {f"{layer}.self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"}
    shapes |= {f"{layer}.mlp.{name}_proj.weight": (8, 8) for name in ("gate", "up", "down")}
    shapes |= {f"{layer}.{name}_layernorm.weight": (8,) for name in ("input", "post_attention")}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocabulary, 8)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found = {name: (embedded / name).read_text() for name in ("tokenizer.json", "tokenizer_config.json")}
    found["generation_config.json"] = (embedded / "generation_config.json").read_text()
    return found | {"config.json": json.dumps(config), _WEIGHTS: save(weights, {"format": "pt"}).decode("latin-1")}


def draw(rng: Random) -> Case:
    """Draw the files that are not as they should be, and whether a whole model is asked for."""
    damaged: dict[str, Any] = {}
    lacks = False
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice((_WEIGHTS, _WEIGHTS, "config.json", "config.json", *_whole()))
        if name == _WEIGHTS and rng.random() < 0.6:
            damaged[name], lacks = {"kind": "file", "content": _other_weights(rng)}, True
        elif not (name == _WEIGHTS and lacks):
            damaged[name] = _damage(rng, _whole()[name])
    if rng.random() < 0.05:
        adapter = _ADAPTER | {"base_model_name_or_path": rng.choice(("countdown-base", "nowhere", ".", "", None, 3))}
        written = mutate.as_json(rng, mutate.changed(rng, adapter, most=1))
        damaged["adapter_config.json"] = {"kind": "file", "content": mutate.as_bytes(written)}
        damaged["adapter_model.safetensors"] = _damage(rng, _whole()[_WEIGHTS])
    return {"files": damaged, "lacks": lacks and len(damaged) == 1}


def _other_weights(rng: Random) -> str:
    """Return weights of which some are missing, of another name, shape or type, or no numbers."""
    weights = load(_whole()[_WEIGHTS].encode("latin-1"))
    name = rng.choice(sorted(weights))
    value = weights.pop(name)
    match rng.randrange(5):
        case 0:
            weights[name + rng.choice((".x", "0", "_", "\u00e9"))] = value
        case 1:
            weights[name] = np.zeros(rng.choice(((0,), (3, 3), (8, 8, 8), (1,), (16, 8))), dtype=np.float32)
        case 2:
            weights[name] = np.full_like(value, rng.choice((np.nan, np.inf)))
        case 3:
            kept = rng.randint(0, len(weights))
            weights = dict(sorted(weights.items())[:kept])
        case _:
            pass  # it is missing
    return save(weights, {"format": "pt"}).decode("latin-1")


def _damage(rng: Random, content: str) -> dict[str, str]:
    kind = rng.random()
    if kind < 0.1:
        return {"kind": rng.choice((*places.KINDS, "missing"))}
    if kind < 0.12:
        return {"kind": "file", "content": noise.nested(rng) if rng.random() < 0.5 else noise.nested(rng, '{"a":', "}")}
    if content.startswith("{"):
        data = json.loads(content)
        if kind < 0.8:
            return {"kind": "file", "content": mutate.as_bytes(mutate.as_json(rng, mutate.changed(rng, data, most=2)))}
        return {"kind": "file", "content": mutate.as_bytes(mutate.edited(rng, content))}
    return {"kind": "file", "content": _damaged_weights(rng, content.encode("latin-1"))}


def _damaged_weights(rng: Random, content: bytes) -> str:
    """Return a safetensors file with another header, or cut somewhere."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + length].decode(), content[8 + length :]
    kind = rng.random()
    if kind < 0.5:
        header = mutate.as_json(rng, mutate.changed(rng, json.loads(header), most=2))
    elif kind < 0.7:
        header = mutate.edited(rng, header)
    else:
        body = body[: rng.randrange(len(body))] if kind < 0.85 else body + b"\0" * rng.randint(1, 9)
    written = header.encode("utf-8", "surrogatepass")
    size = len(written) if rng.random() < 0.9 else rng.choice((0, 2**63, 2**64 - 1, length + 1))
    return (struct.pack("<Q", size) + written + body).decode("latin-1")


def try_case(case: Case) -> Outcome:
    """Load a model and its tokenizer; one that lacks weights, or has others than it should, is never taken."""
    with places.folder() as folder:
        for name, content in (_whole() | case["files"]).items():
            about = {"kind": "file", "content": content} if isinstance(content, str) else content
            if about["kind"] != "missing":
                places.put(folder / name, about.get("content", ""), about["kind"])
        Checkpoint(1, folder).damage_of_weights()
        resolve_model(str(folder))
        errors = []
        for read in _readers_of(case["files"]):
            try:
                found = read(str(folder))
            except (EntrocraftError, OSError) as error:
                expect(not fault_of_message(str(error)), fault_of_message(str(error)))
                errors.append(error)
            else:
                if read is load_model:
                    _check_model(found, folder, case)
    return "refused" if errors else "accepted"


def _readers_of(damaged: Mapping[str, Any]) -> list[Callable[[str], Any]]:
    """Return what reads the files that are damaged, for each reader takes its time."""
    readers: list[Callable[[str], Any]] = [load_tokenizer] if any("token" in name for name in damaged) else []
    if any("config.json" in name and "token" not in name for name in damaged):
        readers.append(context_length)
    return readers if readers == [load_tokenizer] else [*readers, load_model]


def _check_model(model: Any, folder: Path, case: Case) -> None:
    """Hold the weights of a model that was taken against those of its file."""
    expect(not case["lacks"], "a model that lacks weights, or has others, is taken")
    if (folder / "adapter_config.json").exists():
        return
    held = load((folder / _WEIGHTS).read_bytes())
    for name, value in model.state_dict().items():
        if name in held:
            expect(np.array_equal(value.float().numpy(), held[name].astype(np.float32)), f"{name} is not the file's")


def _prepare() -> None:
    load_model("countdown-base")  # imports what loading needs, which takes longer than a case may


TARGET = Target("model_folders", draw, try_case, cpu_seconds=4.0, prepare=_prepare)
