"""What draws answers for an evaluation: transformers, or vLLM where it is installed."""

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
    """One completion."""

    text: str
    tokens: Sequence[int]
    """Its end included, as TRL gives them to rewards."""
    truncated: bool
    entropy: float | None
    """Sum of the token entropies of the policy at the sampling temperature, in nats; None if they were not seen."""

    @property
    def num_tokens(self) -> int:
        """How many tokens, its end included."""
        return len(self.tokens)


class Sampler(ABC):
    """A model that answers prompts."""

    tokenizer: Any

    @abstractmethod
    def draw(self, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int) -> list[Drawn]:
        """Return one answer to each prompt, text or chat messages."""


class TransformersSampler(Sampler):
    """A model of transformers.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, name: str) -> "TransformersSampler":
        """Load a model by name, onto the GPU if there is one."""
        return cls(load_model(name).to(best_device()), load_tokenizer(name))

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
    """Refuse what vLLM cannot do here.

    Args:
        sources: Models, as `load_model` takes them.

    Raises:
        MissingDependencyError: It is not installed.
        InvalidValueError: A model is one that it cannot load.
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
    """A model served by vLLM in this process. It shows no entropies: vLLM keeps whole distributions to itself.

    Args:
        name: A folder or a hub id.

    Raises:
        MissingDependencyError: vLLM is not installed.
    """

    def __init__(self, name: str):
        check_vllm([name])
        import vllm

        self._vllm = vllm
        self.tokenizer = load_tokenizer(name)
        self._model = vllm.LLM(model=resolve_model(name))

    def draw(self, prompts: Sequence[Any], config: SamplingConfig, max_tokens: int, seed: int) -> list[Drawn]:
        """Return one answer to each prompt."""
        parameters = [
            self._vllm.SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k or -1,
                max_tokens=max_tokens,
                repetition_penalty=1.0,
                min_p=0.0,
                seed=(seed + i) % 2**31,
            )
            for i in range(len(prompts))
        ]
        # As tokens: a chat template brings its own special ones, and vLLM would add them again to text.
        tokens = [
            {"prompt_token_ids": self.tokenizer(text, add_special_tokens=isinstance(prompt, str))["input_ids"]}
            for prompt in prompts
            for text in [prompt_text(self.tokenizer, prompt)]
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
