"""What all pictures share: colours, and how they are written. Import this before matplotlib."""

from pathlib import Path

from entrocraft.errors import InvalidValueError, MissingDependencyError
from entrocraft.runs.files import replacing

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependencyError("pictures need matplotlib: pip install 'entrocraft[plots]'") from error

__all__ = ["COLOURS", "STYLES", "TARGET", "Axes", "Figure", "write_picture"]

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b7791f", "#c53030")
STYLES = ("-", "--", ":", "-.")
"""Lines beyond as many as there are colours are told apart by their style."""
TARGET = "#4a5568"


def write_picture(figure: Figure, file: Path) -> None:
    """Write `figure` to `file`, making its folder.

    Raises:
        InvalidValueError: The file's ending is no picture format.
    """
    formats = sorted(figure.canvas.get_supported_filetypes())
    if file.suffix.removeprefix(".") not in formats:
        raise InvalidValueError(
            f"cannot draw to {file}: expected an ending such as .png or .svg, of {', '.join(formats)}"
        )
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=130)
