"""CONTRIBUTING.md: the tree and the tables name what is there, and leave no room out."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
SOURCE = ROOT / "src" / "entrocraft"


def drawn(beginning):
    """Return the paths in the drawn tree that begins so, in their order, relative to its first folder."""
    (tree,) = re.findall(rf"```\n{re.escape(beginning)}\n(.*?)```", PAGE, re.DOTALL)
    paths, parents = [], []
    for line in tree.splitlines():
        branch = re.match(r"((?:│   )*)[├└]── (\S+)", line)
        if branch is not None:
            depth = len(branch[1]) // 4
            parents = [*parents[:depth], branch[2].rstrip("/")]
            paths.append("/".join(parents))
    return paths


def test_every_room_is_drawn_and_what_is_drawn_is_there():
    paths = drawn("src/entrocraft/")
    assert all((SOURCE / path).exists() for path in paths), [p for p in paths if not (SOURCE / p).exists()]
    rooms = {entry.name for entry in SOURCE.iterdir() if (entry / "__init__.py").exists() or entry.suffix == ".py"}
    assert {path for path in paths if "/" not in path} == rooms - {"__init__.py", "__main__.py"} | {"assets"}


def test_rooms_are_drawn_in_the_order_of_their_floors(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "contract"))
    from test_architecture import FLOOR_OF

    floors = [
        FLOOR_OF[path.removesuffix(".py")] for path in drawn("src/entrocraft/") if not re.search("/|assets", path)
    ]
    assert floors == sorted(floors)


def test_the_folders_of_tests_are_drawn():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(drawn("tests/")) == folders


def test_what_the_tables_name_is_there():
    (table,) = re.findall(r"^## To add something\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    modules = set(re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", table))
    assert len(modules) > 10 and all((SOURCE / m).exists() or (ROOT / m).exists() for m in modules)
