"""Data as verl has them, from two lines of settings: trained on, evaluated, diagnosed, and written for verl again."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from support.commands import run_command
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from entrocraft.runs import RunDirectory

CHAT = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Go to a folder with a tiny chat model, of a token a byte, and a small file of DAPO-Math-17k's layout."""
    monkeypatch.chdir(tmp_path)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(["<s>", "</s>", *letters])}, merges=[]))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained("tiny")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends)).save_pretrained("tiny")
    instruction = (
        "Solve the following math problem step by step. The last line should be of the form Answer: $Answer.\n\n"
    )
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": f"{instruction}What is {i} + 1?", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(i + 1), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"id-{i}"},
        }
        for i in range(40)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "dapo-math-17k.parquet")
    Path("dapo.yaml").write_text(
        "model: tiny\ntask: {name: dataset, options: {train: dapo-math-17k.parquet, max_completion_tokens: 8}}\n"
    )
    return run_command


@pytest.mark.slow
def test_two_lines_train_on_verls_layout(workplace):
    sizes = ("train.steps=2", "train.prompts_per_step=4", "train.rollouts_per_prompt=4", "train.save_every=2")
    result = workplace(
        "train", "dapo.yaml", *sizes, "eval={num_problems: 2, num_samples: 2, k: [1]}", "--output", "run"
    )
    assert result.exit_code == 0, result.output
    assert [line["step"] for line in RunDirectory(Path("run")).step_metrics()] == [1, 2]
    for command in (
        ["eval", "run", "--num-problems", 2, "--num-samples", 2, "--k", 1, "--output", "scores"],
        ["diagnose", "tiny", "--task", "dapo.yaml", "--num-prompts", 4, "--num-rollouts", 2],
        ["verl", "data", "dataset", "train=dapo-math-17k.parquet", "--check-answers", "--output", "back.parquet"],
    ):
        result = workplace(*command)
        assert result.exit_code == 0, result.output
    sample = json.loads(Path("scores/run/samples.jsonl").read_text().splitlines()[0])
    assert sample["prompt"][0]["content"].startswith("Solve the following")
    written = pyarrow.parquet.read_table("back.parquet").to_pylist()
    assert len(written) > 20 and written[0]["prompt"][0]["content"].startswith("Solve the following")
