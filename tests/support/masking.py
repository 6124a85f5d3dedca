"""TRL's trainer with rejected rows masked out of the loss by hand, written apart from the engine."""

from transformers import TrainerCallback
from trl import GRPOTrainer

ROW_LOSSES, TOKEN_LOSSES = ("grpo", "dr_grpo", "sapo", "luspo"), ("dapo", "cispo", "vespo", "bnpo")


class MaskedByHand(GRPOTrainer):
    """TRL's trainer with rejected rows masked out of the loss, written apart from the engine.

    `rule(advantages, entropy_sums...)` is not asked again: the test gives the rule as a function of the
    batch, and the factor by which the loss must be scaled as a function of rows and tokens kept.
    """

    keep_rule = staticmethod(lambda batch: None)
    normalize = "kept"

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        keep = type(self).keep_rule(batch)
        tokens = batch["completion_mask"].sum(-1)
        if self.normalize == "all":
            self.factor = 1.0
        elif self.loss_type in ROW_LOSSES:
            self.factor = len(keep) / keep.sum()
        else:
            self.factor = tokens.sum() / tokens[keep].sum()
        batch["tokens_before"] = tokens
        batch["completion_mask"] = batch["completion_mask"] * keep[:, None]
        return batch

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs) * self.factor
        if self.loss_type == "bnpo":  # divides by the tokens left in the micro-batch
            loss = loss * inputs["completion_mask"].sum() / inputs["tokens_before"].sum()
        return loss


class NothingIsNoUpdate(TrainerCallback):
    """Leaves weights and Adam's momentum alone at a mini-batch of which nothing was kept, as the engine does."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None):
            model.zero_grad(set_to_none=True)


def by_hand(make_trainer, keep_rule, normalize="kept", config=None, **kwargs):
    trainer_class = type("Reference", (MaskedByHand,), {"keep_rule": staticmethod(keep_rule), "normalize": normalize})
    trainer = make_trainer(trainer_class, config=config, **kwargs)
    trainer.add_callback(NothingIsNoUpdate())
    trainer.train()
    return trainer
