"""A folder to work in, for tests of tasks that read files."""

import pytest


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
