"""Names to objects: import paths resolved, options checked against what their builder says it takes.

Rewards, advantage estimators and methods are all named the same way in settings: a name of this library, an
import path `package.module:name`, or a mapping of either, as `name`, with options beside it.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

from entrocraft.errors import EntrocraftError, InvalidValueError, UnknownNameError, did_you_mean, first_line

T = TypeVar("T")

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing \d+ required .*argument")
_MOST_CHARACTERS = 300  # that are repeated of another library's message
_MOST_NAMES = 10  # that are listed of a module in which none is near


def name_and_options(spec: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what a specification names, and its options: of a name alone, or of a mapping with a `name`.

    Raises:
        InvalidValueError: It is neither text nor a mapping.

    Example:
        >>> name_and_options("exact"), name_and_options({"name": "regex", "pattern": "x"})
        (('exact', {}), ('regex', {'pattern': 'x'}))
    """
    if not isinstance(spec, str | Mapping):
        raise InvalidValueError(f"expected a name, or a mapping of a name and its options, got {spec!r:.80}")
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    return options.pop("name", None), options


def load_object(path: str, what: str) -> Any:
    """Import what `package.module:name` names; modules in the working directory are found, too.

    Args:
        path: Module, a colon and the name in it, which may have dots: `package.module:Class.method`.
        what: Kind of thing that is named, for messages: `method`.

    Raises:
        InvalidValueError: It is not of that shape, there is no such module, the module raises, or it has no such name.

    Example:
        >>> load_object("math:sqrt", "function")(4)
        2.0
        >>> load_object("math:squrt", "function")
        Traceback (most recent call last):
        entrocraft.errors.InvalidValueError: function 'math:squrt': module math has no 'squrt': did you mean 'sqrt'?
    """
    module_name, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise InvalidValueError(f"{what}: expected package.module:name, got {path!r:.200}")
    found, place = _imported(module_name, f"{what} {path!r}"), f"module {module_name}"
    for part in name.split("."):
        if not hasattr(found, part):
            public = [known for known in dir(found) if not known.startswith("_")]
            hint = did_you_mean(part, public) or f" it has {', '.join(public[:_MOST_NAMES]) or 'nothing'}"
            raise InvalidValueError(f"{what} {path!r}: {place} has no {part!r}:{hint}")
        found, place = getattr(found, part), part
    return found


def _imported(module_name: str, what: str) -> Any:
    """Import a module, from the working directory, too."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if module_name not in sys.modules:
        importlib.invalidate_caches()  # a file that was written a moment ago is seen, too
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there may lack another one, which is then the one to name.
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            why = f"there is no module {error.name!r} in the working directory or in this environment"
        else:
            why = _said(error)
        raise InvalidValueError(f"{what}: cannot import {module_name}: {why}") from error
    except (Exception, SystemExit) as error:
        raise InvalidValueError(f"{what}: cannot import {module_name}: {_said(error)}") from error


def load_function(path: str, what: str = "function") -> Callable[..., Any]:
    """Import the function, or anything else that can be called, that `package.module:function` names.

    Raises:
        InvalidValueError: As `load_object`; or it cannot be called.

    Example:
        >>> load_function("math:pi")
        Traceback (most recent call last):
        entrocraft.errors.InvalidValueError: function 'math:pi' is no function but 3.141592653589793
    """
    function = load_object(path, what)
    if not callable(function):
        raise InvalidValueError(f"{what} {path!r} is no function but {function!r:.80}")
    return function


def check_options(builder: Callable[..., Any], options: Mapping[str, Any], what: str, num_given: int = 0) -> None:
    """Check options of a class or function by its signature, without calling it.

    Names and types are those of its arguments. Of a class that passes `**kwargs` on to its base, those of the base are
    known, too; whatever else a `**kwargs` takes is not checked here.

    Args:
        builder: A class or function, or a partial of one; what is not annotated may have any type.
        options: Its keyword arguments.
        what: Name of what is built, for messages: `task 'countdown'`.
        num_given: Number of leading arguments that the caller fills in itself, which are no options.

    Raises:
        UnknownNameError: It takes no such option; the message names the nearest one.
        InvalidValueError: An option is of another type, or one without a default is missing.

    Example:
        >>> check_options(lambda rewards, *, eps: rewards, {"esp": 3}, "estimator", num_given=1)
        Traceback (most recent call last):
        entrocraft.errors.UnknownNameError: unknown option of estimator 'esp': did you mean 'eps'? Known: eps
    """
    known, others = _parameters(builder, num_given)
    for name, value in options.items():
        if name not in known and others is None:
            raise _unknown(name, known, what)
        hint = known[name][1] if name in known else others
        mistake = _type_mistake(value, hint)
        if mistake is not None:
            raise InvalidValueError(f"{what}: {name}: {mistake}, got {value!r:.80}")
    missing = [name for name, (required, _) in known.items() if required and name not in options]
    if missing:
        raise InvalidValueError(f"{what} needs {', '.join(missing)}")


def build_with(builder: Callable[..., T], options: Mapping[str, Any], what: str) -> T:
    """Call a class or function with options, after checking their names and types by its signature.

    Args:
        builder: A class or function, or a partial of one; see `check_options`.
        options: Its keyword arguments.
        what: Name of what is built, for messages: `task 'countdown'`.

    Raises:
        UnknownNameError: It takes no such option; the message names the nearest one.
        InvalidValueError: An option is of another type or missing, the builder refuses a value or, where it is a
            user's own, raises anything at all, or it is an abstract class.

    Example:
        >>> build_with(lambda *, size: size, {"sizes": 3}, "box")
        Traceback (most recent call last):
        entrocraft.errors.UnknownNameError: unknown option of box 'sizes': did you mean 'size'? Known: size
    """
    check_options(builder, options, what)
    if inspect.isabstract(builder):
        lacking = ", ".join(sorted(getattr(builder, "__abstractmethods__", ())))
        raise InvalidValueError(f"{what} is an abstract class: it lacks {lacking}")
    try:
        return builder(**options)
    except EntrocraftError:
        raise
    except TypeError as error:
        # What `**kwargs` took was passed on to something that does not know it, or needs more.
        unexpected = _UNEXPECTED.search(str(error))
        if unexpected is not None and unexpected[1] in options:
            raise _unknown(unexpected[1], _parameters(builder, 0)[0], what) from error
        if _MISSING.search(str(error)):
            raise InvalidValueError(f"{what}: {_said(error)}") from error
        if _is_ours(builder):
            raise
        raise InvalidValueError(f"{what} raises {_said(error)}") from error
    except ValueError as error:
        raise InvalidValueError(f"{what}: {first_line(error)[:_MOST_CHARACTERS]}") from error
    except Exception as error:
        if _is_ours(builder):
            raise  # a fault of this library, which shows its trace
        raise InvalidValueError(f"{what} raises {_said(error)}") from error


def _is_ours(builder: Callable[..., Any]) -> bool:
    """Return True for what this library defines, and False for what a user does."""
    function: Any = builder.func if isinstance(builder, partial) else builder
    return str(getattr(function, "__module__", "")).partition(".")[0] == "entrocraft"


def _parameters(builder: Callable[..., Any], num_given: int) -> tuple[dict[str, tuple[bool, Any]], Any]:
    """Return for each argument whether it is required, and its type; and the type of what `**kwargs` takes, or None."""
    known: dict[str, tuple[bool, Any]] = {}
    others: Any = None
    for place, (function, signature) in enumerate(_signatures(builder)):
        hints, is_open = _type_hints(function), False
        for name, parameter in list(signature.parameters.items())[0 if place else num_given :]:
            hint = hints.get(name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                is_open, others = True, hint if others is None else others
            elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                # A class may give its base what that requires: only its own arguments can be missing.
                known.setdefault(name, (parameter.default is parameter.empty and not place, hint))
        if not is_open:
            break
    return known, others


def _signatures(builder: Callable[..., Any]) -> Iterator[tuple[Any, inspect.Signature]]:
    """Yield what is called and its signature; for a class, those of the bases that `**kwargs` may go to, too."""
    function: Any = builder.func if isinstance(builder, partial) else builder
    classes = function.__mro__ if inspect.isclass(function) else ()
    constructors = [vars(each)["__init__"] for each in classes if each is not object and "__init__" in vars(each)]
    yield constructors[0] if constructors else function, _signature(builder)
    for constructor in constructors[1:]:
        signature = _signature(constructor)
        yield constructor, signature.replace(parameters=list(signature.parameters.values())[1:])  # without `self`


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # written in C without one: anything may be given
        return inspect.Signature([inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)])


def _type_hints(function: Any) -> dict[str, Any]:
    """Return the types of arguments, each read by itself: names that only type checkers know may mean anything."""
    hints: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone: Any = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= get_type_hints(alone, globalns=getattr(function, "__globals__", {}))
        except Exception:  # whatever the text of an annotation raises
            hints[name] = Any
    return hints


def _type_mistake(value: Any, hint: Any) -> str | None:
    """Return what is wrong with the type of a value; None if nothing is, or the type cannot be checked."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError  # no part of the pure core

    adapter: TypeAdapter[Any]
    try:
        try:
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:  # data classes and the like have a configuration of their own
            adapter = TypeAdapter(hint)
    except PydanticUserError:
        return None
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return f"{message[0].lower()}{message[1:]}"
    return None


def _unknown(name: str, known: Mapping[str, Any], what: str) -> UnknownNameError:
    if not known:
        return UnknownNameError(f"{what} takes no options, got {name!r}")
    return UnknownNameError.of(f"option of {what}", name, known)


def _said(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message, shortened."""
    kind, message = type(error).__name__, first_line(error)[:_MOST_CHARACTERS]
    return kind if message == kind else f"{kind}: {message}"
