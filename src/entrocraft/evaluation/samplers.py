"""Samplers, which draw answers for an evaluation: transformers, or vLLM where it is installed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entrocraft.errors import InvalidValueError, MissingDependencyError
from entrocraft.models import best_device, load_model, load_tokenizer, resolve_model
from entrocraft.models.prompts import prompt_text
from entrocraft.models.sampling import SamplingConfig, sample_batch


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One completion that was drawn."""

    text: str
    """The completion without special tokens."""
    tokens: Sequence[int]
    """Tokens of the completion, its end included, as TRL gives them to rewards."""
    truncated: bool
    """Whether the completion was cut before its end."""
    entropy: float | None
    """Sum of the token entropies of the policy at the sampling temperature, in nats; None if they were not seen."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the completion, its end included."""
        return len(self.tokens)


class Sampler(ABC):
    """A model that answers prompts."""

    tokenizer: Any
    """Tokenizer of the model, with its chat template."""

    @abstractmethod
    def draw(self, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int) -> list[Drawn]:
        """Return one answer to each prompt.

        Args:
            prompts: Prompts, each text or chat messages; one that is to be answered twice stands there twice.
            config: Settings by which answers are drawn.
            max_tokens: Tokens after which an answer is cut.
            seed: Seed of the random draws.
        """


class TransformersSampler(Sampler):
    """Sampler that draws from a model of transformers, in this process.

    Args:
        model: A causal language model.
        tokenizer: Tokenizer of the model.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, name: str) -> "TransformersSampler":
        """Load a model by name, onto the GPU if there is one."""
        return cls(load_model(name, best_device()), load_tokenizer(name))

    def draw(self, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int) -> list[Drawn]:
        """Return one answer to each prompt; see `sample_batch`."""
        answers = sample_batch(self.model, self.tokenizer, prompts, config, max_tokens, seed)
        mask_BT = answers.completion_mask_BT
        columns = (
            answers.texts,
            [ids[mask.bool()].tolist() for ids, mask in zip(answers.completion_ids_BT, mask_BT, strict=True)],
            answers.truncated_B.tolist(),
            (answers.entropy_BT.double() * mask_BT).sum(-1).tolist(),
        )
        return [
            Drawn(text=text, tokens=tokens, truncated=truncated, entropy=entropy)
            for text, tokens, truncated, entropy in zip(*columns, strict=True)
        ]


def check_vllm(sources: Sequence[str]) -> None:
    """Refuse to draw with vLLM where it is not installed, or cannot load one of the models.

    Args:
        sources: Models, as `load_model` takes them.

    Raises:
        MissingDependencyError: vLLM is not installed.
        InvalidValueError: A model is an adapter or a GGUF file, which vLLM cannot load.
    """
    if find_spec("vllm") is None:
        raise MissingDependencyError("backend vllm needs vLLM: pip install vllm")
    for source in sources:
        path = Path(resolve_model(source))
        if path.suffix == ".gguf" or (path.is_dir() and not (path / "config.json").is_file()):
            raise InvalidValueError(
                f"vLLM cannot load {source}, an adapter or a GGUF file; `entrocraft export` a model first"
            )


class VllmSampler(Sampler):
    """Sampler that draws with vLLM, in this process; without entropies, which vLLM does not give.

    Args:
        name: Model to load, a folder or a hub id.

    Raises:
        MissingDependencyError: vLLM is not installed.
        InvalidValueError: vLLM cannot load the model.
    """

    def __init__(self, name: str):
        check_vllm([name])
        import vllm

        self._vllm = vllm
        self.tokenizer = load_tokenizer(name)
        self._model = vllm.LLM(model=resolve_model(name))

    def draw(self, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int) -> list[Drawn]:
        """Return one answer to each prompt; see `Sampler.draw`."""
        parameters = [
            self._vllm.SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k or -1,  # vLLM's word for no limit
                max_tokens=max_tokens,
                # What a model's own generation settings would bring, and evaluation leaves out.
                repetition_penalty=config.repetition_penalty or 1.0,
                min_p=config.min_p or 0.0,
                seed=(seed + i) % 2**31,
            )
            for i in range(len(prompts))
        ]
        # Prompts go in as tokens: a chat template brings its own special ones, which vLLM would add to text again.
        tokens = [
            {"prompt_token_ids": self.tokenizer(text, add_special_tokens=isinstance(prompt, str))["input_ids"]}
            for prompt in prompts
            for text in [prompt_text(self.tokenizer, prompt, config.chat_template_kwargs)]
        ]
        drawn = []
        for output in self._model.generate(tokens, parameters, use_tqdm=False):
            (completion,) = output.outputs
            drawn.append(
                Drawn(
                    text=completion.text,
                    tokens=list(completion.token_ids),
                    truncated=completion.finish_reason == "length",
                    entropy=None,
                )
            )
        return drawn
