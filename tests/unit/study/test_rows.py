"""Rows of a study: what they hold, how they are added, and the numbers made of them."""

import json

import pytest

from entrocraft.errors import RunDirectoryError
from entrocraft.runs import RunDirectory
from entrocraft.study.rows import Rows, area, last_entropy, last_quarter, row_of


def row(key, step=8):
    return {"step": step, "key": key}


SCORED = {"step": 8, "evaluated": [0, 2, 4, 6, 8], "scores": {"mean@4": [0.1, 0.2, 0.3, 0.4, 0.6]}}


def test_the_score_is_the_mean_over_the_last_quarter():
    assert last_quarter(SCORED, "mean@4") == 0.6  # steps after 6, of 8
    finer = {"step": 8, "evaluated": [5, 6, 7, 8], "scores": {"m": [0.0, 0.0, 0.5, 0.7]}}
    assert last_quarter(finer, "m") == pytest.approx(0.6)


def test_the_area_weighs_evaluations_by_the_steps_between_them():
    assert area(SCORED, "mean@4") == pytest.approx((0.15 + 0.25 + 0.35 + 0.5) / 4)
    uneven = {"step": 4, "evaluated": [0, 1, 4], "scores": {"m": [0.0, 1.0, 1.0]}}
    assert area(uneven, "m") == pytest.approx((0.5 * 1 + 1.0 * 3) / 4)
    assert area({"step": 4, "evaluated": [4], "scores": {"m": [0.3]}}, "m") == 0.3


def test_the_last_entropy_is_that_of_the_last_tenth():
    assert last_entropy({"entropy": [0.9] * 18 + [0.2, 0.4]}) == pytest.approx(0.3)
    assert last_entropy({"entropy": [0.9, None]}) is None


def test_a_torn_last_row_is_made_again_and_nothing_else_is_lost(tmp_path):
    file = tmp_path / "rows.jsonl"
    Rows(file).add(row("a"))
    with file.open("a") as opened:
        opened.write('{"step": 8, "key": "b", "sco')
    rows = Rows(file)
    assert [*rows.by_key()] == ["a"]
    rows.add(row("c", step=3))
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "c"]
    assert [*rows.by_key()] == ["a", "c"]


def test_a_damaged_row_is_refused_by_its_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"step": 1, "key": "a"}\n{"step": 2}\n')
    with pytest.raises(RunDirectoryError, match="line 2: is no row of a study"):
        Rows(file).by_key()


def test_a_row_holds_what_a_run_recorded(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    nothing = dict.fromkeys(("lower", "upper", "direction", "kept_fraction", "target"))
    run.append_metrics({"step": 0, "eval/mean@4": 0.25, "eval/mean@4/low": 0.2, "eval/mean@4/high": 0.3})
    for step in range(1, 151):
        entropy = None if step > 148 else step / 100
        run.append_metrics(nothing | {"step": step, "entropy": entropy, "reward": 0.5, "tokens": 10, "seconds": 2.0})
    run.append_metrics({"step": 150, "eval/mean@4": 0.5, "eval/mean@4/low": 0.4, "eval/mean@4/high": 0.6})
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"scores": {"run": {"mean@4": 0.75, "mean@4/low": 0.7}}}))
    found = row_of("k", "a, seed 0", run, {"cold": scores}, 301.26)
    assert found["block"] == 2  # 150 steps in at most 100 points
    assert found["entropy"][:2] == [0.015, 0.035]
    assert found["entropy"][-1] is None
    assert found["evaluated"] == [0, 150]
    assert found["scores"] == {"mean@4": [0.25, 0.5]}
    assert found["scorings"] == {"cold": {"mean@4": 0.75}}
    assert found["seconds"] == 301.3
    assert found["tracking"] is None


def test_steps_that_share_a_generation_cost_their_mean(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    nothing = dict.fromkeys(("entropy", "lower", "upper", "direction", "kept_fraction", "target", "reward"))
    # Two steps a generation, of 5 s and 1 s; the fifth line holds an evaluation's 20 s, too.
    for step, (tokens, seconds) in enumerate([(80, 5.0), (None, 1.0), (100, 5.0), (None, 1.0), (120, 25.0)], start=1):
        run.append_metrics(nothing | {"step": step, "tokens": tokens, "seconds": seconds})
    row = row_of("key", "name", run, {}, seconds=1.0)
    assert row["seconds"] == 37.0  # though it was started for the last time a second ago
    assert row["seconds_per_step"] == 3.0
    assert row["tokens_per_step"] == 60.0
