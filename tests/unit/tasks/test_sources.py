"""Files of every kind as data sets: what is read, and what is refused without a wait or a wrong word."""

import gzip
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.tasks import sources
from entrocraft.tasks.sources import read_rows

ROWS = [{"q": f"{i} + 1", "a": str(i + 1)} for i in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "q,a\n" + "".join(f"{row['q']},{row['a']}\n" for row in ROWS)
pytestmark = pytest.mark.usefixtures("workplace")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("rows.ndjson", LINES),
        ("ROWS.JSONL", LINES),
        ("rows.json", json.dumps(ROWS)),
        ("rows.csv", TABLE),
        ("rows.tsv", TABLE.replace(",", "\t")),
        ("my.rows.jsonl", LINES),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_is_read_packed_or_not_and_with_a_mark_of_byte_order(name, content, packed, mark):
    data = (mark + content).encode()
    name += ".gz" * packed
    Path(name).write_bytes(gzip.compress(data) if packed else data)
    assert read_rows(name) == ROWS


def test_cells_may_be_as_long_as_texts_are():
    Path("long.csv").write_text("q,a\n" + "x" * 200_000 + ",1\n")
    assert len(read_rows("long.csv")[0]["q"]) == 200_000
    import csv

    assert csv.field_size_limit() == 131_072  # other code's limit is as it was


def test_numbers_of_short_precision_are_what_they_look_like():
    short, half = pyarrow.float32(), pyarrow.float16()
    kinds = {
        "a": short,
        "b": half,
        "c": pyarrow.list_(short),
        "d": pyarrow.struct({"e": short, "f": pyarrow.float64()}),
    }
    table = pyarrow.table(
        {
            "a": pyarrow.array([0.1, None], kinds["a"]),
            "b": pyarrow.array([0.1, 2.5], kinds["b"]),
            "c": pyarrow.array([[0.7], None], kinds["c"]),
            "d": pyarrow.array([{"e": 1.1, "f": 1.1}, None], kinds["d"]),
        }
    )
    pyarrow.parquet.write_table(table, "short.parquet")
    assert read_rows("short.parquet") == [
        {"a": 0.1, "b": 0.1, "c": [0.7], "d": {"e": 1.1, "f": 1.1}},
        {"a": None, "b": 2.5, "c": None, "d": None},
    ]
    Path("folder").mkdir()
    pyarrow.parquet.write_table(table.select(["a"]), "folder/train.parquet")
    assert read_rows("folder") == [{"a": 0.1}, {"a": None}]


def made(kind):
    """Make something that is no data set, and return what it is called."""
    match kind:
        case "pipe":
            os.mkfifo("pipe.jsonl")
            return "pipe.jsonl"
        case "pipe in a folder":
            Path("piped").mkdir()
            os.mkfifo("piped/train.jsonl")
            return "piped"
        case "text":
            Path("data").mkdir()
            Path("data/problems.txt").write_text("1 + 1?")
            return "data/problems.txt"
        case "damaged gzip":
            Path("cut.jsonl.gz").write_bytes(gzip.compress(LINES.encode() * 100)[:-20])
            return "cut.jsonl.gz"
        case "no gzip":
            Path("no.jsonl.gz").write_text(LINES)
            return "no.jsonl.gz"
        case "not UTF-8":
            Path("latin.jsonl").write_bytes('{"q": "é"}'.encode("latin-1"))
            return "latin.jsonl"
        case "UTF-16":
            Path("wide.csv").write_bytes(TABLE.encode("utf-16"))
            return "wide.csv"
        case "twice":
            Path("twice.jsonl").write_text('{"a": 1, "a": 2}\n')
            return "twice.jsonl"
        case "twice in parquet":
            table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
            pyarrow.parquet.write_table(table, "twice.parquet")
            return "twice.parquet"
        case "folder of nothing":
            Path("nothing").mkdir()
            return "nothing"
        case _:
            name = kind.removeprefix("empty ")
            Path(name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
            return name


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "is a pipe or a device"),
        ("pipe in a folder", "is no file, but a pipe"),
        ("text", "is in a format that has no rows of columns: expected a .csv"),
        ("damaged gzip", "is not gzip, or cut short"),
        ("no gzip", "is not gzip"),
        ("not UTF-8", "is not UTF-8"),
        ("UTF-16", "is not UTF-8"),
        ("twice", "line 1: 'a' stands there twice"),
        ("twice in parquet", "two columns are called 'a'"),
        ("folder of nothing", "cannot be loaded"),
        *((f"empty x{suffix}", "is empty") for suffix in (".jsonl", ".json", ".csv", ".jsonl.gz", ".tsv")),
        ("empty x.parquet", "not parquet"),
    ],
)
def test_what_is_no_data_set_is_named_at_once(kind, message):
    with pytest.raises(InvalidValueError) as error:
        read_rows(made(kind))
    assert message in str(error.value) and "hub" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data/there.txt", "there is no such file"),
        ("data/there.jsonl.gz", "there is no such file"),
        ("data/there.xlsx", "there is no such file"),
        ("there.jsonl", "there is no such file"),
        ("a" * 5000 + ".jsonl", "cannot be opened: File name too long"),
        ("a\0b.jsonl", "cannot be opened: embedded null byte"),
        ("/dev/zero", "is a pipe or a device"),
        ("there.jsonl:train", "a file has no splits; leave out ':train'"),
    ],
)
def test_names_of_nothing_are_said_to_be_so(source, message):
    with pytest.raises(InvalidValueError, match=message) as error:
        read_rows(source)
    assert len(str(error.value)) < 500


def test_what_is_too_large_to_hold_is_refused_before_it_is_held(monkeypatch):
    Path("rows.jsonl").write_text(LINES)
    Path("bomb.jsonl.gz").write_bytes(gzip.compress(b'{"q": "' + b"x" * 10**7 + b'"}\n'))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), "rows.parquet")
    monkeypatch.setattr(sources, "MOST_BYTES", 30)
    for name in ("rows.jsonl", "bomb.jsonl.gz", "rows.parquet"):
        with pytest.raises(InvalidValueError, match=f"{name} holds more than 30 bytes"):
            read_rows(name)
    monkeypatch.setattr(sources, "MOST_BYTES", 10**6)
    monkeypatch.setattr(sources, "MOST_ROWS", 3)
    for name in ("rows.jsonl", "rows.parquet"):
        with pytest.raises(InvalidValueError, match=f"{name} holds more than 3 rows"):
            read_rows(name)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_exact_copies_of_a_row_are_one_object(name):
    rows = [{"q": [{"role": "user", "content": "1 + 1?"}], "a": i} for i in (1, 2, 1)]
    match Path(name).suffix:
        case ".jsonl":
            Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            Path(name).write_text(json.dumps(rows))
        case _:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), name, row_group_size=1)
    found = read_rows(name)
    assert found == rows and found[0] is found[2] is not found[1]


def test_what_is_but_equal_is_no_copy():
    Path("rows.jsonl").write_text('{"a": 1}\n{"a": true}\n{"a": 1.0}\n{"a": "1"}\n{"a": 1, "b": null}\n')
    assert len({id(row) for row in read_rows("rows.jsonl")}) == 5
