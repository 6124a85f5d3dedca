"""Whether the weights that were loaded are those of the file, all of them, and numbers.

`from_pretrained` fills what a file lacks with random numbers, and says so in a log at most.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.models.places import found_at

_MOST_NAMED = 3
_OF_A_MODEL = {".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt"}
_PARTS, _PART_BYTES = 256, 2**16  # of a file: all of it up to 16 MiB


def check_loaded(name: str, info: Mapping[str, Any]) -> None:
    """Refuse a model of which weights are missing, left over or of other shapes; tied weights are none of these.

    Args:
        name: The model, for messages.
        info: What `from_pretrained(..., output_loading_info=True, ignore_mismatched_sizes=True)` says.

    Raises:
        InvalidValueError: The message names the first such weights.
    """
    _refuse(name, "the file lacks", info.get("missing_keys", ()), "they would be random numbers; get the whole model")
    _refuse(
        name,
        "the file also holds",
        info.get("unexpected_keys", ()),
        "the configuration has no place for them; use the config.json that was saved with these weights",
    )
    _refuse(
        name,
        "of other shapes than the configuration's are",
        [f"{key} ({_shape(held)}, not {_shape(wanted)})" for key, held, wanted in info.get("mismatched_keys", ())],
        "they would be random numbers; use the config.json that was saved with these weights",
    )


def check_adapter(name: str, folder: Path, loaded: Iterable[str]) -> None:
    """Refuse an adapter whose file does not hold the weights that its configuration asks for.

    Args:
        name: The adapter, for messages.
        folder: Where its safetensors file is.
        loaded: Names of the adapter's weights in the model.

    Raises:
        InvalidValueError: The message names the first weights that are missing or left over.
    """
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        held = set(file.keys())
    wanted = set(loaded)
    _refuse(name, "the adapter's file lacks", wanted - held, "they would do nothing; get the whole adapter")
    _refuse(
        name,
        "the adapter's file also holds",
        held - wanted,
        "adapter_config.json has no place for them; use the one that was saved with these weights",
    )


def check_finite(name: str, model: Any) -> None:
    """Refuse a model that has weights which are no numbers, as a run that diverged leaves them.

    Raises:
        InvalidValueError: The message names the first such weights.
    """
    broken = [key for key, value in model.state_dict().items() if value.is_floating_point() and not _is_finite(value)]
    _refuse(
        name,
        "NaN or infinite numbers are in",
        broken,
        "the run that saved it has diverged: take an earlier checkpoint, or lower its learning rate",
    )


def not_finite_in(folder: Path) -> list[str]:
    """Return which weights of a checkpoint are no numbers, the first of each safetensors file, without a model."""
    from safetensors import safe_open

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            tensors = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
            broken = (name for name, value in tensors if value.is_floating_point() and not _is_finite(value))
            first = next(broken, None)
        if first is not None:
            found.append(f"NaN or infinite numbers are in {first} of {path.name}")
    return found


def digest_of_model(source: str) -> str | None:
    """Return what tells a saved model from another that stands in the same place later; None for one of the hub.

    Of a large file parts are read, evenly spread: training leaves none of them as it was, and to read all of it would
    take minutes.

    Args:
        source: Folder of a saved model, or a GGUF file, as `resolve_model` returns it.
    """
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    digest = hashlib.sha256()
    for file in files:
        if file.suffix not in _OF_A_MODEL or not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode("utf-8", "surrogateescape"))
        with file.open("rb") as stream:
            parts = min(_PARTS, size // _PART_BYTES + 1)
            for part in range(parts):  # the first from the beginning, the last up to the end
                stream.seek(max(0, size - _PART_BYTES) * part // max(1, parts - 1))
                digest.update(stream.read(_PART_BYTES))
    return digest.hexdigest()[:16] if files else None


def base_of_adapter(file: Path) -> str:
    """Return the name of the model that an adapter was trained on, from its configuration file.

    Raises:
        InvalidValueError: The file names none, or one that cannot be, or itself.
    """
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(f"{file} names no base model: {error!r:.200}") from error
    if not isinstance(base, str) or not base:
        raise InvalidValueError(f"{file} names no base model, got {base!r:.200}")
    if found_at(base) == "folder" and Path(base).resolve() == file.parent.resolve():
        raise InvalidValueError(
            f"{file} names itself as the base model; set base_model_name_or_path to the model it adapts"
        )
    return base


def _is_finite(value: Any) -> bool:
    # A sum is finite only if every number is, short of an overflow; only then each is looked at.
    return bool(value.float().sum().isfinite()) or bool(value.isfinite().all())


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _refuse(name: str, what: str, keys: Collection[str], remedy: str) -> None:
    if not keys:
        return
    named = sorted(keys)[:_MOST_NAMED]
    more = f" and {len(keys) - len(named)} more" if len(keys) > len(named) else ""
    raise InvalidValueError(f"model {name!r}: {what} {', '.join(named)}{more}: {remedy}")


def keep_from_file(model: Any) -> None:
    """Give a model memory of its own.

    safetensors maps a file into memory, and on a CPU weights stay there: whoever writes that file anew, in its place,
    sets a model back to what the file says, in the middle of a training.
    """
    for tensor in (*model.parameters(), *model.buffers()):  # each once, so that those that are tied stay so
        tensor.data = tensor.data.clone()
