"""The report of a study, from made-up rows."""

from entrocraft.study.cells import cells_of
from entrocraft.study.report import report, sections_of
from entrocraft.study.settings import parse_study

STUDY = parse_study(
    {
        "title": "A question",
        "about": "Which is better?",
        "run": {"eval": {"num_samples": 4, "k": [1]}},
        "arms": {"token": {}, "grpo": {"control": None}},
        "baseline": "grpo",
        "seeds": [0, 1, 2],
        "score": "mean@4",
    }
)
CELLS = cells_of(STUDY)


def made_up(score, tracking=None):
    return {
        "step": 2,
        "evaluated": [0, 2],
        "scores": {"mean@4": [0.1, score], "pass@1": [0.2, score]},
        "scorings": {"cold": {"mean@4": score + 0.1}},
        "entropy": [0.6, 0.5],
        "seconds_per_step": 1.5,
        "tracking": tracking,
    }


def rows():
    tracking = {"mean_error": 0.0123, "in_band": 0.75, "kept_token_fraction": 0.9}
    scores = {"token": (0.4, 0.5, 0.6), "grpo": (0.3, 0.3, 0.3)}
    return {
        cell.runs[0].key: made_up(scores[cell.arm][cell.seed], tracking if cell.arm == "token" else None)
        for cell in CELLS
    }


def test_arms_are_compared_with_the_baseline_by_seed():
    text = report(STUDY, CELLS, rows())
    assert "# A question\n\nWhich is better?\n\n6 of 6 runs are done." in text
    assert "| token | 0.500 [0.400, 0.600] | +0.200 [+0.100, +0.300], p 0.25 |" in text
    assert "| grpo | 0.300 [0.300, 0.300] | - |" in text
    assert "| token | 0.500 [0.500, 0.500] | 0.0123 | 0.75 | 0.90 | 1.50 |" in text
    assert "The last models, scored cold:" in text
    assert "Not there yet" not in text


def test_two_seeds_give_no_interval_and_no_p_value():
    there = {key: row for key, row in rows().items() if key not in {c.runs[0].key for c in CELLS if c.seed == 2}}
    assert "| token | 0.450 | +0.150 |" in report(STUDY, CELLS, there)


def test_what_is_missing_is_said_and_what_is_there_compared():
    there = rows()
    missing = CELLS[-1]
    del there[missing.runs[0].key]
    text = report(STUDY, CELLS, there)
    assert f"## Not there yet\n\n- {missing.name}\n" in text
    assert "5 of 6 runs are done." in text


def test_a_study_without_rows_has_nothing_but_its_question():
    text = report(STUDY, CELLS, {})
    assert "0 of 6 runs are done." in text
    assert sections_of(STUDY, CELLS, {}) == []
    assert "|" not in text


def test_an_arm_is_compared_with_the_baseline_under_its_own_schedule():
    study = parse_study(
        {
            "title": "Two curves",
            "run": {"eval": {"num_samples": 4, "k": [1]}},
            "arms": {"token, wide": {"control": {"width": 0.1}}, "token": {}, "grpo": {"control": None}},
            "baseline": "token",
            "schedules": {"flat": 0.5, "line": "linear(0.6, 0.4)"},
            "seeds": [0, 1, 2],
            "score": "mean@4",
        }
    )
    cells = cells_of(study)
    scores = {"token": {"flat": 0.2, "line": 0.5}, "token, wide": {"flat": 0.3, "line": 0.4}, "grpo": {"": 0.4}}
    text = report(study, cells, {cell.runs[0].key: made_up(scores[cell.arm][cell.schedule]) for cell in cells})
    differences = [line.split("|")[3].split()[0] for line in text.splitlines() if "[0." in line and ", p " in line]
    assert differences == ["+0.100", "-0.100", "+0.200"]  # wide on both curves; grpo has none: the first
    assert "| token, flat | 0.200 [0.200, 0.200] | - |" in text and "| token, line | 0.500 [0.500, 0.500] | - |" in text


def test_breadth_is_compared_at_equal_means_where_scorings_differ_in_temperature():
    settings = {**STUDY.model_dump(exclude_none=True), "scorings": {"at 0.6": {"temperature": 0.6}, "at 1": {}}}
    study = parse_study(settings)
    cells = cells_of(study)
    there = {}
    for cell in cells:
        lead = 0.1 if cell.arm == "token" else 0.0
        row = made_up(0.3)
        row["scorings"] = {
            "at 0.6": {"mean@4": 0.3, "pass@1": 0.5 + lead},
            "at 1": {"mean@4": 0.2, "pass@1": 0.7 + lead},
        }
        there[cell.runs[0].key] = row
    text = report(study, cells, there)
    assert "By how much pass@1 is above `grpo`'s at the same mean@4" in text
    assert "| token | 0.100 [0.100, 0.100] | 3 |" in text
    assert "at the same mean@4" not in report(STUDY, CELLS, rows())  # one temperature
    for cell in cells:
        if cell.arm == "grpo":
            there[cell.runs[0].key]["scorings"] = {}
    assert "at the same mean@4" not in report(study, cells, there)  # nothing to compare with
