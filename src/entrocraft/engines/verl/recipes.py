"""Recipes for verl: a YAML file becomes the overrides of verl's stock command, checked by verl's own configuration."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entrocraft.engines.verl.checks import check_config
from entrocraft.engines.verl.compatibility import problem_with_verl
from entrocraft.engines.verl.reward_functions import check_reward_function
from entrocraft.errors import InvalidValueError, MissingDependencyError, first_line
from entrocraft.yaml_text import read_yaml_file

_NEW_BLOCKS = ("entrocraft",)
"""What verl's configuration does not have by itself."""


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the settings of a recipe, over those of the recipe that it names as its `base`.

    A recipe is nested as verl's configuration is. Keys may also be written with dots.

    Raises:
        InvalidValueError: A file cannot be read or is no mapping, or recipes are each other's base.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "base.yaml").write_text("data: {train_batch_size: 8, seed: 1}")
        >>> _ = (folder / "mine.yaml").write_text("base: base.yaml\\ndata.seed: 2")
        >>> read_recipe(folder / "mine.yaml")
        {'data': {'train_batch_size': 8, 'seed': 2}}
    """
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in above:
        raise InvalidValueError(f"{path} is its own base, by way of {', '.join(p.name for p in above)}")
    own = read_yaml_file(path)
    if not isinstance(own, dict):
        raise InvalidValueError(f"{path}: expected keys and values, got {type(own).__name__}")
    base = own.pop("base", None)
    settings = {} if base is None else _read(path.parent / str(base), (*above, path))
    for key, value in own.items():
        _merge(settings, str(key).split("."), value)
    return settings


def _merge(settings: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Put a value at a path of keys; mappings are merged, but for a new block, which replaces that of the base."""
    first, *rest = keys
    if rest:
        _merge(_section(settings, first), rest, value)
    elif isinstance(value, dict) and first not in _NEW_BLOCKS:
        for key, inner in value.items():
            _merge(_section(settings, first), str(key).split("."), inner)
    else:
        settings[first] = value


def _section(settings: dict[str, Any], key: str) -> dict[str, Any]:
    section = settings.setdefault(key, {})
    if not isinstance(section, dict):
        raise InvalidValueError(f"{key!r} is {section!r} in the base, so nothing can be put into it")
    return section


def hydra_overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return settings as overrides of verl's command line, one for each value; a new block as one whole.

    Example:
        >>> hydra_overrides({"data": {"seed": 1}, "entrocraft": {"schedule": "linear(0.6, 0.2)"}})
        ['data.seed=1', '+entrocraft={schedule:"linear(0.6, 0.2)"}']
    """
    overrides = []
    for key, value in settings.items():
        if not prefix and key in _NEW_BLOCKS:
            overrides.append(f"+{key}={_in_hydra(value)}")
        elif isinstance(value, Mapping):
            overrides += hydra_overrides(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={_in_hydra(value)}")
    return overrides


def _in_hydra(value: Any) -> str:
    """Write a value as Hydra's grammar has it: text always in quotes, for a bracket would call a function."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ",".join(f"{_key(key)}:{_in_hydra(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_in_hydra, value)) + "]"
        case _:
            # A backslash is one by itself, but before a quote it must be doubled.
            return '"' + re.sub(r'(\\*)("|$)', _escaped, str(value)) + '"'


def _escaped(match: re.Match[str]) -> str:
    return match[1] * 2 + ('\\"' if match[2] else "")


def _key(key: Any) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w./@-]*", str(key)):
        raise InvalidValueError(f"a key of letters, digits and _ was expected, got {key!r}")
    return str(key)


def composed(overrides: Sequence[str]) -> DictConfig:
    """Return the configuration that verl's command would run with, checked by verl and by us.

    Raises:
        MissingDependencyError: verl is not one that the engine knows.
        InvalidValueError: verl has no such key, or refuses a value.
        EntrocraftError: We do; see `check_config`.
    """
    if problem := problem_with_verl():  # another verl has other keys
        raise MissingDependencyError(problem)
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils import config as verl_config

    validate = verl_config.validate_config
    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("ppo_trainer", overrides=list(overrides))
            OmegaConf.resolve(config)
        # verl's own part: ours follows, without what only matters where the run is to be.
        getattr(validate, "__wrapped__", validate)(config, need_reference_policy(config), need_critic(config))
    except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
        lines = [first_line(error)] + ([first_line(error.__cause__)] if error.__cause__ else [])
        raise InvalidValueError(f"verl refuses this configuration: {': '.join(lines)}") from error
    check_config(config)
    check_reward_function(config)
    return config


def start(overrides: Sequence[str]) -> None:
    """Become verl's stock command with these overrides; does not return.

    Raises:
        InvalidValueError: verl is told not to load our plugin.
    """
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip()
    if policy.lower() != "auto" and "entrocraft" not in [name.strip() for name in policy.lower().split(",")]:
        raise InvalidValueError(
            f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps verl from our trainers; unset it, or name entrocraft in it"
        )
    os.execv(sys.executable, command(overrides))


def command(overrides: Sequence[str]) -> list[str]:
    """Return verl's stock command with these overrides."""
    return [sys.executable, "-m", "verl.trainer.main_ppo", *overrides]
