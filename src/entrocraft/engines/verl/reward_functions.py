"""Whether a run's own reward function is there: verl looks for it in its workers only, when Ray is up."""

import ast
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from entrocraft.errors import InvalidValueError, first_line

_KEY = "reward.custom_reward_function"


def check_reward_function(config: DictConfig) -> None:
    """Refuse a reward function whose file or name is not there. Its module is read, not run.

    Raises:
        InvalidValueError: There is no such file or module, it is not Python, or it has nothing of that name.
    """
    path, name = (OmegaConf.select(config, f"{_KEY}.{key}", default=None) for key in ("path", "name"))
    if path is None:
        return
    file = _file_of(path)
    if file is None:
        return  # no source to look at; verl will import it
    try:
        module = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise InvalidValueError(f"{_KEY}.path={path} cannot be read: {first_line(error)}") from error
    names, whole = _names_in(module)
    if whole and name not in names:
        raise InvalidValueError(
            f"{_KEY}.name={name} is not in {path}; it has "
            f"{', '.join(sorted(n for n in names if n[0] != '_')) or 'nothing'}"
        )


def _file_of(path: str) -> Path | None:
    """Return the source that verl would load for `path`; None if a module has none."""
    if not path.startswith("pkg://"):
        file = Path(path.removeprefix("file://"))
        if not file.is_file():
            raise InvalidValueError(f"{_KEY}.path={path}: there is no such file (looked for at {file.absolute()})")
        return file
    module = path.removeprefix("pkg://").replace("/", ".")
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise InvalidValueError(f"{_KEY}.path={path}: there is no module {module!r} in this environment")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _names_in(module: ast.Module) -> tuple[set[str], bool]:
    """Return the names that a module defines, and whether these are all that it can have."""
    names: set[str] = set()
    whole = True
    nodes: list[ast.AST] = [module]
    while nodes:
        node = nodes.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
                continue  # names within are not the module's
            case ast.Lambda():
                continue
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
                whole = whole and all(alias.name != "*" for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
        nodes += ast.iter_child_nodes(node)
    return names, whole
