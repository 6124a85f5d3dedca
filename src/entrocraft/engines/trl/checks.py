"""What TRL's own arguments rule out: refused before the model loads, with what to set instead."""

from typing import Any

from entrocraft.control import EntropyControl
from entrocraft.control.capabilities import warn_of_one_update
from entrocraft.control.methods import Method
from entrocraft.engines.trl.settings import (
    KNOWN_SCALING,
    LOSS_DENOMINATOR,
    capabilities,
    loss_type_of,
    optimizer_name,
    ratio_stays_at_one,
    top_entropy_quantile,
)
from entrocraft.errors import InvalidValueError


def checked_control(control: EntropyControl, trainer_args: Any) -> EntropyControl:
    """Return the settings with the method that fits the loss, if the user has named none, after checking them.

    Raises:
        InvalidValueError: The settings cannot be right under TRL's arguments.
    """
    settled = control.settled(capabilities(trainer_args))
    check_trainer_args(settled, settled.new_method(), settled.method_name or "", trainer_args)
    return settled


def check_trainer_args(control: EntropyControl, method: Method, name: str, trainer_args: Any) -> None:
    """Raise `InvalidValueError` if `control` with this method cannot be right under TRL's arguments.

    Args:
        control: The settings.
        method: The method that decides, which may be another than the settings name.
        name: Its name, for messages.
        trainer_args: A GRPOConfig or RLOOConfig.
    """
    if trainer_args.num_iterations < 1:  # TRL divides by it at the first step
        raise InvalidValueError(f"num_iterations is {trainer_args.num_iterations}: expected 1 or more")
    loss_type = loss_type_of(trainer_args)
    drops = control.drops(method)
    if drops:
        if loss_type not in LOSS_DENOMINATOR:
            raise InvalidValueError(
                f"dropping rollouts is not known to be right for loss_type={loss_type!r}; known: "
                f"{', '.join(sorted(LOSS_DENOMINATOR))}. Use EntropyControl(rejected='mask')."
            )
        if getattr(trainer_args, "use_adaptive_entropy", False):
            raise InvalidValueError(
                "use_adaptive_entropy would adapt to the kept rollouts alone, and is a second controller of the same "
                "entropy; turn it off, or use EntropyControl(rejected='mask')"
            )
        if top_entropy_quantile(trainer_args) < 1.0:
            raise InvalidValueError(
                "top_entropy_quantile would take its quantile over the kept rows alone; set it to 1.0, or use "
                "EntropyControl(method='budget', rejected='mask')"
            )
    capabilities(trainer_args).check(method, name)
    if control.sees_whole_model and optimizer_name(trainer_args) not in KNOWN_SCALING:
        raise InvalidValueError(
            f"predictor 'whole_model' must know how the optimizer scales gradients, and does not for optim="
            f"{optimizer_name(trainer_args)!r}; use one of {', '.join(KNOWN_SCALING)}, or another predictor"
        )
    if (
        loss_type == "rloo"
        and (control.estimator is not None or method.may_replace_advantages)
        and (trainer_args.beta != 0.0 or trainer_args.reward_clip_range)
    ):
        raise InvalidValueError(
            "RLOOTrainer puts its KL penalty and reward clipping into the advantages, which `estimator` replaces by "
            f"those of the raw rewards, and a method that sets advantages by rewards may, here {name!r}; set beta=0.0 "
            "and reward_clip_range=None, or use GRPOTrainer"
        )


def warn_if_idle(method: Method, name: str, trainer_args: Any) -> None:
    """Warn of a method that acts on the ratio of new to old probabilities where it is always 1."""
    if ratio_stays_at_one(trainer_args):
        remedy = (
            "Set steps_per_generation to a multiple of gradient_accumulation_steps, such as 4 times it, or "
            "num_iterations to more than 1"
        )
        warn_of_one_update(method, name, remedy, stacklevel=3)
