"""Whether a tokenizer's files ask for about as much as they hold, before any of it takes memory or hours.

The reader of tokenizers keeps a table up to the highest id, and ends the process where that does not fit in memory; a
special token of forty thousand characters takes it a minute.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError, shortened

_VOCABULARY = "tokenizer.json"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_LONGEST = 1000  # characters of a special token; those of known models have some 30
_SPARE_IDS = 1000  # ids beyond twice the number of tokens; known vocabularies have next to none


def check_tokenizer_files(name: str, folder: Path) -> None:
    """Refuse a folder of which the tokenizer has ids far beyond its tokens, or special tokens of absurd length.

    Args:
        name: The model, for messages.
        folder: Where the tokenizer's files are; what is missing, or no JSON, is left to whoever reads it next.

    Raises:
        InvalidValueError: An id is above twice the number of tokens, or a special token has over 1,000 characters.
    """
    vocabulary = _read(folder / _VOCABULARY)
    ids = list(_ids(vocabulary))
    highest, most = max(ids, default=0), 2 * len(ids) + _SPARE_IDS
    if highest > most:
        raise InvalidValueError(
            f"cannot load the tokenizer of {name!r}: {_VOCABULARY} holds {len(ids):,} tokens, and gives one of "
            f"them the id {shortened(str(highest))}, where at most {most:,} is expected; is the file damaged?"
        )
    for file, content in [(_VOCABULARY, vocabulary), *((each, _read(folder / each)) for each in _SETTINGS)]:
        longest = max((len(text) for text in _special_tokens(content)), default=0)
        if longest > _LONGEST:
            raise InvalidValueError(
                f"cannot load the tokenizer of {name!r}: {file} holds a special token of {longest:,} characters, where "
                f"at most {_LONGEST:,} are expected; is the file damaged?"
            )


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _ids(vocabulary: Mapping[str, Any]) -> Iterator[int]:
    """Yield the ids of `model.vocab`, where tokens have theirs or stand in order, and of the added tokens."""
    model = vocabulary.get("model")
    tokens = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(tokens, dict):
        yield from (index for index in tokens.values() if isinstance(index, int))
    elif isinstance(tokens, list):
        yield from range(len(tokens))
    yield from (token["id"] for token in _added(vocabulary) if isinstance(token.get("id"), int))


def _special_tokens(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of special tokens: those added, and those by name, such as `pad_token`."""
    decoder = content.get("added_tokens_decoder")
    named = [value for key, value in content.items() if key.endswith("_token")]
    lists = [content.get(key) for key in ("additional_special_tokens", "extra_special_tokens")]
    listed = [token for each in lists if isinstance(each, list) for token in each]
    for token in [*_added(content), *(decoder.values() if isinstance(decoder, dict) else ()), *named, *listed]:
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            yield text


def _added(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    tokens = content.get("added_tokens")
    return [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
