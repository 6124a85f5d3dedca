"""Models by name: the embedded one, a folder, or a hub id."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError

EMBEDDED = {"countdown-base": "A Llama of 1.2 million parameters that half knows Countdown; see its model card."}


def resolve_model(name: str) -> str:
    """Return what `from_pretrained` takes for `name`.

    Raises:
        InvalidValueError: It is neither embedded, nor a folder with a model, nor shaped like a hub id.
    """
    if name in EMBEDDED:
        return str(files("entrocraft") / "assets" / name)
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidValueError(f"model {name!r}: the folder holds no config.json, so it is no saved model")
        return name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and all(name.split("/")):
        return name
    raise InvalidValueError(
        f"model {name!r} is not there: expected an embedded model ({', '.join(EMBEDDED)}), "
        "a folder that holds a saved model, or a hub id such as 'org/model'"
    )


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of `name`; see `load_model`."""
    from transformers import AutoTokenizer

    source = resolve_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str) -> Any:
    """Load the causal language model `name`, from safetensors only.

    Raises:
        InvalidValueError: There is no such model, or it cannot be read.
    """
    from transformers import AutoModelForCausalLM

    source = resolve_model(name)
    try:
        return AutoModelForCausalLM.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, "model", error) from error


def _not_loaded(name: str, what: str, error: Exception) -> InvalidValueError:
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return InvalidValueError(f"cannot load the {what} of {name!r}: {first_line}")
