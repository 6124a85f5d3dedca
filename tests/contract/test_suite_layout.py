"""The tests themselves: any folders of them can be run in one call."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_folders_with_a_conftest_each_can_be_named_in_one_call(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conftest.py").write_text(f"import pytest\n\n@pytest.fixture\ndef here(): return {name!r}\n")
        (tmp_path / name / f"test_{name}.py").write_text(f"def test_it(here): assert here == {name!r}\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        tmp_path,
        "one",
        "other",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_no_two_files_of_tests_have_one_name():
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name, count in names.items() if count > 1} == set()


def test_files_outside_the_source_are_short_too():
    files = [path for folder in ("tests", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py")]
    long = {path.name for path in files if len(path.read_text(encoding="utf-8").splitlines()) > 350}
    assert len(files) > 200 and long == set()


def test_tests_in_a_browser_wait_for_what_they_look_for():
    """A page is drawn after the event that changes it; `expect` looks again until it holds, `assert` looks once."""
    looks_once = re.compile(r"assert .*\.(is_visible|is_hidden|count(?=\(\))|inner_text|input_value|get_attribute)\(")
    found = [
        f"{path.name}:{number}"
        for path in (ROOT / "tests" / "browser").glob("test_*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if looks_once.search(line)
    ]
    assert found == [], "use playwright's expect(locator).to_…"
