"""Rollouts of a tiny batch on file, by hand."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from entrocraft.engines.ranks import OneRank
from entrocraft.engines.recorder import RolloutRecorder

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
KEPT = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 0], [1, 1, 1]])
CHANGE = torch.tensor([[0.25, -0.123456, 3e-7], [0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 2.0, 3.0]])
COMPLETIONS = torch.tensor([[3, 4, 1], [4, 1, 0], [3, 3, 0], [3, 4, 4]])
PROMPT = torch.tensor([0, 2, 3])


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer whose texts lose the space before their first word."""
    vocabulary = {"<pad>": 0, "</s>": 1, "▁so": 2, "▁one": 3, "▁two": 4}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")


@pytest.fixture
def recorded(tmp_path, tokenizer):
    """Record a batch of two prompts, two rollouts each, and return what is on file of the rollouts' texts."""

    def record(mask_BT=MASK, **more):
        path = tmp_path / "rollouts.jsonl"
        RolloutRecorder(path, OneRank()).record(
            1,
            10,
            groups=torch.tensor([0, 0, 1, 1]),
            advantages_B=torch.tensor([1.0, -1.0, 0.5, -0.5]),
            mask_BT=mask_BT,
            kept_BT=KEPT,
            tokenizer=tokenizer,
            token_ids=lambda rows: [(PROMPT, COMPLETIONS[row]) for row in rows],
            **more,
        )
        return json.loads(path.read_text())

    return record


def test_each_token_stands_with_its_change_and_whether_it_was_kept(recorded):
    line = recorded(change_BT=CHANGE)
    assert line["tokens"] == [3, 1, 2, 3] and line["kept_tokens"] == [2, 0, 2, 3]
    first, second, third, _ = line["texts"]
    # The end and the padding have no text, so they are not there.
    assert first == {
        "row": 0,
        "prompt": "so one",
        "completion": "one two",
        "tokens": [" one", " two"],
        "changes": [0.25, -0.123],
        "kept": "10",
    }
    assert (second["tokens"], second["changes"], second["kept"]) == ([" two"], [0.5], "0")
    assert (third["tokens"], third["changes"], third["kept"]) == ([" one", " one"], [0, 1], "11")


def test_a_token_that_the_loss_does_not_count_has_no_change(recorded):
    texts = recorded(MASK.index_fill(1, torch.tensor([1]), 0), change_BT=CHANGE)["texts"]
    assert texts[3]["tokens"] == [" one", " two", " two"] and texts[3]["changes"] == [1, None, 3]


def test_without_a_prediction_tokens_are_recorded_all_the_same(recorded):
    first = recorded()["texts"][0]
    assert first["changes"] is None and first["tokens"] == [" one", " two"] and first["kept"] == "10"
