"""Training, in-run evaluation, evaluation of the run and diagnosis read the same prompts."""

import json
from pathlib import Path

import pytest
from support.commands import run_command
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from entrocraft.models import resolve_model

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}0{% endif %}:{% endif %}"
)
CONFIG = """
model: chatty
task: {name: dataset, options: {train: data.jsonl, test: data.jsonl, reward: number, chat: true}, num_problems: 8}
control: {schedule: 0.55, width: 0.02}
train:
  {steps: 1, prompts_per_step: 4, rollouts_per_prompt: 2, save_every: 1, max_completion_tokens: 4,
   trl: {chat_template_kwargs: {enable_thinking: false}, generation_kwargs: {no_repeat_ngram_size: 2}}}
eval: {num_problems: 2, num_samples: 2, k: [1]}
"""


def test_one_rendering_for_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model("countdown-base"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained("chatty")
    AutoModelForCausalLM.from_pretrained(resolve_model("countdown-base")).save_pretrained("chatty")
    Path("data.jsonl").write_text("".join(json.dumps({"prompt": f"{i}+1=", "answer": "2"}) + "\n" for i in range(1, 9)))
    Path("run.yaml").write_text(CONFIG)
    asked = []
    own = PreTrainedTokenizerBase.apply_chat_template

    def recording(self, *args, **kwargs):
        asked.append(kwargs.get("enable_thinking"))
        return own(self, *args, **kwargs)

    for cls in {PreTrainedTokenizerBase, *type(tokenizer).__mro__}:
        if "apply_chat_template" in vars(cls):
            monkeypatch.setattr(cls, "apply_chat_template", recording)
    for command in (
        ["train", "run.yaml", "--output", "out"],
        ["eval", "out", "--num-samples", "2", "--k", "1", "--num-problems", "2"],
        ["eval", "chatty", "out", "--task", "run.yaml", "--num-samples", "2", "--k", "1", "--num-problems", "2"],
        ["diagnose", "out", "--task", "run.yaml", "--num-prompts", "2", "--num-rollouts", "2"],
    ):
        asked.clear()
        result = run_command(*command)
        assert result.exit_code == 0, result.output
        assert asked and set(asked) == {False}, command
