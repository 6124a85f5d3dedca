"""What TRL's trainers write of each token: its text, its predicted change, whether it was kept."""

import json

import pytest
import torch
from support.predictions import WIDE, Watching, exact_token_changes
from support.trainers import controller_of
from trl import GRPOTrainer

import entrocraft as ec
from entrocraft.control import EntropyControl
from entrocraft.engines.trl.recording import with_rollout_recording


class KeepWhatRaises(ec.Method):
    """Keeps the tokens that are predicted to raise entropy."""

    needs, turns = frozenset({"change"}), frozenset({"tokens"})

    def decide(self, batch, goal):
        return ec.Decision.everything(batch)

    def weigh(self, tokens, decision):
        return (tokens.change_BT > 0).float()


def texts_in(path):
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    return line["texts"]


def test_changes_are_those_of_the_batch_and_what_was_left_out_is_said(make_trainer, tokenizer, tmp_path):
    path = tmp_path / "rollouts.jsonl"
    trainer = make_trainer(
        Watching,
        config={"learning_rate": 0.0, "loss_type": "dapo"},
        entropy_control=EntropyControl(predictor="exact", rollouts=str(path)),
        entropy_controller=controller_of(KeepWhatRaises(), WIDE),
    )
    trainer.train()
    changes_BT, ids_BT = exact_token_changes(trainer.model, trainer.seen), trainer.seen["completion_ids"]
    texts = texts_in(path)
    assert len(texts) >= 2
    for text in texts:
        row = text["row"]
        shown_T = torch.tensor([token not in tokenizer.all_special_ids for token in ids_BT[row].tolist()])
        expected = changes_BT[row][shown_T].tolist()
        assert "".join(text["tokens"]) == text["completion"]
        assert text["changes"] == pytest.approx(expected, rel=6e-3, abs=1e-6)
        assert text["kept"] == "".join("1" if change > 0 else "0" for change in text["changes"])
    assert {"0", "1"} == set("".join(text["kept"] for text in texts))


def test_a_trainer_without_control_keeps_all_and_predicts_nothing(make_trainer, tmp_path):
    path = tmp_path / "rollouts.jsonl"
    make_trainer(with_rollout_recording(GRPOTrainer), rollouts=str(path)).train()
    for text in texts_in(path):
        assert "".join(text["tokens"]) == text["completion"]
        assert text["changes"] is None and text["kept"] == "1" * len(text["tokens"])
