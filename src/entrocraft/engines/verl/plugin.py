"""What `import verl` loads in every process, through the entry point group `verl.plugins`.

It must cost nothing: importing verl's trainers here would take seconds in each Ray worker, and would settle verl's
platform before other plugins could register theirs. So it only asks to be called when verl imports two of its modules:

- `verl.utils.config`, whose `validate_config` the command calls before it starts Ray;
- `verl.trainer.ppo.v1`, whose trainers ours are made from.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _AfterImport:
    """A finder that calls back as soon as one module has been imported, and is gone then."""

    def __init__(self, name: str, callback: Callable[[ModuleType], None]):
        self._name, self._callback = name, callback
        self._looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name or self._looking:
            return None
        self._looking = True  # the others are asked for the module, not this one again
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is None or spec.loader is None:
            return spec
        # The spec is about to be used, this once, so its loader can be told to call back.
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self._callback(module)

        spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
        return spec


def after_import(name: str, callback: Callable[[ModuleType], None]) -> None:
    """Call `callback(module)` once the module has been imported: now, if it has been."""
    if name in sys.modules:
        callback(sys.modules[name])
    else:
        sys.meta_path.insert(0, _AfterImport(name, callback))


def _check_settings_with_verls_own(config_module: ModuleType) -> None:
    validate_config = config_module.validate_config

    @wraps(validate_config)
    def validate(config: Any, *args: Any, **kwargs: Any) -> None:
        validate_config(config, *args, **kwargs)
        from entrocraft.engines.verl.checks import check_run

        check_run(config)

    config_module.validate_config = validate  # type: ignore[attr-defined]


def _register_trainers(trainers_module: ModuleType) -> None:
    from entrocraft.engines.verl.compatibility import problem_with_verl

    try:
        if problem_with_verl() is not None:
            return  # `check_run` says so to those who ask for our trainers
        importlib.import_module("entrocraft.engines.verl.trainer")
    except Exception:  # nobody else's run may end for it
        logging.getLogger(__name__).warning("entrocraft's trainers cannot be registered", exc_info=True)


after_import("verl.utils.config", _check_settings_with_verls_own)
after_import("verl.trainer.ppo.v1", _register_trainers)
