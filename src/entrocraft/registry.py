"""Options of tasks and rewards, checked against what their builder says it takes."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from entrocraft.errors import InvalidValueError, UnknownNameError

T = TypeVar("T")


def name_and_options(spec: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what a specification names, and its options: of a name alone, or of a mapping with a `name`.

    Example:
        >>> name_and_options("exact"), name_and_options({"name": "regex", "pattern": "x"})
        (('exact', {}), ('regex', {'pattern': 'x'}))
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    return options.pop("name", None), options


def build_with(builder: Callable[..., T], options: Mapping[str, Any], what: str) -> T:
    """Call `builder` with options, after checking their names and types by its signature.

    Args:
        builder: A class or function, or a partial of one, with annotated arguments.
        options: Its arguments.
        what: What is built, for messages.

    Raises:
        UnknownNameError: It takes no such option.
        InvalidValueError: An option is of another type, or missing.

    Example:
        >>> build_with(lambda *, size: size, {"sizes": 3}, "box")
        Traceback (most recent call last):
        entrocraft.errors.UnknownNameError: unknown option of box 'sizes': did you mean 'size'? Known: size
    """
    parameters = inspect.signature(builder).parameters
    function: Any = builder.func if isinstance(builder, partial) else builder
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for name, value in options.items():
        if name not in parameters:
            raise UnknownNameError.of(f"option of {what}", name, parameters)
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise InvalidValueError(f"{what}: {name}: {message[0].lower()}{message[1:]}, got {value!r:.80}") from error
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and name not in options
    ]
    if missing:
        raise InvalidValueError(f"{what} needs {', '.join(missing)}")
    return builder(**options)
