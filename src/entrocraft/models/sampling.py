"""Sampling answers from a transformers model, for evaluation and diagnosis."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entrocraft.entropy import token_entropy
from entrocraft.models.prompts import prompt_text
from entrocraft.models.sampling_config import SamplingConfig
from entrocraft.tasks import Problem

__all__ = ["Answers", "SamplingConfig", "sample_answers", "sample_batch", "seed_of_batch"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A batch of answers: prompts of L tokens, padded on the left, and completions of T, padded on the right."""

    texts: list[str]
    prompt_ids_BL: Tensor
    prompt_mask_BL: Tensor
    """1 where a token is the prompt's, 0 where it is padding."""
    completion_ids_BT: Tensor
    completion_mask_BT: Tensor
    """1 up to the first end token, that included; 0 after it."""
    truncated_B: Tensor
    """True where no end token came."""
    entropy_BT: Tensor
    """Entropy of the policy at the sampling temperature, in nats per token; meaningless where the mask is 0."""


def sample_answers(
    model: Any, tokenizer: Any, problems: list[Problem], config: SamplingConfig, max_tokens: int, seed: int = 0
) -> Iterator[Answers]:
    """Draw `config.num_samples` answers to each problem, problem after problem, in batches.

    The global random state and the model's mode are left as they were.

    Args:
        model: A causal language model of transformers.
        tokenizer: The model's tokenizer.
        problems: Problems, each with a `prompt`: text or chat messages.
        config: How to draw.
        max_tokens: Tokens after which an answer is cut.
        seed: Seed of the random draws.

    Yields:
        The batches, of `config.rows(max_tokens)` answers at most.
    """
    prompts = [problem["prompt"] for problem in problems for _ in range(config.num_samples)]
    rows = config.rows(max_tokens)
    for index, start in enumerate(range(0, len(prompts), rows)):
        batch = prompts[start : start + rows]
        yield sample_batch(model, tokenizer, batch, config, max_tokens, seed_of_batch(seed, index))


def seed_of_batch(seed: int, index: int) -> int:
    """Return the seed of one batch, so that any batch can be drawn again without those before it."""
    return random.Random(f"{seed}-{index}").getrandbits(63)


@torch.no_grad()
def sample_batch(
    model: Any, tokenizer: Any, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int
) -> Answers:
    """Draw one answer to each prompt at once; see `sample_answers`."""
    from transformers import GenerationConfig

    ends = _end_tokens(model, tokenizer)
    inputs = tokenizer(
        [prompt_text(tokenizer, prompt, config.chat_template_kwargs) for prompt in prompts],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        return_token_type_ids=False,
        add_special_tokens=isinstance(prompts[0], str),  # a chat template brings its own
    ).to(model.device)
    recorder = _EntropyRecorder(config.temperature)
    was_training, own = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()  # a repetition penalty of its own would make it another policy
    try:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            tokens = model.generate(
                **inputs,
                **_read_once(model, inputs),
                do_sample=True,
                max_new_tokens=max_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k,
                eos_token_id=ends or None,
                pad_token_id=tokenizer.pad_token_id,
                logits_processor=[recorder],
                **_as_in_training(config),
            )
    finally:
        model.generation_config = own
        model.train(was_training)
    completions = tokens[:, inputs["input_ids"].shape[1] :]
    is_end_BT = torch.isin(completions, torch.tensor(ends, dtype=torch.long, device=completions.device))
    return Answers(
        texts=tokenizer.batch_decode(completions, skip_special_tokens=True),
        prompt_ids_BL=inputs["input_ids"],
        prompt_mask_BL=inputs["attention_mask"],
        completion_ids_BT=completions,
        # No end token strictly before this one: the first of them still belongs to the answer.
        completion_mask_BT=(is_end_BT.cumsum(-1) - is_end_BT.long() == 0).long(),
        truncated_B=~is_end_BT.any(-1),
        entropy_BT=torch.stack(recorder.columns, dim=1),
    )


def _read_once(model: Any, inputs: Any) -> dict[str, Any]:
    """Return keys and values of the prompts, each prompt read once however often it stands there.

    Every token but the last is read; `generate` goes on from there. Nothing where no prompt is repeated, or where the
    model keeps something else than keys and values of all tokens, such as a window of them or a state.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    ids_BL, mask_BL = inputs["input_ids"], inputs["attention_mask"]
    rows, first_B = torch.unique(torch.cat([ids_BL, mask_BL], dim=1), dim=0, return_inverse=True)
    if len(rows) == len(ids_BL) or ids_BL.shape[1] < 2:
        return {}
    ids_PL, mask_PL = rows.split(ids_BL.shape[1], dim=1)
    # Padding is on the left, and positions count from the first token after it.
    positions_PL = (mask_PL.cumsum(-1) - 1).clamp(min=0)
    cache = model(
        input_ids=ids_PL[:, :-1],
        attention_mask=mask_PL[:, :-1],
        position_ids=positions_PL[:, :-1],
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values
    if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return {}
    cache.batch_select_indices(first_B)
    return {"past_key_values": cache}


def _as_in_training(config: SamplingConfig) -> dict[str, Any]:
    """Return the settings of generation that a run was trained with, beside temperature, top-p and top-k."""
    given = {"min_p": config.min_p, "repetition_penalty": config.repetition_penalty}
    return {name: value for name, value in given.items() if value is not None} | dict(config.generation_kwargs or {})


class _EntropyRecorder:
    """A logits processor that notes the entropy of each distribution, before `top_p` and `top_k` cut it."""

    def __init__(self, temperature: float):
        self._temperature = temperature
        self.columns: list[Tensor] = []
        """Entropies (B,) of each token that was drawn, one after the other."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # transformers asks the processors it is given before its own temperature, top-k and top-p.
        self.columns.append(token_entropy(scores[:, None] / self._temperature)[:, 0])
        return scores


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the model's own and the tokenizer's, as TRL does in training."""
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return sorted({*ends, tokenizer.eos_token_id} - {None})
