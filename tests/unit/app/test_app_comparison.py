import json

import pytest
from support.page import CONFIG, step_line

from entrocraft.app.comparison import best_by, compare, pass_at_k, words_about
from entrocraft.app.errors import NotFoundError
from entrocraft.app.library import Library
from entrocraft.errors import InvalidValueError


def point(value, low=None, high=None, step=4):
    return {"step": step, "value": value, "low": low, "high": high}


def line_of(name, **scores):
    return {"name": name, "scores": {measure.replace("_", "@"): points for measure, points in scores.items()}}


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 0.45, 0.55), (0.7, 0.65, 0.75)], "b"),
        ([(0.7, 0.65, 0.75), (0.5, 0.45, 0.55)], "a"),
        ([(0.5, 0.4, 0.6), (0.7, 0.6, 0.8)], None),  # they touch
        ([(0.5, 0.45, 0.55), (0.7, 0.65, 0.75), (0.72, 0.7, 0.74)], None),  # two above the third
        ([(0.5, None, None), (0.9, None, None)], None),
        ([(0.9, 0.8, 1.0)], None),  # best of none
    ],
)
def test_the_best_is_the_one_whose_interval_lies_above_all_others(scores, best):
    lines = [line_of(name, mean_2=[point(*score)]) for name, score in zip("abc", scores, strict=False)]
    assert best_by(lines, "mean@2") == best


def test_words_name_what_fell_and_what_cannot_be_told():
    lines = [
        line_of("plain", pass_2=[point(0.9, 0.85, 0.95, 0), point(0.7, 0.65, 0.75)]),
        line_of("curve", pass_2=[point(0.9, 0.85, 0.95, 0), point(0.72, 0.68, 0.76)]),
        line_of("short", pass_2=[point(0.7, None, None, step=2)]),
        line_of("none"),
    ]
    assert words_about(lines, ["pass@2", "pass@1"]) == [
        "plain against its beginning: pass@2 lower (-0.200, steps 0 and 4).",
        "curve against its beginning: pass@2 lower (-0.180, steps 0 and 4).",
        "curve against plain: pass@2 level (+0.020, steps 4 and 4).",
        "short against plain: pass@2 without an interval (±0.000, steps 4 and 2).",
        "Level means that the 95 % intervals overlap: there may be a difference that is too small to be seen here. "
        "Intervals of a run are over problems, those of a study over seeds; one run is one seed.",
        "none was not evaluated.",
    ]


def test_pass_at_k_is_of_the_last_evaluation_in_the_order_of_k():
    scores = {
        "pass@8": [point(0.5, 0.4, 0.6, 0), point(0.75, 0.7, 0.8)],
        "mean@8": [point(0.25, step=0), point(0.5)],
        "pass@1": [point(0.25, 0.2, 0.3, 0), point(0.5, 0.4, 0.6)],
    }
    assert pass_at_k(scores) == [
        {"k": 1, "value": 0.5, "low": 0.4, "high": 0.6},
        {"k": 8, "value": 0.75, "low": 0.7, "high": 0.8},
    ]
    assert [each["value"] for each in pass_at_k(scores, before=True)] == [0.25, 0.5]
    assert pass_at_k({"pass@8": [point(0.5, step=2)]}, before=True) is None


def test_a_table_has_a_row_for_each_run(make_run, tmp_path):
    lines = [
        {"step": 0, "eval/mean@2": 0.25, "eval/mean@2/low": 0.125, "eval/mean@2/high": 0.375},
        *(step_line(step, 0.5, target=0.4, lower=0.35, upper=0.45) for step in (1, 2, 3)),
        step_line(4, 0.3, target=0.3, lower=0.25, upper=0.35),
        {"step": 4, "eval/mean@2": 0.5, "eval/mean@2/low": 0.375, "eval/mean@2/high": 0.625},
    ]
    make_run("curve", lines)
    plain = [{key: None if key in ("target", "lower", "upper") else v for key, v in step_line(1).items()}]
    make_run("plain", plain, config=CONFIG | {"control": None}, why="stopped by SIGTERM")
    found = compare(Library(tmp_path / "runs"), ["curve", "plain"])
    curve, plain = (run["row"] for run in found["runs"])
    assert curve["entropy"] == 0.3 and curve["state"] == "done" and curve["steps"] == 4  # of the last tenth: one step
    assert curve["distance"] == pytest.approx((0.1 + 0.1 + 0.1 + 0.0) / 4) and curve["in_band"] == 0.25
    assert curve["mean@2"] == {"step": 4, "value": 0.5, "low": 0.375, "high": 0.625}
    assert plain["distance"] is None and plain["state"] == "stopped: stopped by SIGTERM"
    assert found["runs"][0]["target"]["value"] == [0.4, 0.4, 0.4, 0.3] and found["runs"][1]["target"] is None
    assert found["best"] == {"mean@2": None}
    assert [column["name"] for column in found["columns"]][-1] == "mean@2"
    assert found["words"][-1] == "plain was not evaluated."


def test_arms_of_a_study_are_lines_of_their_own(tmp_path):
    folder = tmp_path / "runs" / "study"
    folder.mkdir(parents=True)
    rows = [
        {
            "step": 4,
            "key": f"k{seed}",
            "name": f"token, seed {seed}",
            "seconds_per_step": 2.0,
            "tracking": {"mean_error": 0.02, "in_band": 0.5, "kept_token_fraction": 0.75},
            "block": 1,
            "entropy": [0.5, 0.25],
            "target": [0.5, 0.25],
            "reward": [0.25, 0.5],
            "evaluated": [0, 4],
            "scores": {"mean@2": [0.25, 0.25 * seed]},
            "scorings": {},
        }
        for seed in (1, 2, 3)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (arm,) = compare(Library(tmp_path / "runs"), ["study"])["runs"]
    assert (arm["name"], arm["kind"], arm["row"]["state"]) == ("study: token", "arm", "3 seeds")
    assert arm["scores"]["mean@2"][1]["value"] == 0.5 and arm["scores"]["mean@2"][1]["low"] < 0.5
    assert arm["row"]["entropy"] == 0.25 and arm["row"]["kept"] == 0.75 and arm["lower"] is None


def test_how_many_can_be_compared_is_said(make_run, tmp_path):
    make_run("one")
    library = Library(tmp_path / "runs")
    for names in ([], ["one"] * 13):
        with pytest.raises(InvalidValueError, match="1 to 12"):
            compare(library, names)
    with pytest.raises(NotFoundError):
        compare(library, ["one", "other"])
