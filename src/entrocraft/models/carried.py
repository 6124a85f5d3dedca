"""What the settings of training say about how the model is asked and answers, and what evaluation must do alike.

TRL takes settings that change what the policy reads (`chat_template_kwargs`) and how it writes (`min_p`,
`repetition_penalty`, `generation_kwargs`). Scores on held-out problems are scores of that policy only if they are asked
and drawn in the same way. What evaluation cannot do alike is refused.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.models.sampling_config import SamplingConfig

_ELSEWHERE = {
    "temperature": "train.temperature",
    "top_p": "train.trl.top_p",
    "top_k": "train.trl.top_k",
    "min_p": "train.trl.min_p",
    "repetition_penalty": "train.trl.repetition_penalty",
    "max_new_tokens": "train.max_completion_tokens",
    "max_tokens": "train.max_completion_tokens",
    "max_length": "train.max_completion_tokens",
    "cache_implementation": "train.trl.cache_implementation",
}
_NOT_CARRIED = {
    "stop_strings": "answers end where the model ends them, in training without vLLM and in evaluation",
    "stop": "answers end where the model ends them in evaluation",
    "stop_token_ids": "answers end where the model ends them in evaluation",
    "eos_token_id": "answers end where the model and its tokenizer say",
    "pad_token_id": "the tokenizer says it",
    "bos_token_id": "the tokenizer says it",
    "do_sample": "rollouts are drawn at random",
    "num_beams": "rollouts are drawn at random",
    "num_return_sequences": "train.rollouts_per_prompt says how many rollouts a prompt has",
    "return_dict_in_generate": "it changes what is returned, not what is drawn",
}


def carried_over(trl: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `SamplingConfig` by which evaluation asks and draws as training does.

    Args:
        trl: The configuration's `train.trl`.

    Raises:
        InvalidValueError: A setting is of another type, is said elsewhere, or evaluation cannot do alike.
        UnknownNameError: `generation_kwargs` names what transformers does not know.

    Example:
        >>> carried_over({"chat_template_kwargs": {"enable_thinking": False}, "beta": 0.1})
        {'chat_template_kwargs': {'enable_thinking': False}}
    """
    names = {field.name for field in fields(SamplingConfig)} - {"num_samples", "temperature", "batch_size"}
    carried = {name: trl[name] for name in sorted(names) if trl.get(name) is not None}
    for name in ("chat_template_kwargs", "generation_kwargs"):
        value = carried.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise InvalidValueError(f"train.trl.{name} must be keys and values, got {value!r:.80}")
        if not value:
            carried.pop(name, None)
    if trl.get("vllm_structured_outputs_regex") is not None:
        raise InvalidValueError(
            "train.trl.vllm_structured_outputs_regex cannot be used: evaluation could not hold answers to it, so that "
            "its scores would be another policy's; leave it out"
        )
    _check_generation(carried.get("generation_kwargs", {}), uses_vllm=bool(trl.get("use_vllm")))
    for name, value in carried.items():  # now, in the words of the configuration
        try:
            SamplingConfig(**{name: value})
        except (TypeError, InvalidValueError) as error:
            raise InvalidValueError(f"train.trl.{name}: {error}") from error
    return carried


def _check_generation(settings: Mapping[str, Any], *, uses_vllm: bool) -> None:
    for name in settings:
        if name in _ELSEWHERE:
            raise InvalidValueError(f"train.trl.generation_kwargs.{name} cannot be used: it is {_ELSEWHERE[name]}")
        if name in _NOT_CARRIED:
            raise InvalidValueError(
                f"train.trl.generation_kwargs.{name} cannot be used: {_NOT_CARRIED[name]}; leave it out"
            )
    if not settings:
        return
    if uses_vllm:
        raise InvalidValueError(
            f"train.trl.generation_kwargs ({', '.join(sorted(settings))}) cannot be used with use_vllm: held-out "
            "problems are answered without vLLM, which alone knows these words; leave them out"
        )
    from transformers import GenerationConfig

    known = vars(GenerationConfig())
    for name in settings:
        if name not in known:
            raise UnknownNameError.of("setting in train.trl.generation_kwargs", name, known)
