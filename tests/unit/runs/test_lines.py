import json
import os
import re
from pathlib import Path

import pytest

from entrocraft.errors import InvalidValueError, RunDirectoryError
from entrocraft.runs import RunDirectory
from entrocraft.runs.lines import JsonLines, append_line, to_line


@pytest.fixture
def run(tmp_path):
    """Return a run with 8 lines of metrics."""
    run = RunDirectory(tmp_path)
    for step in range(1, 9):
        run.append_metrics({"step": step, "entropy": 0.5})
    return run


BAD = {
    b"": "is blank",
    b"  ": "is blank",
    b"[1, 2]": "no object",
    b"3": "no object",
    b'"step"': "no object",
    b"{": "no JSON",
    b"[" * 100000: "no JSON",
    b"\xff\xfe": "no UTF-8",
    b'{"entropy": 0.5}': "no step",
    b'{"step": "4", "entropy": 0.5}': "no step",
    b'{"step": true, "entropy": 0.5}': "no step",
    b'{"step": 4.5, "entropy": 0.5}': "no step",
    b'{"step": -1, "entropy": 0.5}': "no step",
    b'{"step": 4, "entropy": "high"}': "no number as 'entropy'",
    b'{"step": 4, "reward": [1]}': "no number as 'reward'",
}


@pytest.mark.parametrize(("line", "message"), BAD.items(), ids=[str(line[:12]) for line in BAD])
def test_a_bad_line_in_the_middle_is_refused_by_its_number_and_nothing_is_rewritten(run, line, message):
    lines = run.metrics_file.read_bytes().split(b"\n")
    lines[3] = line
    run.metrics_file.write_bytes(b"\n".join(lines))
    before = run.metrics_file.read_bytes()
    for read in (run.metrics, lambda: run.rewind_to(2), lambda: RunDirectory(run.path).step_metrics()):
        with pytest.raises(
            RunDirectoryError, match=f"{re.escape(str(run.metrics_file))}, line 4: .*{message}"
        ) as error:
            read()
        assert len(str(error.value)) < 500
    assert run.metrics_file.read_bytes() == before


@pytest.mark.parametrize("torn", [b'{"step": 9, "entr', b"\xff", b"\n", b"", b'{"st\n', b"\x00\x00\x00"])
def test_only_the_last_line_may_be_torn(run, torn):
    whole = run.metrics_file.read_bytes()
    run.metrics_file.write_bytes(whole + torn)
    assert [line["step"] for line in run.metrics()] == [*range(1, 9)]
    run.rewind_to(8)
    assert run.metrics_file.read_bytes() == whole


def test_a_last_line_that_only_lacks_its_line_break_is_kept(run):
    run.metrics_file.write_bytes(run.metrics_file.read_bytes().removesuffix(b"\n"))
    assert run.last_step() == 8
    run.rewind_to(8)
    assert run.last_step() == 8
    run.append_metrics({"step": 9, "entropy": 0.5})
    assert run.last_step() == 9


def test_lines_are_kept_to_the_byte(run):
    text = '{"entropy":0.50,  "step":1}\n{"step": 2, "entropy": 1e-1}\n{"step": 3, "entropy": 1}\n'
    run.metrics_file.write_text(text)
    run.rewind_to(2)
    assert run.metrics_file.read_text() == "".join(text.splitlines(keepends=True)[:2])


def test_numbers_that_are_not_finite_are_null(run):
    run.append_metrics({"step": 9, "entropy": float("nan"), "reward": float("inf")})
    assert json.loads(run.metrics_file.read_text().splitlines()[-1]) == {"step": 9, "entropy": None, "reward": None}
    with run.metrics_file.open("a") as file:
        file.write('{"step": 10, "entropy": NaN, "reward": 1e999}\n')
    assert run.metrics()[-1] == {"step": 10, "entropy": None, "reward": None}
    assert to_line({"a": {"b": (float("nan"), 1)}}) == '{"a": {"b": [null, 1]}}\n'


def test_columns_that_a_step_lacks_are_none(run):
    assert run.step_metrics()[0]["target"] is None and run.step_metrics()[0]["entropy"] == 0.5


def test_reading_again_reads_only_what_is_new(tmp_path, monkeypatch):
    file, taken = tmp_path / "metrics.jsonl", []
    reader = JsonLines(file)
    monkeypatch.setattr(reader, "_parse", lambda raw, parse=reader._parse: taken.append(raw) or parse(raw))
    for step in range(1, 101):
        append_line(file, {"step": step})
        assert len(reader.read()) == step
    assert len(taken) == 100 and reader.offset == file.stat().st_size


def test_half_a_line_is_taken_once_it_is_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    reader = JsonLines(file)
    file.write_text('{"step": 1}\n{"st')
    assert reader.read() == [{"step": 1}]
    with file.open("a") as opened:
        opened.write('ep": 2}\n')
    assert reader.read() == [{"step": 1}, {"step": 2}]


def test_a_file_that_was_rewound_or_replaced_or_removed_is_noticed(tmp_path):
    file, other = tmp_path / "metrics.jsonl", tmp_path / "other"
    reader = JsonLines(file)
    file.write_text('{"step": 1}\n{"step": 2}\n')
    assert len(reader.read()) == 2
    file.write_text('{"step": 1}\n')  # in place, shorter
    assert reader.read() == [{"step": 1}]
    file.write_text('{"step": 7}\n{"step": 8}\n')  # in place, of another content
    assert reader.read() == [{"step": 7}, {"step": 8}]
    other.write_text('{"step": 3}\n{"step": 4}\n{"step": 5}\n')
    os.replace(other, file)
    assert [line["step"] for line in reader.read()] == [3, 4, 5]
    assert reader.times_begun == 3
    file.unlink()
    assert reader.read() == []


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path):
    full = JsonLines(tmp_path / "metrics.jsonl")
    append_line(full.path, {"step": 1})
    with pytest.raises(OSError, match="No space left on device") as error:
        append_line(Path("/dev/full"), {"step": 2})
    assert error.value.filename == "/dev/full"
    assert full.read() == [{"step": 1}]


def test_a_file_of_nothing_but_a_torn_line_keeps_nothing(tmp_path):
    reader = JsonLines(tmp_path / "metrics.jsonl")
    reader.path.write_text('{"step": 1, "entr')
    assert reader.read() == [] and reader.keep_up_to(5) == b""


def test_a_pipe_in_the_place_of_the_file_is_refused_and_not_waited_for(tmp_path):
    reader = JsonLines(tmp_path / "metrics.jsonl")
    os.mkfifo(reader.path)
    with pytest.raises(InvalidValueError, match="a pipe or a device"):
        reader.read()


def test_a_name_given_twice_is_refused(tmp_path):
    reader = JsonLines(tmp_path / "rollouts.jsonl", numbers_only=False)
    reader.path.write_text('{"step": 2, "a": [], "step": 5}\n{"step": 6}\n')
    with pytest.raises(RunDirectoryError, match="line 1: gives a name twice"):
        reader.read()
