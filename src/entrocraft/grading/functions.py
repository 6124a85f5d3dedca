"""Functions by name, as users give them in a configuration: `package.module:function`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from entrocraft.errors import InvalidValueError, UnknownNameError


def load_function(spec: str) -> Callable[..., Any]:
    """Import `package.module:function`, from the working directory, too.

    Raises:
        InvalidValueError: It is not of that shape, the module cannot be imported, or the name is no function.
        UnknownNameError: The module has no such name.

    Example:
        >>> load_function("math:sqrt")(4)
        2.0
    """
    module_name, separator, name = spec.partition(":")
    if not separator or not module_name or not name.isidentifier():
        raise InvalidValueError(f"expected a function as package.module:function, got {spec!r}")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InvalidValueError(f"{spec!r}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise UnknownNameError.of(f"function in {module.__name__}", name, [n for n in vars(module) if n[0] != "_"])
    function = getattr(module, name)
    if not callable(function):
        raise InvalidValueError(f"{spec!r} is no function but {function!r}")
    return function
