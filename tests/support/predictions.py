"""What tests of predictions on TRL share: a method that asks, a trainer that remembers, changes by the definition."""

import torch

import entrocraft as ec
from entrocraft.control.planning.ranking import binned
from entrocraft.engines.trl import EntropyControlledGRPOTrainer

WIDE = ec.Band(lower=0.0, upper=100.0)


def logits_of(model, batch, temperature=1.0):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].shape[1]
    return model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1] / temperature


class Asking(ec.Method):
    """Keeps everything, and remembers the predictions it asked for."""

    needs = frozenset({"change"})

    def read(self, tokens, total):
        return total(binned(tokens.change_BT[tokens.mask_BT.bool()]))

    def decide(self, batch, goal):
        self.predicted, self.tokens = batch.change, batch.reading
        return ec.Decision.everything(batch)


class Watching(EntropyControlledGRPOTrainer):
    """Remembers the batch that was decided on, the weights before and after, and whether a direction was taken."""

    def _control(self, batch):
        self.before = [p.detach().clone() for p in self.model.parameters()]
        self.seen = {name: value.clone() for name, value in batch.items() if isinstance(value, torch.Tensor)}
        batch, decision = super()._control(batch)
        self.after = [p.detach().clone() for p in self.model.parameters()]
        assert all(p.grad is None for p in self.model.parameters())
        self.decided = batch
        return batch, decision


def exact_token_changes(model, batch):
    """Return -A * S_t for the counted tokens, from the full distribution by the definition of S."""
    with torch.no_grad():
        log_p = torch.log_softmax(logits_of(model, batch).double(), dim=-1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1, keepdim=True)
    x = p * (log_p + entropy)
    sampled = x.gather(-1, batch["completion_ids"][..., None]).squeeze(-1)
    return -batch["advantages"][:, None] * (sampled - (p * x).sum(-1)) * batch["completion_mask"]
