"""Updates made several times over on one batch, and batches written down, for tests that compare."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

COMPARED = "COMPARED_SETTINGS"
"""Environment variable: by name, the settings of entropy control to update with, one after the other."""
RECORDED = "RECORDED_BATCHES"
"""Environment variable: a folder for the batch of each step and what was decided on it."""


def watch(trainers_module):
    """Wrap our trainers if the environment asks for it."""
    from entrocraft.engines.verl.trainer import EntropyControlMixin

    if os.environ.get(COMPARED):
        EntropyControlMixin._update_actor = updated_by_each(EntropyControlMixin._update_actor)
    if os.environ.get(RECORDED):
        EntropyControlMixin._decide = recorded(EntropyControlMixin._decide)


def updated_by_each(update_actor):
    """Return an update that is made once with each settings; with a learning rate of 0 all see the same weights."""
    compared = json.loads(os.environ[COMPARED])

    def update(self, batch, metrics):
        from entrocraft.engines.decider import Decider
        from entrocraft.engines.ranks import OneRank
        from entrocraft.engines.verl.settings import ROLLOUT_MEAN

        settings = self.settings
        for name, changes in compared.items():
            control = replace(settings.control, **changes)
            self.settings = replace(settings, control=control, method=control.new_method())
            self.entropy_controller = control.build()  # a fresh one each time: the same decision
            by_rollout = settings.aggregation == ROLLOUT_MEAN
            self._decider = Decider(self.entropy_controller, control, OneRank(), by_rollout=by_rollout)
            own = {}
            start = time.perf_counter()
            update_actor(self, batch, own)
            own["seconds"] = time.perf_counter() - start
            metrics.update({f"{name}/{key}": value for key, value in own.items()})
        self.settings = settings
        return batch

    return update


def recorded(decide):
    """Return a decision that also writes down what it was made on."""

    def decide_and_record(self, batch, rows, own):
        import transfer_queue as tq

        update, stats = decided_with_stats(self, decide, batch, rows, own)
        fields = tq.kv_batch_get(
            keys=[batch.keys[row] for row in rows],
            partition_id=batch.partition_id,
            select_fields=[
                "prompts",
                "responses",
                "response_mask",
                "advantages",
                "old_log_probs",
                "entropy",
                "rm_scores",
            ],
        )
        tensors = {f"{name}_lengths": fields[name].offsets().diff() for name in ("prompts", "responses")}
        tensors |= {name: value.contiguous() for name, value in fields.to_padded_tensor().items()}
        tensors |= {
            "keep": update.keep_B,
            "used_advantages": update.advantages,
            "entropy_of_batch": torch.tensor(update.batch.entropy),
        }
        if update.batch.change is not None:
            tensors["predicted"] = update.batch.change
        if stats.self_kernel_BT is not None:
            tensors["self_kernel"] = stats.self_kernel_BT
        folder = Path(os.environ[RECORDED])
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"{self.global_steps}.safetensors")
        return update

    return decide_and_record


def decided_with_stats(trainer, decide, *arguments):
    """Return what a trainer decides, and what of the tokens it was decided on."""
    seen, ask = {}, trainer._decider.decide

    def asked(rollouts, **more):
        seen["stats"] = rollouts.stats
        return ask(rollouts, **more)

    trainer._decider.decide = asked
    try:
        return decide(trainer, *arguments), seen["stats"]
    finally:
        del trainer._decider.decide
