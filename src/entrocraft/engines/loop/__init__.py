"""One call for a loop of one's own: arrays in, what the update may use out, with a state that is plain data."""

from entrocraft.engines.loop.deciding import Decided, decide
from entrocraft.engines.loop.settings import Loop

__all__ = ["Decided", "Loop", "decide"]
