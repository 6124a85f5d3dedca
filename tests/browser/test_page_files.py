"""The files of the page, looked at without a browser."""

import json
import re
from pathlib import Path

import pytest

import entrocraft

STATIC = Path(entrocraft.__file__).parent / "app" / "static"
VENDOR = Path(__file__).parents[2] / "scripts" / "vendor"
OWN = sorted([*STATIC.glob("*.js"), *STATIC.glob("*.css"), STATIC / "index.html"])
MOST_LINES = 350


def test_the_bundle_and_its_licences_are_there():
    assert 40_000 < (STATIC / "vendor" / "vendor.js").stat().st_size < 90_000
    licences = (STATIC / "vendor" / "LICENSES.txt").read_text()
    wanted = json.loads((VENDOR / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        assert f"== {name} {version} ==" in licences
    assert licences.count("Permission is hereby granted") == 2  # MIT: preact and uPlot
    assert "Apache License" in licences  # htm


def test_the_lock_file_names_no_registry():
    lock = json.loads((VENDOR / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert "resolved" not in package, name
        assert not name or "integrity" in package, name


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_a_file_is_short_and_asks_nothing_of_another_machine(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_text_never_becomes_markup(path):
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|dangerously|document\.write|\beval\(|new Function", path.read_text()
    )


def test_the_page_has_no_script_or_style_of_its_own_and_only_relative_addresses():
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)
    assert all(not body.strip() for body in re.findall(r"<script[^>]*>(.*?)</script>", html, re.S))
    addresses = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert addresses
    assert all(not address.startswith("/") and ":" not in address for address in addresses)
    assert all((STATIC.parent / address).is_file() for address in addresses)
    for path in STATIC.glob("*.js"):
        assert not re.search(r"""["'`]/(api|static)/""", path.read_text()), path.name
