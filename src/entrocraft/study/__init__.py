"""Studies: methods x schedules x tasks x seeds, run one by one or several at once, and compared."""

from entrocraft.study.cells import Cell, PlannedRun, cells_of
from entrocraft.study.settings import StudyConfig, load_study

__all__ = ["Cell", "PlannedRun", "StudyConfig", "cells_of", "load_study"]
