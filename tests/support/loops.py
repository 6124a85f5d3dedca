"""A batch of four rollouts made by hand, and what `ec.decide` makes of it."""

import torch

import entrocraft as ec

LENGTHS = [3, 1, 2, 3]
P = torch.tensor([[0.9, 0.2, 0.6], [0.5, 1.0, 1.0], [0.3, 0.7, 1.0], [0.8, 0.05, 0.6]])
MASK = (torch.arange(3) < torch.tensor(LENGTHS)[:, None]).long()
LOG_PROBS = P.log() * MASK
ENTROPIES = torch.tensor([[0.4, 0.9, 0.6], [0.7, 0.0, 0.0], [0.8, 0.5, 0.0], [0.5, 0.3, 0.9]])
ADVANTAGES = torch.tensor([1.0, -1.0, 2.0, -2.0])
BATCH = {
    "log_probs": LOG_PROBS,
    "entropies": ENTROPIES,
    "mask": MASK,
    "advantages": ADVANTAGES,
    "groups": [0, 0, 1, 1],
    "rewards": [1.0, 0.0, 1.0, 0.0],
}
TOO_HIGH = {"lower": 0.0, "upper": 0.1}


def decided(control=None, state=None, *, step=1, loop=None, **changed):
    batch = {name: value for name, value in (BATCH | changed).items() if value is not None}
    control = TOO_HIGH | {"method": "token"} if control is None else control
    return ec.decide(control, state, step=step, total_steps=10, loop=loop, **batch)


def rows(values):
    return [row[:length] for row, length in zip(values, LENGTHS, strict=True)]
