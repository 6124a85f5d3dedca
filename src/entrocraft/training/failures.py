"""What goes wrong in training, in one line: what was got, and what to do."""

import errno

from entrocraft.errors import (
    EntrocraftError,
    InvalidValueError,
    MeasurementError,
    RunDirectoryError,
    first_line,
    os_error_line,
    shortened,
)

_DIVERGED = ("probability tensor contains", "must have nonzero probability", "invalid multinomial distribution")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "NCCL", "gloo")
_WAY_ON = ". Once that is mended, go on with --resume"
_UNWRITTEN = ("PytorchStreamWriter", "unexpected pos", "file write failed")


class LostProcessError(EntrocraftError, RuntimeError):
    """Another process of the run has ended without a word, such as one that was killed."""


def explained(error: BaseException, *, step: int, begun: bool) -> EntrocraftError | None:
    """Return what to tell a user about an error that ended training; None if it is a mistake of ours.

    Args:
        error: What was raised, by whichever library.
        step: The optimizer step that was under way.
        begun: Whether this process has made a step. Before it has, whatever is raised comes from settings that cannot
            be used, or from a checkpoint that does not fit them.
    """
    if isinstance(error, EntrocraftError):
        return _with_way_on(error) if step > 1 else error
    said = first_line(error)
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if is_full or type(error).__name__ == "SafetensorError" or any(sign in said for sign in _UNWRITTEN):
        if any(sign in said for sign in _UNWRITTEN):  # torch does not pass on why
            said = "a file of the checkpoint was cut short"
        said = os_error_line(error) if isinstance(error, OSError) else said
        return RunDirectoryError(
            f"step {step}: what the run leaves behind cannot be written: {said}. Make room, and go on with --resume"
        )
    if isinstance(error, RuntimeError) and any(sign in said for sign in _LOST):
        about = shortened(said.rpartition("] ")[2] if said.startswith("[") else said, 160)
        remedy = (
            "If it was only slow, give it more time by train.trl.ddp_timeout"
            if "time" in about.lower()
            else "Its launcher says how it ended"
        )
        return LostProcessError(
            f"step {step}: lost touch with another process of the run ({about}). {remedy}; go on with --resume"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return RunDirectoryError(f"step {step}: {os_error_line(error)}{_WAY_ON}")
    if any(sign in said for sign in _DIVERGED):
        return MeasurementError(
            f"step {step}: the policy has diverged, its probabilities are no numbers any more ({said}). Lower "
            "train.learning_rate, or set train.trl.max_grad_norm; an earlier checkpoint may still be sound"
        )
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return InvalidValueError(
            f"step {step}: out of memory ({said}). Lower train.micro_batch_size or train.max_completion_tokens"
        )
    if begun:
        return None
    kind = "" if said == type(error).__name__ else f"{type(error).__name__}: "
    return InvalidValueError(
        f"training cannot begin with these settings: {kind}{said}. See what is in train.trl and which packages it "
        "needs; ENTROCRAFT_TRACE=1 shows where this was raised"
    )


def _with_way_on(error: EntrocraftError) -> EntrocraftError:
    """Return the error of a run that has made steps, which also says how to go on."""
    said = str(error)
    return error if "--resume" in said else type(error)(f"{said.removesuffix('.')}{_WAY_ON}")
