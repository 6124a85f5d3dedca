"""Modules import each other in one direction: what a module imports as it loads never leads back to it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import entrocraft

SOURCE = Path(entrocraft.__file__).parent


def module_of(file):
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("entrocraft", *(part for part in parts if part != "__init__")))


MODULES = {module_of(file): file for file in SOURCE.rglob("*.py")}


def imported_by(file, *, inside_functions=False):
    """Return the modules of ours that a file imports as it loads, and those of its functions if asked for.

    What is for type checkers only does not count.
    """
    waiting, names = [ast.parse(file.read_text())], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= submodules & MODULES.keys() or {node.module}
        waiting += ast.iter_child_nodes(node)
    return names & MODULES.keys() - {"entrocraft"}


def test_no_module_leads_back_to_itself():
    graph = {module: imported_by(file) - {module} for module, file in MODULES.items()}
    assert graph["entrocraft.schedules.band"] >= {"entrocraft.schedules.parse"}  # imports are found at all
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(reversed(error.args[1]))) from error


def test_schedules_know_nothing_but_errors_and_each_other():
    room = {module: file for module, file in MODULES.items() if module.startswith("entrocraft.schedules")}
    graph = {module: imported_by(file, inside_functions=True) - {module} for module, file in room.items()}
    assert set().union(*graph.values()) <= room.keys() | {"entrocraft.errors"}
    TopologicalSorter(graph).prepare()
