"""What stands at the path that a model's name may be."""

from pathlib import Path
from typing import Literal

from entrocraft.errors import InvalidValueError, shortened


def found_at(name: str) -> Literal["file", "folder", "nothing"]:
    """Return what there is at the path `name`.

    Raises:
        InvalidValueError: No path can have that name, which may come from a file, or it may not be looked at.
    """
    path = Path(name)
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else "nothing"
    except OSError as error:
        raise InvalidValueError(f"model {shortened(name, 300)!r}: {error.strerror}") from error
