"""Mistakes that the page is told with a status of their own."""

from entrocraft.errors import RunDirectoryError


class NotFoundError(RunDirectoryError):
    """There is nothing of that name."""


class ConflictError(RunDirectoryError):
    """It cannot be done now: something else runs, it exists already, or it cannot be steered."""
