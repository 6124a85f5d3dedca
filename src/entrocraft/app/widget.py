"""The editor as a widget of notebooks: what the browser draws comes here, and what it means goes back.

Import it where anywidget is needed, as it is not part of the library's own dependencies.
"""

from pathlib import Path
from typing import Any

from entrocraft.app.curves import KINDS, MOST_STEPS, columns_of, drawing_from, request_of
from entrocraft.app.drawing import CURVE_FIELDS, yaml_of
from entrocraft.app.requests import Request
from entrocraft.app.starting import curve_settings
from entrocraft.errors import EntrocraftError, MissingDependencyError
from entrocraft.schedules import Band, Schedule

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise MissingDependencyError("drawing in a notebook needs anywidget: pip install 'entrocraft[notebook]'") from error

_POINTS = 300


class CurveWidget(anywidget.AnyWidget):
    """An entropy curve that is drawn with the mouse, touch or keys.

    Args:
        band: What to begin with.
        steps: Length of the run, in optimizer steps.

    Raises:
        InvalidValueError: The number of steps cannot be used.
    """

    _esm = Path(__file__).parent / "static" / "vendor" / "widget.js"

    steps = traitlets.Int().tag(sync=True)
    kinds = traitlets.List(default_value=list(KINDS)).tag(sync=True)
    curve = traitlets.Dict().tag(sync=True)
    """The curve as the editor has it, from which another view of the widget begins."""
    request = traitlets.Dict().tag(sync=True)
    """The same curve in the words of the server's `api/curve`."""
    answer = traitlets.Dict().tag(sync=True)
    """The band over the steps of the run, as columns."""
    problem = traitlets.Unicode().tag(sync=True)
    """Why what was drawn last cannot be used; empty if it can."""

    def __init__(self, band: Band, steps: int):
        checked = Request({"steps": steps}, ("steps",)).whole_number("steps", 100, least=1, most=MOST_STEPS)
        super().__init__(steps=checked, curve=request_of(band))
        self._take(band)

    @property
    def band(self) -> Band:
        """The band as it is drawn now; while that cannot be used, as it was before."""
        return self._band

    @property
    def schedule(self) -> Schedule | None:
        """The target as it is drawn now; None where the band is two edges that are drawn on their own."""
        return self._band.schedule

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._band!r}, steps={self.steps})"

    @property
    def yaml(self) -> str:
        """The control section of a configuration with the curve in it."""
        return yaml_of(curve_settings(self._band))

    @traitlets.observe("request")
    def _draw(self, change: Any) -> None:
        try:
            self._take(drawing_from(Request({**change.new, "steps": self.steps}, CURVE_FIELDS)).band)
        except EntrocraftError as error:
            self.problem = str(error)

    def _take(self, band: Band) -> None:
        self._band = band
        with self.hold_sync():
            self.answer = columns_of(band, self.steps, _POINTS)
            self.problem = ""
