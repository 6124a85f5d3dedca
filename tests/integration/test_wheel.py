"""What is in the wheel and the source distribution: all that runs without a checkout, nothing that only tests."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import entrocraft

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "entrocraft"
NEEDED = ["assets/countdown-base/model.safetensors", "assets/countdown-base/tokenizer.json"]
NEEDED += ["assets/recipes/countdown.yaml", "app/methods.json", "py.typed"]
NEEDED += [str(file.relative_to(SOURCE)) for file in (SOURCE / "app" / "static").rglob("*") if file.is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the files of the wheel and of the source distribution, with the sizes of both."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as files:
        in_wheel = set(files.namelist())
        metadata = files.read(f"entrocraft-{entrocraft.__version__}.dist-info/METADATA").decode()
    with tarfile.open(source) as files:
        in_source = {name.partition("/")[2] for name in files.getnames()}
    return in_wheel, in_source, metadata, {file.suffix: file.stat().st_size for file in (wheel, source)}


@pytest.mark.slow
def test_both_are_small(built):
    assert max(built[3].values()) < 12_000_000 and min(built[3].values()) > 4_000_000


@pytest.mark.slow
def test_the_model_the_recipe_and_the_page_are_in_both(built):
    in_wheel, in_source, *_ = built
    assert len(NEEDED) > 30
    assert {f"entrocraft/{name}" for name in NEEDED} <= in_wheel
    assert {f"src/entrocraft/{name}" for name in NEEDED} <= in_source
    modules = {f"entrocraft/{file.relative_to(SOURCE)}" for file in SOURCE.rglob("*.py")}
    assert modules <= in_wheel and {f"src/{name}" for name in modules} <= in_source


@pytest.mark.slow
def test_nothing_else_is(built):
    in_wheel, in_source, *_ = built
    assert {name.split("/")[0] for name in in_wheel} == {"entrocraft", f"entrocraft-{entrocraft.__version__}.dist-info"}
    assert {name.split("/")[0] for name in in_source} <= {
        *("src", "recipes", "pyproject.toml", "PKG-INFO", ".gitignore"),
        *("README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "LICENSE"),
    }
    assert not [name for name in in_wheel | in_source if re.search(r"(^|/)(test_|tests/|__pycache__)|\.pyc$", name)]


@pytest.mark.slow
def test_each_extra_has_bounds_of_its_own(built):
    metadata = built[2]
    of_trl = [line for line in metadata.splitlines() if re.search(r"extra == .trl.", line)]
    assert any("Requires-Dist: transformers>=5.0;" in line for line in of_trl), of_trl  # nothing above, as TRL has none
    assert "Programming Language :: Python :: 3.13" in metadata and "Requires-Python: >=3.11" in metadata


def test_what_is_cited_is_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == entrocraft.__version__


def test_ci_installs_the_wheel_where_there_is_no_checkout():
    assert "make check-wheel" in (ROOT / ".ci" / "run").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"trl", "plots"} <= extras.keys()
