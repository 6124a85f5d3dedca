"""The whole model's response: what each rollout does to entropy by what it teaches all weights.

The entropy of a policy is an expectation over what it visits, `H = E[h] / E[len]` with h(y) the summed token
entropies of a rollout. To first order, an update `dtheta` of the weights changes the entropy of the batch by

    dH = <grad H, dtheta>,    grad H = sum_i [ grad h_i + (h_i - H len_i) grad log pi(y_i) ] / sum_i len_i

(local and visitation term). The policy gradient of rollout i, as the optimizer applies it, moves the weights
along `A_i P grad log pi(y_i)`, P the optimizer's preconditioner. So with the *ascent step* `v = P grad H`

    dH_i = A_i <v, grad log pi(y_i)> = A_i * (change of log pi(y_i) when the weights move along v).

One gradient gives v: `entropy_gradient`, then `ascent_step`. Every rollout's change is then a directional
derivative, which forward-mode automatic differentiation gives in one pass without gradient, `log_prob_change`: no
weight is moved, and it is as exact in bfloat16, where a real step would vanish in rounding. Where weights are
sharded by FSDP2, which forward mode does not know, `log_prob_change_by_shift` moves them and puts them back.

Unlike the per-token forms of `dynamics` this sees that rollouts share parameters, what the policy visits, and how
the optimizer scales gradients. It is not in the paper; docs/control.md, "Predictors", has what it costs and is worth.

Shapes: B rollouts, T tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from entrocraft.entropy import token_entropy, token_log_probs
from entrocraft.errors import InvalidValueError, first_line

ReadRows = Callable[[Callable[..., Any], Tensor], tuple[Tensor, Tensor]]
"""Takes something to call as one calls the model, and row indices; returns those rows' logits (rows, T, V), divided by
the sampling temperature, and the tokens (rows, T) that were sampled from them."""

NUDGE = 0.005
"""Relative rise of entropy for which `log_prob_change_by_shift` moves weights: far enough for float32 to see what it
does to each rollout, and near enough for that to agree with the derivative."""


def last_blocks(model: nn.Module, num_blocks: int | None) -> list[nn.Parameter]:
    """Return the trainable parameters of the model's last blocks, or all of them if `num_blocks` is None.

    The blocks are the items of the model's longest `ModuleList`, as in every transformer of `transformers`. The
    last norm, the embeddings and the output layer are not in it, and are not returned.

    Args:
        model: The policy; may be wrapped by PEFT or FSDP2.
        num_blocks: Number of blocks, counted from the last.

    Raises:
        InvalidValueError: The model has no list of blocks, or nothing in the last ones is trainable.
    """
    _reshard(model)  # between passes FSDP2 may show gathered copies in place of the parameters
    if num_blocks is None:
        return [p for p in model.parameters() if p.requires_grad]
    # A vision-language model has blocks in its vision tower, too, maybe more of them; the policy is the decoder's.
    decoder = cast(Any, model).get_decoder() if hasattr(model, "get_decoder") else model
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise InvalidValueError("the model has no list of blocks to take the last ones of; use whole_model_blocks=null")
    blocks = max(lists, key=len)
    chosen = [p for block in list(blocks)[-num_blocks:] for p in block.parameters() if p.requires_grad]
    if not chosen:
        raise InvalidValueError(
            f"the last {num_blocks} blocks of the model have no trainable parameter; use whole_model_blocks=null"
        )
    return chosen


def entropy_gradient(
    read: ReadRows,
    row_batches: Sequence[Tensor],
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    mask_BT: Tensor,
    sums_B: Tensor,
    counts_B: Tensor,
    mean_entropy: float,
) -> list[Tensor]:
    """Return the gradient of the rows' part in the batch's summed entropy, local and visitation term.

    `sum_i [ grad h_i + (h_i - H len_i) grad log pi(y_i) ]` over the rows; `grad H` is this over all rows, divided by
    the number of counted tokens. Whatever gradients the parameters hold are put aside and put back. Under FSDP each
    gradient is this rank's shard, averaged over ranks as FSDP does; otherwise it is this rank's own, and the caller
    adds up.

    Args:
        read: Reader of the logits and tokens of rows; see `ReadRows`.
        row_batches: Rows to use, in batches that fit a backward pass.
        model: The model that `read` is to call.
        parameters: Parameters to differentiate by.
        mask_BT: 1 where a token counts.
        sums_B: Sum of counted token entropies of each rollout, in nats.
        counts_B: Counted tokens of each rollout.
        mean_entropy: Entropy of the batch over all ranks, in nats per token.

    Returns:
        One gradient per parameter, in nats per unit of the parameter.
    """
    # The pass may be one towards all parameters, so that all gradients are put aside, not those asked for alone.
    every = [p for p in model.parameters() if p.requires_grad]
    aside = [p.grad for p in every]
    for p in every:
        p.grad = None
    # FSDP2 collects gradients in hooks of its own, which a pass towards chosen leaves would not call.
    inputs = None if any(_is_sharded(module) for module in model.modules()) else list(parameters)
    excess_B = sums_B - mean_entropy * counts_B  # h_i - H len_i, in nats: a constant, not differentiated
    try:
        with torch.enable_grad():
            for rows in row_batches:
                logits, tokens = read(model, rows)
                log_probs, entropies = token_log_probs(logits, tokens), token_entropy(logits)
                mask = mask_BT[rows].to(entropies.dtype)
                # Both terms of grad H in one backward pass; gradients of the batches of rows add up.
                local = (entropies * mask).sum()
                visiting = (excess_B[rows].to(entropies.dtype) * (log_probs * mask).sum(-1)).sum()
                (local + visiting).backward(inputs=inputs)
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    finally:
        for p, grad in zip(every, aside, strict=True):
            p.grad = grad


def ascent_step(
    gradients: Sequence[Tensor],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer | None,
    length: float,
) -> list[Tensor]:
    """Return the gradients as the optimizer would scale them, `length` long in root mean square.

    For an optimizer that keeps second moments as `exp_avg_sq` (torch's Adam and its kin), `g / (sqrt(v) + eps)` with
    that optimizer's bias-corrected v; for any other, or before its first step, the gradient itself.

    Args:
        gradients: Gradients from `entropy_gradient`, the same on all ranks (or their shards).
        parameters: The parameters that the gradients are by, in the same order.
        optimizer: The optimizer that trains the parameters, for its second moments; None scales nothing.
        length: Root mean square over all entries of the step, such as the learning rate.

    Returns:
        One step per parameter, in the parameter's unit; zeros if all gradients are zero.
    """
    steps = [_preconditioned(g, p, optimizer) for g, p in zip(gradients, parameters, strict=True)]
    # One length for all parameters together: what each moves beside the others is the optimizer's to say.
    square = sum(_whole_sum(step.float().square()) for step in steps)
    count = sum(step.numel() for step in steps)
    scale = length * math.sqrt(count / square) if square > 0 else 0.0
    return [step * scale for step in steps]


def _preconditioned(gradient: Tensor, parameter: nn.Parameter, optimizer: torch.optim.Optimizer | None) -> Tensor:
    """Return `P g`, the gradient divided by what Adam divides it by; as it is without second moments."""
    state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
    if optimizer is None or "exp_avg_sq" not in state:
        return gradient
    group = next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    correction = 1.0 - group["betas"][1] ** int(state["step"])  # Adam's bias correction
    second_moment = state["exp_avg_sq"] / max(correction, 1e-12)
    return gradient / (second_moment.sqrt() + group["eps"])


def _reshard(model: nn.Module) -> None:
    """Let go of the whole weights that FSDP2 keeps after a pass: they are copies, which would outlive a change."""
    for module in model.modules():
        if _is_sharded(module):
            cast(Any, module).reshard()


def _is_sharded(module: nn.Module) -> bool:
    """Return True for what FSDP2 has wrapped, without importing it."""
    return callable(getattr(module, "reshard", None)) and callable(getattr(module, "unshard", None))


@contextmanager
def shifted(model: nn.Module, parameters: Sequence[nn.Parameter], steps: Sequence[Tensor]) -> Iterator[None]:
    """Move the model's parameters by the steps for the duration, and put them back bit for bit."""
    _reshard(model)
    saved = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, step in zip(parameters, steps, strict=True):
                p.add_(step.to(p.dtype))
        yield
    finally:
        _reshard(model)
        with torch.no_grad():
            for p, value in zip(parameters, saved, strict=True):
                p.copy_(value)


def log_prob_change(
    read: ReadRows,
    row_batches: Sequence[Tensor],
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    steps: Sequence[Tensor],
) -> Tensor:
    """Return how each token's log-probability changes, to first order, when the weights move by `steps`.

    Args:
        read: Reader of the logits and tokens of rows; see `ReadRows`.
        row_batches: All rows, in batches that fit a forward pass, in order.
        model: The model that `read` is to call.
        parameters: The parameters that would move.
        steps: Distance that each would move, in the parameter's unit.

    Returns:
        Changes (B, T), in nats.

    Raises:
        InvalidValueError: The model has an operation without a forward-mode derivative.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    changes = []
    # Dual numbers p + e * step stand in for the parameters; what comes out at e is the derivative along the step.
    with torch.no_grad(), forward_ad.dual_level(), _differentiable_attention(model):
        duals = {
            names[id(p)]: forward_ad.make_dual(p.detach(), step.to(p.dtype))
            for p, step in zip(parameters, steps, strict=True)
        }

        def moving(**inputs: Any) -> Any:
            return functional_call(model, duals, args=(), kwargs=inputs)

        for rows in row_batches:
            try:
                log_probs, tangent = forward_ad.unpack_dual(token_log_probs(*read(moving, rows)))
            except NotImplementedError as error:
                raise InvalidValueError(
                    f"the model has an operation without a forward-mode derivative ({first_line(error)}); load it "
                    "without fused kernels, or use another predictor than 'whole_model'"
                ) from error
            # No tangent: the logits of these rows do not depend on what moves.
            changes.append(torch.zeros_like(log_probs) if tangent is None else tangent)
    return torch.cat(changes)


@contextmanager
def _differentiable_attention(model: nn.Module) -> Iterator[None]:
    """Use attention in plain operations: fused kernels have no forward-mode derivative."""
    own = getattr(getattr(model, "config", None), "_attn_implementation", None)
    is_fused = own not in (None, "sdpa", "eager")
    if is_fused:
        cast(Any, model).set_attn_implementation("sdpa")
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        if is_fused:
            cast(Any, model).set_attn_implementation(own)


def log_prob_change_by_shift(
    log_probs: Callable[[], Tensor],
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    steps: Sequence[Tensor],
    gradients: Sequence[Tensor],
    summed_entropy: float,
) -> Tensor:
    """Return the same as `log_prob_change` by moving the weights both ways and back, for weights that FSDP2 shards.

    The weights move along `steps`, forward and backward, by as much as raises entropy by a share `NUDGE` of it to
    first order, whatever the length of the steps: a whole learning rate may be far outside what is linear. The
    difference of the two, scaled to `steps`, is returned. In float32 only: so small a move vanishes in the rounding
    of half precision.

    Args:
        log_probs: Function that returns the log-probabilities of all tokens under the model as it is when called.
        model: The model that `log_probs` reads.
        parameters: The parameters to move.
        steps: Distance that each parameter moves for the changes that are returned, in its unit.
        gradients: Gradients of the batch's summed entropy by the parameters, from `entropy_gradient`.
        summed_entropy: Summed entropy of the batch, in nats; under FSDP, whose gradients are means over the ranks, the
            mean over the ranks.

    Returns:
        Changes, in nats, in the shape that `log_probs` gives; zeros if there is nowhere to go.
    """
    # The steps raise the summed entropy by <grad, steps> nats; `nudge` times the steps by the share NUDGE of it.
    rise = sum(_whole_sum(gradient * step) for gradient, step in zip(gradients, steps, strict=True))
    nudge = NUDGE * summed_entropy / rise if rise > 0 else 0.0
    # A central difference: the second-order terms of the two sides cancel.
    sides = []
    for sign in (1, -1):
        with shifted(model, parameters, [sign * nudge * step for step in steps]), torch.no_grad():
            sides.append(log_probs())
    return (sides[0] - sides[1]) / (2 * nudge if nudge else 1.0)


def _whole_sum(tensor: Tensor) -> float:
    """Return the sum of all entries; of a shard, those of the other ranks included."""
    total = tensor.float().sum()
    return float(total.full_tensor() if hasattr(total, "full_tensor") else total)  # a shard knows its part only
