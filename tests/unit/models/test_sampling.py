"""Answers drawn from a model: a prompt that stands there often is read once, which changes nothing that is drawn."""

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from entrocraft.models import resolve_model
from entrocraft.models.sampling import SamplingConfig, sample_batch

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
PROMPTS = ["1,2,3,4=24:", "9,9=18:", "1,2,3,4=24:", "9,9=18:", "9,9=18:", "5:"]
"""Of different lengths, so that some are padded, and not in order."""


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(resolve_model("countdown-base"))


def model_of(kind, config, tokenizer, **options):
    torch.manual_seed(0)
    return kind(config(vocab_size=len(tokenizer), **TINY, **options)).double().eval()


def rows_read(model, monkeypatch):
    """Return a list that gets the number of rows of each pass of the model."""
    rows, forward = [], model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **kwargs: rows.append(len(kwargs["input_ids"])) or forward(*args, **kwargs)
    )
    return rows


def test_a_repeated_prompt_is_read_once_and_answered_as_if_it_were_read_each_time(tokenizer, monkeypatch):
    model = model_of(LlamaForCausalLM, LlamaConfig, tokenizer)
    rows = rows_read(model, monkeypatch)
    config = SamplingConfig(temperature=0.9)
    together = sample_batch(model, tokenizer, PROMPTS, config, 6, seed=3)
    assert rows[0] == 3
    assert set(rows[1:]) == {6}
    with monkeypatch.context() as patch:
        patch.setattr("entrocraft.models.sampling._read_once", lambda model, inputs: {})
        apart = sample_batch(model, tokenizer, PROMPTS, config, 6, seed=3)
    assert together.texts == apart.texts
    assert torch.equal(together.completion_ids_BT, apart.completion_ids_BT)
    torch.testing.assert_close(together.entropy_BT, apart.entropy_BT, rtol=1e-5, atol=1e-5)


def test_prompts_that_all_differ_are_read_as_ever(tokenizer, monkeypatch):
    model = model_of(LlamaForCausalLM, LlamaConfig, tokenizer)
    rows = rows_read(model, monkeypatch)
    sample_batch(model, tokenizer, ["1:", "2:"], SamplingConfig(), 2, seed=0)
    assert rows == [2, 2]


def test_a_model_that_keeps_a_window_of_tokens_alone_reads_each_prompt(tokenizer, monkeypatch):
    model = model_of(MistralForCausalLM, MistralConfig, tokenizer, sliding_window=4)
    answers = sample_batch(model, tokenizer, PROMPTS, SamplingConfig(), 6, seed=3)
    with monkeypatch.context() as patch:
        patch.setattr("entrocraft.models.sampling._read_once", lambda model, inputs: {})
        plain = sample_batch(model, tokenizer, PROMPTS, SamplingConfig(), 6, seed=3)
    assert answers.texts == plain.texts


def test_the_global_random_state_is_left_alone(tokenizer):
    model = model_of(LlamaForCausalLM, LlamaConfig, tokenizer)
    before = torch.random.get_rng_state()
    sample_batch(model, tokenizer, PROMPTS, SamplingConfig(), 3, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
