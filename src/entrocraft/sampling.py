"""Sampling answers from a transformers model, for evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from entrocraft.errors import InvalidValueError
from entrocraft.tasks import Problem, Task


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn."""

    num_samples: int = 32
    temperature: float = 1.0
    top_p: float = 1.0
    batch_size: int = 1024
    """Sequences generated at once."""

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch_size < 1:
            raise InvalidValueError(
                f"num_samples and batch_size must be at least 1, got {self.num_samples} and {self.batch_size}"
            )
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise InvalidValueError(
                f"temperature must be above 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}"
            )


def sample_correctness(
    model: Any, tokenizer: Any, task: Task, problems: list[Problem], config: SamplingConfig, seed: int = 0
) -> list[list[bool]]:
    """Draw `config.num_samples` answers to each problem and return whether each is right.

    The global random state is left as it was, so evaluating in the middle of training does not change
    the training that follows.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        answers = list(_sample(model, tokenizer, task, problems, config))
    return [
        [task.score(answer, problem) > 0.5 for answer in answers[i : i + config.num_samples]]
        for i, problem in zip(range(0, len(answers), config.num_samples), problems, strict=True)
    ]


def _sample(model: Any, tokenizer: Any, task: Task, problems: list[Problem], config: SamplingConfig) -> Iterator[str]:
    texts = [_as_text(tokenizer, problem["prompt"]) for problem in problems]
    prompts = [text for text in texts for _ in range(config.num_samples)]
    was_training = model.training
    model.eval()
    for start in range(0, len(prompts), config.batch_size):
        batch = tokenizer(
            prompts[start : start + config.batch_size],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            return_token_type_ids=False,
            add_special_tokens=isinstance(problems[0]["prompt"], str),  # a chat template brings its own
        ).to(model.device)
        with torch.no_grad():
            tokens = model.generate(
                **batch,
                do_sample=True,
                max_new_tokens=task.max_completion_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=0,
                pad_token_id=tokenizer.pad_token_id,
            )
        completions = tokens[:, batch["input_ids"].shape[1] :]
        yield from tokenizer.batch_decode(completions, skip_special_tokens=True)
    model.train(was_training)


def _as_text(tokenizer: Any, prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
