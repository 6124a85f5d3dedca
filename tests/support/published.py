"""The losses of rivals as their authors write them, token by token (B, T), in plain torch: what ours must equal."""

import torch


def clipped(log_probs, old, advantages, low=0.8, high=1.2, dual=None):
    """PPO's, with dual clipping if asked for."""
    ratio = (log_probs - old).exp()
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(low, high))
    if dual is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(-advantages * dual, loss), loss)


def kl_cov(log_probs, old, advantages, mask, share, beta):
    """Loop over tokens, the greatest covariances first."""
    where = mask.nonzero().tolist()
    mean_l = sum(log_probs[b, t].item() for b, t in where) / len(where)
    mean_a = sum(advantages[b, t].item() for b, t in where) / len(where)
    by_cov = sorted(
        where, key=lambda bt: -(log_probs[tuple(bt)].item() - mean_l) * (advantages[tuple(bt)].item() - mean_a)
    )
    penalised = torch.zeros_like(mask, dtype=torch.bool)
    for b, t in by_cov[: max(1, int(share * len(where)))]:
        penalised[b, t] = True
    log_ratio = log_probs - old
    loss = -advantages * log_ratio.exp()
    return torch.where(penalised, loss + beta * log_ratio.abs(), loss)


def ce_gppo(log_probs, old, advantages, beta_low=0.75, beta_high=1.0, low=0.8, high=1.2, dual=3.0):
    ratio = (log_probs - old).exp()
    constant = ratio.detach()
    loss = -advantages * ratio
    loss = torch.where((advantages < 0) & (constant < low), -beta_low * low * ratio / constant * advantages, loss)
    loss = torch.where((advantages > 0) & (constant > high), -beta_high * high * ratio / constant * advantages, loss)
    return torch.where(advantages < 0, torch.minimum(-advantages * dual, loss), loss)


def bapo_range(log_probs, old, advantages, mask, balance, lows=(0.8, 0.95, 0.05), highs=(1.2, 2.0, 0.1)):
    """The range that a search in two loops ends in."""
    ratio = (log_probs - old).exp().detach()
    (low, low_most, low_step), (high, high_most, high_step) = lows, highs

    def share():
        effective = torch.where(advantages >= 0, ratio.clamp(max=high), ratio.clamp(min=low)) * advantages * mask
        negative = -effective.clamp(max=0).sum()
        return effective.clamp(min=0).sum() / negative if negative > 0 else float("inf")

    while share() < balance and low < low_most:
        low = min(low + low_step, low_most)
    while share() < balance and high < high_most:
        high = min(high + high_step, high_most)
    return low, high


OPTIONS = {
    "kl_cov": {"share": 0.1},
    "ce_gppo": {"beta_low": 0.5},
    "bapo": {"balance": 1.0},
    "flexible_clip": {"strategy": "id"},
    "siren": {"coef": 0.5},
}
"""What methods are built with whose losses `tokens` gives."""


def tokens(name, log_probs, old, advantages, mask, *, balance=1.0, dual=None):
    """The loss of each token under a method, decided when a quarter of the run is over; clipped under any other."""
    if name == "kl_cov":
        return kl_cov(log_probs, old, advantages, mask, share=0.1, beta=1.0)
    if name == "ce_gppo":
        return ce_gppo(log_probs, old, advantages, beta_low=0.5)
    if name == "bapo":
        edges = bapo_range(log_probs, old, advantages, mask, balance)
        return clipped(log_probs, old, advantages, *edges, dual=3.0)
    if name == "flexible_clip":  # half of `-0.25 p + 0.5` and half of 0.2
        return flexible(log_probs, old, advantages, upper=(-0.125, 0.35), lower=(0.0, 0.2))
    return clipped(log_probs, old, advantages, dual=dual)


def flexible(log_probs, old, advantages, upper, lower):
    """Clipped where the probability passes what the thresholds `slope * p + intercept` leave it, solved for p."""
    probs, before = log_probs.exp().detach(), old.exp()
    most = (1 + upper[1]) / (1 - upper[0] * before) * before
    least = (1 - lower[1]) / (1 + lower[0] * before) * before
    loss = -advantages * (log_probs - old).exp()
    is_clipped = ((advantages > 0) & (probs > most)) | ((advantages < 0) & (probs < least))
    return torch.where(is_clipped, loss.detach(), loss)


def siren_peak(entropy, mask, share):
    """The mean over rollouts of the mean of each one's entropies above their quantile; with its gradient."""
    means = []
    for row, counted in zip(entropy, mask.bool(), strict=True):
        values = row[counted]
        if len(values):
            peaks = values[values > torch.quantile(values.detach(), 1.0 - share)]
            if len(peaks):
                means.append(peaks.mean())
    return torch.stack(means).mean()
