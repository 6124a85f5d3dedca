"""The house: rooms on floors, arrows only down, no engine that asks for a method's name."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import entrocraft
from entrocraft.control.methods import METHODS
from entrocraft.control.settings import PRESETS

SOURCE = Path(entrocraft.__file__).parent

FLOORS = (
    {"errors"},
    {"entropy", "registry", "runs", "schedules"},
    {"advantages", "dynamics", "grading", "yaml_text"},
    {"control", "tasks"},
    {"controllers", "engines", "models"},
    {"analysis", "config", "evaluation"},
    {"reports", "study"},
    {"app", "training"},
    {"cli"},
)
"""Rooms from the ground up: a room may import what is on floors below its own, and itself."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS, start=1) for room in rooms}


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


def room_of(module):
    return module.split(".")[1]


def test_every_room_is_on_a_floor_and_there_are_few_modules_beside_rooms():
    entries = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert entries - {"__init__", "__main__"} == FLOOR_OF.keys()
    assert len(FLOORS) <= 9
    assert len(list(SOURCE.glob("*.py"))) <= 8


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"entrocraft", "entrocraft.__main__"}))
def test_imports_lead_down(module):
    """What functions import counts, too; the face of the package, `entrocraft/__init__.py`, looks into every room."""
    room, imported = room_of(module), imported_by(MODULES[module], inside_functions=True)
    up = sorted(other for other in imported if room_of(other) != room and FLOOR_OF[room_of(other)] >= FLOOR_OF[room])
    assert not up, f"{module} on floor {FLOOR_OF[room]} imports {', '.join(up)}"


def test_an_arrow_up_would_be_found(tmp_path):
    file = tmp_path / "low.py"
    file.write_text("def lazily():\n    from entrocraft.engines.decider import Decider\n")
    assert imported_by(file, inside_functions=True) == {"entrocraft.engines.decider"} and not imported_by(file)


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


def compared_names(file):
    """Return the texts that a file compares something with, alone or among others, or matches it against."""
    operands = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Compare):
            operands += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands.append(node.value)
    operands += [part for node in operands if isinstance(node, ast.Tuple | ast.List | ast.Set) for part in node.elts]
    return {node.value for node in operands if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("module", sorted(module for module in MODULES if module.startswith("entrocraft.engines")))
def test_no_engine_asks_for_the_name_of_a_method(module):
    assert not compared_names(MODULES[module]) & {*METHODS, *PRESETS, "rejection"}


def test_asking_for_a_name_would_be_found(tmp_path):
    file = tmp_path / "engine.py"
    file.write_text("if control.method_name in ('token', 'budget') or rule == 'aligned':\n    pass\n")
    assert compared_names(file) == {"token", "budget", "aligned"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_is_short_enough_to_be_read(module):
    assert len(MODULES[module].read_text().splitlines()) <= 350
