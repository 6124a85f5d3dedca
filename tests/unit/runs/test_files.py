import os

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.runs.files import making, read_regular, replacing, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "old" and [child.name for child in tmp_path.iterdir()] == ["a.txt"]
    write_text(file, "new \ud83d")
    assert file.read_text() == "new \\ud83d"


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    with pytest.raises(ZeroDivisionError), making(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise ZeroDivisionError
    assert not [*tmp_path.iterdir()]
    (tmp_path / "kept").mkdir()
    with pytest.raises(ZeroDivisionError), making(tmp_path / "kept" / "b"):
        raise ZeroDivisionError
    assert [child.name for child in tmp_path.iterdir()] == ["kept"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_text(tmp_path / "a.txt", "text")
    assert error.value.filename == str(tmp_path / "a.txt") and not [*tmp_path.iterdir()]


def test_only_files_of_a_reasonable_size_are_read(tmp_path):
    (tmp_path / "small").write_text("12345")
    assert read_regular(tmp_path / "small", 5) == b"12345"
    with pytest.raises(InvalidValueError, match="expected 4 bytes at most"):
        read_regular(tmp_path / "small", 4)
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device"), (tmp_path, "a folder")):
        with pytest.raises(InvalidValueError, match=kind):
            read_regular(type(tmp_path)(path), 4)


def test_what_is_no_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, kind in (("pipe", "a pipe or a device"), ("link", "a pipe or a device"), ("folder", "a folder")):
        with pytest.raises(InvalidValueError, match=f"cannot write .*{name}: .* it is {kind}"):
            write_text(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo() and sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]
