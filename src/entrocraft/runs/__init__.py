"""What a run leaves behind: its directory, its metrics, how closely it followed its curve.

Needs neither torch nor TRL.
"""

from entrocraft.runs.directory import RunDirectory, model_path_of

__all__ = ["RunDirectory", "model_path_of"]
