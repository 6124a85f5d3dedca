"""Scores of several models as one table."""

from entrocraft.reports.score_table import score_table

BASE = {"mean@2": [0.0, 1.0], "entropy": [0.5, 0.5]}
OTHER = {"mean@2": [0.5, 1.0]}


def test_one_model_is_one_column():
    lines = score_table({"base": BASE}).splitlines()
    assert [line.split() for line in lines] == [
        ["base"],
        ["mean@2", "0.500", "[0.000,", "1.000]"],
        ["entropy", "0.500", "[0.500,", "0.500]"],
    ]


def test_several_models_are_columns_of_one_table_and_what_one_lacks_is_a_dash():
    lines = score_table({"base": BASE, "a-long-name-of-a-run": OTHER, "c": OTHER}).splitlines()
    assert len(lines) == 3 + 2 + 2  # scores; a space and a heading; differences
    assert lines[0].split() == ["base", "a-long-name-of-a-run", "c"]
    assert lines[1].split()[1::3] == ["0.500", "0.750", "0.750"]
    assert lines[2].split()[-2:] == ["-", "-"]
    starts = [lines[0].index(name) for name in ("base", "a-long", "c")]
    assert [lines[1][start : start + 5] for start in starts] == ["0.500", "0.750", "0.750"]
    assert lines[4] == "  minus base, problem by problem"
    assert lines[6].split() == ["mean@2", *["+0.250", "[+0.000,", "+0.500]"] * 2]
