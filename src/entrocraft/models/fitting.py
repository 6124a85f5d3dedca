"""Whether a configuration asks for a model of about the size of its weights, before any of it takes memory.

`from_pretrained` makes the model that the configuration describes, and only then looks at what the files hold.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_PER_NUMBER = 16  # weights that one number of a file may stand for: the tightest packing there is holds 16


def check_fit(name: str, folder: Path) -> None:
    """Refuse a folder of which the configuration describes a model far larger than its weights.

    Args:
        name: The model, for messages.
        folder: Where configuration and safetensors files are; nothing is checked where there are no such files.

    Raises:
        InvalidValueError: It has more layers than there are tensors, or more numbers than these could hold.
        Exception: Whatever readers of damaged files raise.
    """
    files = list(_files_in(folder))
    if not files:
        return
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    num_tensors, num_held = 0, 0
    for each in files:
        with safe_open(each, framework="pt") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118 - it is no mapping
        num_tensors += len(shapes)
        num_held += sum(torch.Size(shape).numel() for shape in shapes)
    config = AutoConfig.from_pretrained(folder)
    num_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(num_layers, int) and num_layers > num_tensors:
        raise _does_not_fit(name, f"{num_layers:,} layers", f"{num_tensors:,} tensors")
    with torch.device("meta"):  # shapes alone, which take no memory
        model: Any = AutoModelForCausalLM.from_config(config)
    wanted = sum(value.numel() for value in model.parameters())
    if wanted > _MOST_PER_NUMBER * num_held:
        raise _does_not_fit(name, f"{wanted:,} numbers", f"{num_held:,}")


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files that hold the weights, one or several; those that are no files are left to whoever reads them."""
    if (folder / _WEIGHTS).is_file():
        yield folder / _WEIGHTS
    elif (folder / _INDEX).is_file():
        names = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        yield from (folder / each for each in sorted(set(names)))


def _does_not_fit(name: str, wanted: str, held: str) -> InvalidValueError:
    return InvalidValueError(
        f"model {name!r}: config.json describes a model of {wanted}, and the files hold {held}; use the config.json "
        "that was saved with these weights"
    )
