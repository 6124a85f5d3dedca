"""Random batches of sampled tokens, and what a method makes of them, without an engine."""

import torch

from entrocraft import Batch, Goal, Tokens

LOW, GOAL, HIGH = 0.3, Goal(lower=0.4, target=0.5, upper=0.6), 0.7


def alone(values):
    """Add up over the ranks, of which there is one."""
    return values


def drawn_tokens(seed=0, num_rollouts=8, num_tokens=12):
    """Return tokens of rollouts of several lengths; what the mask leaves out is NaN."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_rollouts, num_tokens)
    entropy_BT = 2.0 * torch.rand(shape, generator=generator)
    log_probs_BT = -entropy_BT * torch.rand(shape, generator=generator).clamp(min=1e-3).log().abs()
    lengths_B = torch.randint(1, num_tokens + 1, (num_rollouts,), generator=generator)
    mask_BT = (torch.arange(num_tokens) < lengths_B[:, None]).long()
    advantages_B = torch.randn(num_rollouts, generator=generator)
    missing_BT = mask_BT == 0
    return Tokens(
        log_probs_BT=log_probs_BT.masked_fill(missing_BT, torch.nan),
        entropy_BT=entropy_BT.masked_fill(missing_BT, torch.nan),
        advantages_BT=advantages_B[:, None].expand(shape),
        mask_BT=mask_BT,
    )


def batch_of(tokens, entropy=LOW, step=1, **columns):
    """Return the batch of these tokens alone."""
    counted_BT = tokens.mask_BT.bool()
    return Batch(
        step=step,
        entropy=entropy,
        advantages=tokens.advantages_BT[:, 0],
        num_tokens=counted_BT.sum(-1),
        sequence_log_probs=tokens.log_probs_BT.masked_fill(~counted_BT, 0.0).sum(-1),
        **columns,
    )


def decided(method, tokens, entropy=LOW, goal=GOAL, **columns):
    """Return a method's decision and its weights."""
    decision = method.decide(batch_of(tokens, entropy, reading=method.read(tokens, alone), **columns), goal)
    return decision, method.weigh(tokens, decision)


def counted(tokens):
    """Yield row, column, log-probability, entropy and advantage of each counted token."""
    for row, column in tokens.mask_BT.nonzero().tolist():
        numbers = (tokens.log_probs_BT, tokens.entropy_BT, tokens.advantages_BT)
        yield row, column, *(float(number_BT[row, column]) for number_BT in numbers)
