import json
import math

import pytest

from entrocraft.app.book import MOST_DAMAGED, Book
from entrocraft.app.rollouts import RolloutIndex
from entrocraft.app.series import default_keys, series
from entrocraft.errors import InvalidValueError, RunDirectoryError


def book_of(file, lines):
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    book = Book(file)
    book.update()
    return book


@pytest.fixture
def file(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_steps_become_columns_in_which_what_is_missing_is_null(file):
    book = book_of(
        file,
        [
            {"step": 1, "entropy": 0.5, "reward": None},
            {"step": 1, "eval/mean@2": 0.25, "eval/mean@2/low": 0.0},
            {"step": 2, "entropy": 0.25, "target": 0.75},
        ],
    )
    assert len(book) == 2 and book.last_step == 2
    assert book.values("step") == [1, 2]
    assert book.values("entropy") == [0.5, 0.25]
    assert book.values("target") == [None, 0.75]
    assert book.values("reward") == [None, None]
    assert book.values("nobody wrote this") == [None, None]
    assert book.values("distance") == [None, -0.5]
    assert book.evaluations == [{"step": 1, "eval/mean@2": 0.25, "eval/mean@2/low": 0.0}]
    assert book.row(1) == {"step": 2, "entropy": 0.25, "target": 0.75, "reward": None}


def test_what_is_added_is_read_and_half_a_line_waits(file):
    book = book_of(file, [{"step": 1, "entropy": 0.5}, '{"step": 2, "ent'])
    assert len(book) == 1
    with file.open("a") as opened:
        opened.write('ropy": 0.4}\n{"step": 3, "entropy": 0.3}\n')
    book.update()
    assert book.values("entropy") == [0.5, 0.4, 0.3] and book.generation == 0 and not book.problems


def test_a_file_that_was_rewound_begins_a_new_generation(file):
    book = book_of(file, [{"step": step, "entropy": 0.5} for step in (1, 2, 3)])
    file.write_text('{"step": 1, "entropy": 0.125}\n')
    book.update()
    assert book.generation == 1 and book.values("entropy") == [0.125]
    file.unlink()
    book.update()
    assert book.generation == 2 and len(book) == 0


def test_a_damaged_line_is_named_and_the_rest_is_read(file):
    book = book_of(
        file,
        [{"step": 1, "entropy": 0.5}, "{torn\n", {"step": 3, "entropy": 0.3}, "\n", {"step": 5, "entropy": 0.1}],
    )
    assert book.values("step") == [1, 3, 5]
    assert book.problems == [
        "line 2 of metrics.jsonl is damaged: it is no JSON, got b'{torn'",
        "line 4 of metrics.jsonl is damaged: it is blank",
    ]
    book.update()
    assert len(book) == 3 and len(book.problems) == 2


def test_a_file_of_nothing_but_damage_is_given_up(file):
    book = book_of(file, ["{torn\n"] * 100 + [{"step": 1, "entropy": 0.5}])
    assert len(book.problems) == MOST_DAMAGED + 1 and len(book) == 0


def test_a_number_that_is_text_is_no_number(file):
    book = book_of(file, [{"step": 1, "entropy": "high", "reward": True}])
    assert book.values("entropy") == [None] and book.values("reward") == [1.0]


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    book = Book(tmp_path / "metrics.jsonl")
    book.update()
    book.update()
    assert len(book.problems) == 1 and "expected a file, and it is a folder" in book.problems[0]


def test_lines_of_verl_are_read_alike(file):
    data = {
        "entrocraft/entropy": 0.5,
        "entrocraft/target": 0.4,
        "actor/entropy": 0.51,
        "critic/rewards/mean": 0.25,
        "timing_s/step": 3.0,
        "val-core/countdown/acc/mean@4": 0.125,
        "val-core/countdown/acc/best@4/mean": 0.5,
        "val-core/countdown/acc/worst@4/mean": 0.0,
    }
    book = book_of(file, [{"step": 1, "data": data}, {"step": 2, "data": {"actor/entropy": 0.25}}])
    assert book.is_of_verl
    assert book.values("entropy") == [0.5, 0.25]  # ours comes first
    assert book.values("target") == [0.4, None]
    assert book.values("reward") == [0.25, None] and book.values("seconds") == [3.0, None]
    assert book.evaluations == [{"step": 1, "eval/mean@4": 0.125, "eval/pass@4": 0.5}]


def test_rows_are_found_with_and_without_gaps(file):
    book = book_of(file, [{"step": step, "entropy": 0.5} for step in (3, 4, 6, 9)])
    assert [book.row_of(step) for step in (3, 4, 5, 6, 9, 10, 0)] == [0, 1, None, 2, 3, None, None]


def test_the_first_measured_line_has_all_that_is_needed(file):
    book = book_of(
        file,
        [
            {"step": 1, "entropy": None, "target": 0.5},
            {"step": 2, "entropy": 0.5},
            {"step": 3, "entropy": 0.25, "target": 1},
        ],
    )
    assert book.first_measured("entropy", "target")["step"] == 3
    assert book.first_measured("entropy", "reward") is None


def test_lines_hold_what_is_asked_for_and_what_every_line_has(file):
    book = book_of(file, [{"step": 1, "entropy": 0.5, "a": 1, "b": 2}, {"step": 2, "entropy": 0.25}])
    (line,) = book.rows(first=1, names=["b", "c"])
    assert line["step"] == 2 and line["entropy"] == 0.25 and line["b"] is None
    assert line["target"] is None and "a" not in line and "c" not in line
    assert [each["a"] for each in book.rows()] == [1.0, None]


# ---- series ----------------------------------------------------------------------------------------------


def test_few_steps_are_given_exactly(file):
    book = book_of(file, [{"step": step, "entropy": step / 8} for step in range(1, 9)])
    found = series(book, ["entropy"], points=8)
    assert found["exact"] and found["step"] == [*range(1, 9)]
    assert found["columns"]["entropy"] == [step / 8 for step in range(1, 9)]
    assert found["keys"] == ["distance", "entropy"]


def test_of_many_steps_the_peaks_and_both_ends_stay(file):
    values = [0.5] * 1000
    values[437], values[438], values[900] = 0.9, 0.1, math.nan
    lines = [{"step": i + 1, "entropy": None if math.isnan(value) else value} for i, value in enumerate(values)]
    found = series(book_of(file, lines), ["entropy"], points=42)
    pairs = dict(zip(found["step"], found["columns"]["entropy"], strict=True))
    assert not found["exact"] and len(pairs) <= 42
    assert pairs[438] == 0.9 and pairs[439] == 0.1 and {1, 1000} <= pairs.keys()
    assert found["step"] == sorted(found["step"])


def test_a_stretch_of_steps_is_cut_out(file):
    book = book_of(file, [{"step": step, "entropy": 0.5} for step in range(1, 101)])
    assert series(book, ["entropy"], first=10, last=13)["step"] == [10, 11, 12, 13]
    assert series(book, ["entropy"], first=200)["step"] == []
    assert series(book, ["entropy"], last=2)["step"] == [1, 2]


@pytest.mark.parametrize(
    ("keys", "points"), [([], 100), (["a"] * 65, 1000), (["a"], 3), (["a", "b"], 5), (["a"], 10_001)]
)
def test_limits_are_said(file, keys, points):
    with pytest.raises(InvalidValueError, match=r"keys|points"):
        series(book_of(file, []), keys, points=points)


def test_without_control_the_share_of_rollouts_stands_for_that_of_tokens(file):
    assert default_keys(book_of(file, [{"step": 1, "entropy": 1.0, "kept_fraction": 1.0}]))[5] == "kept_fraction"
    assert (
        default_keys(book_of(file, [{"step": 1, "entropy": 1.0, "kept_token_fraction": 1.0}]))[5]
        == "kept_token_fraction"
    )


# ---- rollouts --------------------------------------------------------------------------------------------


def test_rollouts_are_found_by_their_step_and_forgotten_when_rewound(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    index = RolloutIndex(file)
    index.update()
    assert index.steps == [] and index.read(1) is None
    file.write_text('{"step": 1, "group": [0]}\n{"step": 5, "group": [1]}\n{"step": 7, "gro')
    index.update()
    assert index.steps == [1, 5] and index.read(5) == {"step": 5, "group": [1]}
    with file.open("a") as opened:
        opened.write('up": [2]}\n')
    index.update()
    assert index.steps == [1, 5, 7] and index.read(7)["group"] == [2]
    file.write_text('{"step": 2, "group": [3]}\n')
    index.update()
    assert index.steps == [2] and index.read(2)["group"] == [3]


def test_a_damaged_line_of_rollouts_is_said_when_it_is_asked_for(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    file.write_text('{"step": 1, "group": [0}\n{"step": 2, "group": [1]}\n')
    index = RolloutIndex(file)
    index.update()
    with pytest.raises(RunDirectoryError, match="line of step 1 is damaged"):
        index.read(1)
    assert index.read(2) == {"step": 2, "group": [1]}


def test_a_file_of_something_else_is_said_once(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    file.write_text('{"group": [0]}\n{"step": 2}\n')
    index = RolloutIndex(file)
    index.update()
    assert "line 1" in index.problem and index.steps == []
