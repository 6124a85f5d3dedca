"""`ec.decide` on batches of a TRL training: the decisions that the TRL engine made, to the bit."""

import json
import warnings

import pytest
import torch
from trl import GRPOTrainer

import entrocraft as ec
from entrocraft.control.decision import KNOBS
from entrocraft.control.methods import METHODS
from entrocraft.engines.trl import with_entropy_control

pytestmark = pytest.mark.slow

STEPS = 4
CURVE = {"schedule": "linear(1.4, 0.6, unit='initial')", "width": 0.02}
CONTROLS = {name: {"method": name} for name, method in METHODS.items() if "surrogate" not in method().turns}
CONTROLS |= {
    "default": {},
    "exact": {"method": "predicted", "predictor": "exact"},
    "rarity": {"method": "token", "predictor": "rarity"},
    "visitation": {"method": {"name": "budget", "visitation": True}},
    "everything": {"method": {"name": "token", "normalize": "all", "min_kept": 0.2}, "guard": "relax"},
}
LOSSES = {"dapo": "token_mean", "grpo": "sequence_mean", "dr_grpo": "sequence_sum"}


class Watching(with_entropy_control(GRPOTrainer)):
    """Keeps what its decider was given, what it said, and the advantages that TRL's loss is given for it."""

    def _control(self, batch):
        decide = self._decider.decide

        def watched(rollouts, **known):
            update = decide(rollouts, **known)
            self.seen.append((rollouts, known, update))
            return update

        self._decider.decide = watched
        try:
            return super()._control(batch)
        finally:
            self._decider.decide = decide


def trained(make_trainer, control, loss_type):
    Watching.seen = []
    config = {"loss_type": loss_type, "max_steps": STEPS, "learning_rate": 3e-3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(Watching, entropy_control=CURVE | control, config=config, record=False)
        trainer.train()
    assert len(Watching.seen) == STEPS
    return trainer, Watching.seen


@pytest.mark.parametrize(
    ("name", "loss_type"),
    [(name, list(LOSSES)[number % len(LOSSES)]) for number, name in enumerate(CONTROLS)]
    + [("default", "grpo"), ("budget", "dapo"), ("advantage", "dr_grpo")],
)
def test_the_decisions_are_those_of_the_trl_engine(make_trainer, name, loss_type):
    trainer, seen = trained(make_trainer, CONTROLS[name], loss_type)
    loop, state, changed = ec.Loop(loss=LOSSES[loss_type], knobs=KNOBS), None, 0
    norms = [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]
    for number, (rollouts, known, update) in enumerate(seen):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use = ec.decide(
                CURVE | CONTROLS[name],
                state,
                step=known["step"],
                total_steps=known["total_steps"],
                log_probs=rollouts.stats.log_probs_BT,
                entropies=rollouts.stats.entropy_BT,
                mask=rollouts.mask_BT,
                advantages=rollouts.advantages,
                groups=known["groups"],
                rewards=known["rewards"],
                sensitivity=rollouts.stats.sensitivity_BT,
                self_kernel=rollouts.stats.self_kernel_BT,
                gradient_norm=norms[number - 1] if number else None,
                loop=loop,
            )
        state = json.loads(json.dumps(use.state))
        scale = torch.tensor(update.loss_scale(by_tokens=loss_type == "dapo"))  # as TRL's loss has it
        in_loss = update.advantages.view(len(update.keep_B), -1) * scale * rollouts.mask_BT
        assert torch.equal(use.advantages, in_loss) and torch.equal(use.keep, update.keep_B)
        assert torch.equal(use.kept.bool(), update.kept_BT.bool()) and use.knobs == update.decision.turned
        assert use.metrics == update.decision.metrics and use.empty == update.decision.empty
        changed += not update.changes_nothing or bool(use.knobs)
    expected = json.loads(json.dumps(trainer.entropy_controller.state_dict()))
    expected["course"]["grad_norm"] = state["course"]["grad_norm"]  # of the last update, which no call is told of
    assert state == expected
    assert changed or name == "none", "a batch in band tells nothing"
