"""Prompts as a tokenizer turns them into tokens, and whether a model can take them."""

from collections.abc import Mapping, Sequence
from typing import Any

from entrocraft.errors import InvalidValueError
from entrocraft.models.loading import context_length, load_tokenizer
from entrocraft.tasks import Problem, Task


def prompt_text(
    tokenizer: Any, prompt: str | list[dict[str, str]], chat_template_kwargs: Mapping[str, Any] | None = None
) -> str:
    """Return a prompt as text: itself, or a chat with the tokenizer's template around it.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text, or chat messages.
        chat_template_kwargs: Arguments of the template, such as `enable_thinking`.

    Raises:
        InvalidValueError: The prompt is a chat, and the tokenizer has no template, or it refuses the chat.
    """
    if isinstance(prompt, str):
        return prompt
    if getattr(tokenizer, "chat_template", None) is None:
        raise InvalidValueError(
            "the prompts are chats, and this model's tokenizer has no chat template: take an instruction-tuned model, "
            "or plain prompts (`chat: false`, no `system`)"
        )
    try:
        return tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=False, **(chat_template_kwargs or {})
        )
    except Exception as error:  # whatever a template raises: some refuse a system message, and say so
        raise InvalidValueError(f"the chat template refuses {prompt!r:.160}: {error}") from error


def load_fitting_tokenizer(
    model: str,
    task: Task,
    problems: Sequence[Problem],
    max_completion_tokens: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Load the tokenizer of the model with this name, and refuse prompts that it or the model cannot take.

    Args:
        model: What `resolve_model` takes.
        task, problems, max_completion_tokens, chat_template_kwargs: See `check_prompts`.

    Raises:
        InvalidValueError: There is no such model, or `check_prompts` refuses.
    """
    tokenizer = load_tokenizer(model)
    check_prompts(task, problems, tokenizer, context_length(model), max_completion_tokens, chat_template_kwargs)
    return tokenizer


def check_prompts(
    task: Task,
    problems: Sequence[Problem],
    tokenizer: Any,
    context_length: int | None,
    max_completion_tokens: int,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Refuse prompts that a model cannot take, or that leave no room for an answer.

    Args:
        task: The task, which says where a problem stands.
        problems: Problems of the task.
        tokenizer: The model's tokenizer.
        context_length: Tokens that the model can take, prompt and answer; None if there is no limit.
        max_completion_tokens: Tokens of an answer, at most.
        chat_template_kwargs: Arguments of the chat template.

    Raises:
        InvalidValueError: There is no chat template for a chat, or it refuses one; a prompt has characters that the
            tokenizer does not know; or it is too long. The message names the first such problem.
    """
    texts = [_text(task, problem, tokenizer, chat_template_kwargs) for problem in problems]
    try:
        lengths = _lengths(tokenizer, texts, [isinstance(problem["prompt"], str) for problem in problems])
    except Exception as error:  # tokenizers raises nothing more particular
        unread = next((i for i, text in enumerate(texts) if not _is_read(tokenizer, text)), 0)
        raise InvalidValueError(
            f"{task.place_of(problems[unread])}: the tokenizer cannot read the prompt {texts[unread]!r:.120}: {error}"
        ) from error
    if context_length is None:
        return
    room = context_length - max_completion_tokens
    too_long = [i for i, length in enumerate(lengths) if length > room]
    if too_long:
        first = too_long[0]
        raise InvalidValueError(
            f"{task.place_of(problems[first])}: {len(too_long)} of {len(problems)} prompts are too long: the model "
            f"takes {context_length} tokens, of which an answer may need {max_completion_tokens}, and this prompt has "
            f"{lengths[first]}: {texts[first]!r:.120}. Leave such rows out, or lower max_completion_tokens"
        )


def _lengths(tokenizer: Any, texts: Sequence[str], are_plain: Sequence[bool]) -> list[int]:
    """Return how many tokens each text has; a chat template brings its own special ones."""
    lengths = [0] * len(texts)
    for plain in (True, False):
        rows = [i for i, is_plain in enumerate(are_plain) if is_plain == plain]
        if rows:
            read = tokenizer([texts[i] for i in rows], **({} if plain else {"add_special_tokens": False}))
            for i, ids in zip(rows, read["input_ids"], strict=True):
                lengths[i] = len(ids)
    return lengths


def _text(task: Task, problem: Problem, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None) -> str:
    """Return a problem's prompt as text; what is wrong with it is said with the place of the problem."""
    try:
        return prompt_text(tokenizer, problem["prompt"], chat_template_kwargs)
    except InvalidValueError as error:
        raise InvalidValueError(f"{task.place_of(problem)}: {error}") from error


def _is_read(tokenizer: Any, text: str) -> bool:
    """Return whether the tokenizer knows what to do with every character of `text`."""
    try:
        tokenizer(text)
    except Exception:
        return False
    return True
