"""What the server works with, as long as it runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from entrocraft.app.events import Events
from entrocraft.app.launch import Launcher
from entrocraft.app.library import Library
from entrocraft.app.recipes import Recipe


@dataclass(frozen=True)
class App:
    """The parts that routes ask."""

    library: Library
    recipes: Mapping[str, Recipe]
    launcher: Launcher
    events: Events
