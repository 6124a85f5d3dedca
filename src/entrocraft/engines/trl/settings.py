"""What of TRL's own arguments bears on entropy control, and what its trainers can carry out under them."""

from typing import Any

from entrocraft.control.capabilities import Capabilities

# What each of TRL's losses divides by, and so how leaving rows out must be made good:
# "rows" and "tokens" divide by what the micro-batch holds, "global_tokens" by the whole batch's count.
LOSS_DENOMINATOR = {
    "grpo": "rows",
    "sapo": "rows",
    "dr_grpo": "rows",
    "luspo": "rows",
    "rloo": "rows",
    "bnpo": "tokens",
    "dapo": "global_tokens",
    "cispo": "global_tokens",
    "vespo": "global_tokens",
}

# Losses that average over each rollout's tokens before they average over rollouts; else every token weighs alike.
ROLLOUT_MEAN_LOSSES = frozenset({"grpo", "sapo"})

# Losses that clip the ratio to `1 - epsilon ... 1 + epsilon_high`.
CLIPPING_LOSSES = frozenset({"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "rloo"})

# Optimizers that keep second moments as torch's Adam does, or scale nothing.
KNOWN_SCALING = ("adamw_torch", "adamw_torch_fused", "sgd")


def capabilities(trainer_args: Any) -> Capabilities:
    """Return what a TRL trainer with these arguments can carry out, and which signals it can make."""
    loss_type = loss_type_of(trainer_args)
    why_not = {}
    if "temperature" in (getattr(trainer_args, "generation_kwargs", None) or {}):
        why_not["temperature"] = "generation_kwargs sets one of its own; leave it out there"
    elif getattr(trainer_args, "torch_compile", False):
        why_not["temperature"] = "torch_compile fixes the one that tokens are scored at; turn it off"
    if getattr(trainer_args, "deepspeed", None):
        why_not["learning_rate"] = "DeepSpeed steps by itself, before a rate could be set; use DDP or FSDP"
    if weighs_whole_rollouts(trainer_args):
        why_not["tokens"] = (
            "their losses weigh a rollout as a whole, as RLOOTrainer's does and those with "
            "importance_sampling_level='sequence'; use method 'budget', or name no method"
        )
    elif top_entropy_quantile(trainer_args) < 1.0:
        why_not["tokens"] = (
            "top_entropy_quantile leaves out tokens that the method counts on; set it to 1.0, or use "
            "EntropyControl(method='budget', rejected='mask')"
        )
    if loss_type == "rloo" or getattr(trainer_args, "use_adaptive_entropy", False):
        why_not["entropy_coef"] = (
            "it is carried out by GRPOTrainer's own entropy bonus, which RLOOTrainer does not have and "
            "use_adaptive_entropy governs itself; use GRPOTrainer without it, or entropy_bonus=0.0"
        )
    if loss_type not in CLIPPING_LOSSES:
        why_not["clip_low"] = why_not["clip_high"] = why_not["surrogate"] = (
            f"loss_type={loss_type!r} has no clip range; use one of {', '.join(sorted(CLIPPING_LOSSES - {'rloo'}))}"
        )
    if "tokens" in why_not:
        why_not["surrogate"] = (
            "it is made of single tokens' ratios, all of them; use GRPOTrainer with importance_sampling_level='token' "
            "and top_entropy_quantile=1.0"
        )
    for name in ("delta", "off_policy_mask_threshold"):
        if getattr(trainer_args, name, None) is not None:
            why_not["surrogate"] = f"{name} clips the loss in a way of its own; leave it unset"
    return Capabilities.all_but(f"TRL's {'RLOO' if loss_type == 'rloo' else 'GRPO'}Trainer", why_not)


def loss_type_of(trainer_or_args: Any) -> str:
    """Return the name of the loss; RLOO, which has but one, does not name it."""
    return getattr(trainer_or_args, "loss_type", "rloo")


def has_kl_term(trainer: Any) -> bool:
    """Return True if the loss has a KL term, felt whatever the advantage; RLOO puts its penalty into the advantages."""
    return bool(trainer.beta != 0.0) and loss_type_of(trainer) != "rloo"


def weighs_whole_rollouts(trainer_args: Any) -> bool:
    """Return True if the loss has one ratio and one advantage per rollout, so that its tokens share their fate."""
    return (
        loss_type_of(trainer_args) == "rloo"
        or getattr(trainer_args, "importance_sampling_level", "token") == "sequence"
    )


def top_entropy_quantile(trainer_args: Any) -> float:
    """Return the share of tokens, by entropy, that TRL's own mask leaves in the loss."""
    return float(getattr(trainer_args, "top_entropy_quantile", 1.0))


def optimizer_memory(trainer_args: Any) -> float:
    """Return the share of an update's effect that the optimizer carries to the next step: Adam's beta1.

    SGD's momentum is not in TRL's arguments, so other optimizers are taken to carry nothing.
    """
    return float(trainer_args.adam_beta1) if "adam" in optimizer_name(trainer_args) else 0.0


def steps_per_decision(trainer_args: Any) -> float:
    """Return how many optimizer steps follow one batch of rollouts; less than 1 if a step takes several batches."""
    passes = trainer_args.steps_per_generation * trainer_args.num_iterations
    return float(passes / trainer_args.gradient_accumulation_steps)


def ratio_stays_at_one(trainer_args: Any) -> bool:
    """Return True if no update comes between sampling and learning: TRL then takes the policy for the old one."""
    passes = trainer_args.steps_per_generation * trainer_args.num_iterations
    return bool(trainer_args.gradient_accumulation_steps % passes == 0)


def optimizer_name(trainer_args: Any) -> str:
    """Return the name of the optimizer as TRL's arguments give it."""
    return str(getattr(trainer_args.optim, "value", trainer_args.optim))
