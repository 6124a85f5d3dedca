import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.registry import build_with, check_options, load_function, load_object, name_and_options
from entrocraft.schedules import Schedule, constant

if TYPE_CHECKING:
    from nowhere import Unknown


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working directory; return a function that does, under a name of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source, name="mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        Path(f"{name}.py").write_text(source)

    yield write
    sys.modules.pop("mine", None)


def test_names_come_alone_or_with_options_and_as_nothing_else():
    assert name_and_options("exact") == ("exact", {})
    assert name_and_options({"name": "regex", "pattern": "x"}) == ("regex", {"pattern": "x"})
    assert name_and_options({"pattern": "x"}) == (None, {"pattern": "x"})
    with pytest.raises(InvalidValueError, match="expected a name, or a mapping of a name and its options, got 5"):
        name_and_options(5)


def test_options_are_not_taken_out_of_the_specification_itself():
    spec = {"name": "regex", "pattern": "x"}
    name_and_options(spec)
    assert spec == {"name": "regex", "pattern": "x"}


# Import paths


def test_an_object_is_found_in_the_working_directory_and_within_a_class(module):
    module("class Outer:\n    class Inner:\n        size = 3\n")
    assert load_object("mine:Outer.Inner", "box").size == 3
    assert load_object("os.path:join", "function") is __import__("os").path.join


@pytest.mark.parametrize("path", ["mine", "mine:", ":f", "a b:f", "mine:f()", "mine.py:f", "../mine:f", "a:b:c", ""])
def test_what_is_no_import_path_is_refused(path):
    expected = f"box: expected package.module:name, got {path!r}"
    if path == "mine.py:f":
        expected = "cannot import mine.py: there is no module 'mine'"
    with pytest.raises(InvalidValueError) as error:
        load_object(path, "box")
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('first\\nsecond')", "box 'mine:f': cannot import mine: RuntimeError: first"),
        ("raise RuntimeError", "box 'mine:f': cannot import mine: RuntimeError"),
        ("import sys\nsys.exit(3)", "box 'mine:f': cannot import mine: SystemExit: 3"),
        ("import nowhere", "box 'mine:f': cannot import mine: ModuleNotFoundError: No module named 'nowhere'"),
        ("def f(:", "box 'mine:f': cannot import mine: SyntaxError: invalid syntax (mine.py, line 1)"),
        ("def ff(): pass", "box 'mine:f': module mine has no 'f': did you mean 'ff'?"),
        ("apples = pears = 1", "box 'mine:f': module mine has no 'f': it has apples, pears"),
        ("", "box 'mine:f': module mine has no 'f': it has nothing"),
    ],
)
def test_what_keeps_an_object_from_being_found_is_said_in_one_line(module, source, message):
    module(source)
    with pytest.raises(InvalidValueError) as error:
        load_object("mine:f", "box")
    assert str(error.value) == message


def test_a_module_that_is_not_there_is_named(module):
    with pytest.raises(InvalidValueError, match="box 'nowhere.at.all:f': cannot import .* no module 'nowhere' in the"):
        load_object("nowhere.at.all:f", "box")
    with pytest.raises(InvalidValueError, match="there is no module 'os.nowhere'"):
        load_object("os.nowhere:f", "box")


def test_a_long_message_of_another_library_is_shortened(module):
    module("raise ValueError('x' * 100_000)")
    with pytest.raises(InvalidValueError) as error:
        load_object("mine:f", "box")
    assert len(str(error.value)) < 500


def test_what_cannot_be_called_is_no_function():
    assert load_function("math:sqrt")(4) == 2.0
    with pytest.raises(InvalidValueError, match=r"reward 'math:pi' is no function but 3\.14"):
        load_function("math:pi", "reward")


# Options


class Box:
    def __init__(self, size: int, *, colour: str = "red", weight: float | None = None):
        self.size, self.colour, self.weight = size, colour, weight


class Crate(Box):
    """Takes what its base takes, and one thing more."""

    def __init__(self, lid: bool = False, **options: Any):
        super().__init__(**options)
        self.lid = lid


class Sack:
    """Takes anything that is a number."""

    def __init__(self, **contents: float):
        self.contents = contents


@dataclass(frozen=True, kw_only=True)
class Tin:
    size: int
    label: str = ""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


class Pair(NamedTuple):
    left: int
    right: int = 0


def test_options_reach_functions_classes_data_classes_and_partials():
    assert build_with(Box, {"size": 3, "weight": 1}, "box").weight == 1  # a whole number is a number
    assert build_with(Tin, {"size": 2}, "tin") == Tin(size=2)
    assert build_with(Pair, {"left": 2}, "pair") == Pair(2, 0)
    assert build_with(partial(Box, 3), {"colour": "blue"}, "box").colour == "blue"
    assert build_with(partial(Box, colour="blue"), {"size": 3}, "box").colour == "blue"
    assert build_with(dict, {"anything": 1}, "dictionary") == {"anything": 1}  # its signature cannot be seen


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (Box, {"sise": 3}, "unknown option of box 'sise': did you mean 'size'? Known: colour, size, weight"),
        (Tin, {"labels": ""}, "unknown option of box 'labels': did you mean 'label'? Known: label, size"),
        (partial(Box, 3), {"size": 3}, "unknown option of box 'size': Known: colour, weight"),
        (
            Crate,
            {"size": 3, "colr": "red"},
            "unknown option of box 'colr': did you mean 'colour'? Known: colour, lid, ",
        ),
        (lambda: None, {"size": 3}, "box takes no options, got 'size'"),
        (lambda *sizes: None, {"sizes": 3}, "box takes no options, got 'sizes'"),
        (Sack, {"contents": "x"}, None),
    ],
)
def test_an_option_that_is_not_there_is_refused_with_the_nearest(builder, options, message):
    with pytest.raises(UnknownNameError if message else InvalidValueError) as error:
        build_with(builder, options, "box")
    assert str(error.value).startswith(message or "box: contents: ")


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (Box, {"size": "3"}, "box: size: input should be a valid integer, got '3'"),
        (Box, {"size": 3.0}, "box: size: input should be a valid integer, got 3.0"),
        (Box, {"size": True}, "box: size: input should be a valid integer, got True"),
        (Box, {"size": 1, "weight": "x"}, "box: weight: input should be a valid number, got 'x'"),
        (Box, {"colour": "blue"}, "box needs size"),
        (Tin, {}, "box needs size"),
        (Tin, {"size": 0}, "box: size must be at least 1"),
        (Crate, {"size": "3"}, "box: size: input should be a valid integer, got '3'"),
        (Crate, {"lid": 1, "size": 1}, "box: lid: input should be a valid boolean, got 1"),
        (Crate, {}, "box: TypeError: Box.__init__() missing 1 required positional argument: 'size'"),
        (Sack, {"flour": "x"}, "box: flour: input should be a valid number, got 'x'"),
    ],
)
def test_an_option_that_is_missing_or_of_another_type_is_named(builder, options, message):
    with pytest.raises(InvalidValueError) as error:
        build_with(builder, options, "box")
    assert str(error.value) == message


def test_a_class_hands_on_what_its_base_takes_and_keeps_what_anything_may_be():
    crate = build_with(Crate, {"lid": True, "size": 3, "colour": "blue"}, "crate")
    assert (crate.lid, crate.size, crate.colour) == (True, 3, "blue")
    assert build_with(Sack, {"flour": 1.5}, "sack").contents == {"flour": 1.5}


def test_types_that_cannot_be_checked_may_be_anything():
    class Shelf:
        def __init__(self, curve: Schedule, tin: Tin, rest: "Unknown" = None, size: "int" = 1):
            self.curve, self.tin, self.rest = curve, tin, rest

    shelf = build_with(Shelf, {"curve": constant(0.5), "tin": Tin(size=1), "rest": object()}, "shelf")
    assert shelf.curve(0, 10) == 0.5
    with pytest.raises(InvalidValueError, match="shelf: curve: input should be an instance of Schedule, got 0.5"):
        build_with(Shelf, {"curve": 0.5, "tin": Tin(size=1)}, "shelf")
    with pytest.raises(InvalidValueError, match="shelf: size: input should be a valid integer"):
        build_with(Shelf, {"curve": constant(0.5), "tin": Tin(size=1), "size": "x"}, "shelf")


def test_an_abstract_class_is_told_what_it_lacks():
    class Unfinished(ABC):
        @abstractmethod
        def close(self): ...

    with pytest.raises(InvalidValueError, match="box is an abstract class: it lacks close"):
        build_with(Unfinished, {}, "box")


def test_a_mistake_within_a_builder_is_not_taken_for_one_of_its_options():
    def builder(size: int = 1) -> None:
        "".join([size])

    with pytest.raises(InvalidValueError, match="^box raises TypeError: sequence item 0"):
        build_with(builder, {"size": 1}, "box")
    builder.__module__ = "entrocraft.boxes"  # a fault of this library shows its trace
    with pytest.raises(TypeError, match="sequence item 0"):
        build_with(builder, {"size": 1}, "box")


def test_arguments_that_the_caller_gives_are_no_options():
    def estimator(rewards, *, eps: float = 1.0):
        raise AssertionError("it is not called")

    check_options(estimator, {"eps": 0.5}, "estimator", num_given=1)
    with pytest.raises(UnknownNameError, match="estimator 'rewards': Known: eps"):
        check_options(estimator, {"rewards": 1}, "estimator", num_given=1)


def test_the_registry_loads_no_framework():
    code = "import sys, entrocraft.registry; print([m for m in ('torch', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_whatever_a_users_own_class_raises_is_one_line():
    class Broken:
        def __init__(self):
            raise RuntimeError("no GPU\nfor me")

    class Confused:
        def __init__(self):
            len(3)

    with pytest.raises(InvalidValueError, match="^method 'mine:Broken' raises RuntimeError: no GPU$"):
        build_with(Broken, {}, "method 'mine:Broken'")
    with pytest.raises(InvalidValueError, match="^method 'mine:Confused' raises TypeError: .*has no len"):
        build_with(Confused, {}, "method 'mine:Confused'")
