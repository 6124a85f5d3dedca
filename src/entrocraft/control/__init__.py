"""The heart: where entropy should be, and what each update may learn from so that it gets there. Knows no engine."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "EntropyControl":
        raise AttributeError(name)
    from entrocraft.control.settings import EntropyControl

    return EntropyControl
