"""Knobs of TRL's loss that decisions may turn."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_EPSILONS = {"clip_low": "epsilon_low", "clip_high": "epsilon_high"}


@contextmanager
def turned(trainer: Any, knobs: Mapping[str, float]) -> Iterator[None]:
    """Turn knobs of a trainer for the duration: TRL's loss reads them anew each time.

    Args:
        trainer: A GRPOTrainer or RLOOTrainer.
        knobs: By name: `entropy_coef` comes on top of the coefficient that the user's arguments ask for, `clip_low`
            and `clip_high` take the places of `epsilon_low` and `epsilon_high`; `learning_rate` is the optimizer's
            and not the loss's (see `ScaledRate`).
    """
    values: dict[str, Any] = {}
    if "entropy_coef" in knobs:
        # TRL looks at the flag, settled when the trainer was made, before it looks at the coefficient.
        values |= {"entropy_coef": trainer.entropy_coef + knobs["entropy_coef"], "_entropy_bonus_enabled": True}
    values |= {_EPSILONS[name]: value for name, value in knobs.items() if name in _EPSILONS}
    own = {name: getattr(trainer, name) for name in values}
    _set(trainer, values)
    try:
        yield
    finally:
        _set(trainer, own)


def _set(trainer: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(trainer, name, value)
