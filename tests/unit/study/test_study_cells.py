"""Which runs a study is made of."""

import pytest

from entrocraft.errors import EntrocraftError, InvalidValueError
from entrocraft.study.cells import cells_of, merged
from entrocraft.study.settings import load_study, parse_study

PHASES = {"A": {"train": {"steps": 3}}, "B": {"train": {"steps": 5}}}


def study(**changes):
    return parse_study({"title": "t", "arms": {"grpo": {"control": None}, "token": {}}} | changes)


def names(study):
    return [cell.name for cell in cells_of(study)]


def test_every_combination_is_a_cell_and_plain_arms_have_no_schedule():
    found = names(study(schedules={"up": 0.5, "down": 0.3}, tasks={"x": {}, "y": {}}, seeds=[0, 7]))
    of_each = ["grpo, {0}, seed {1}", "token, up, {0}, seed {1}", "token, down, {0}, seed {1}"]
    assert found == [text.format(task, seed) for seed in (0, 7) for task in "xy" for text in of_each]


def test_a_curve_of_its_own_is_not_crossed_with_schedules():
    arms = {"own": {"control": {"schedule": 0.4}}, "edges": {"control": {"lower": 0.3, "upper": 0.4}}}
    assert names(study(arms=arms, schedules={"up": 0.5})) == ["own, seed 0", "edges, seed 0"]


def test_the_schedule_and_the_seed_reach_the_configuration():
    cells = cells_of(study(schedules={"up": "linear(0.3, 0.5)"}, seeds=[4], run={"train": {"steps": 9}}))
    plain, steered = (cell.runs[0].resolved() for cell in cells)
    assert plain.control is None
    assert steered.control.band().targets(9)[-1] == 0.5
    assert plain.seed == steered.seed == 4
    assert plain.train.steps == 9


def test_what_is_nested_is_merged_and_what_has_a_name_replaced():
    below = {"control": {"method": {"name": "token", "min_kept": 0.2}, "width": 0.1}}
    assert merged(below, {"control": {"method": {"name": "budget"}}}) == {
        "control": {"method": {"name": "budget"}, "width": 0.1}
    }
    assert merged({"control": None}, {"control": {"width": 0.1}}) == {"control": {"width": 0.1}}


def test_phases_follow_each_other_and_may_be_left_out():
    arms = {"both": {}, "late": {"phases": {"A": None}}, "open": {"phases": {"A": {"train": {"steps": 4}}}}}
    both, late, opened = cells_of(study(arms=arms, phases=PHASES))
    assert [run.phase for run in both.runs] == ["A", "B"]
    assert both.runs[1].after is both.runs[0]
    assert [run.phase for run in late.runs] == ["B"]
    assert late.runs[0].after is None
    assert [run.resolved().train.steps for run in opened.runs] == [4, 5]


def test_cells_that_begin_alike_share_the_beginning_alone():
    arms = {"one": {}, "two": {"phases": {"B": {"train": {"learning_rate": 1e-5}}}}}
    one, two = cells_of(study(arms=arms, phases=PHASES))
    assert one.runs[0].key == two.runs[0].key
    assert one.runs[1].key != two.runs[1].key


def test_a_run_keeps_its_key_when_the_study_is_extended():
    before = {run.key for cell in cells_of(study()) for run in cell.runs}
    extended = study(arms={"new": {"train": {"steps": 2}}, "token": {}, "grpo": {"control": None}}, seeds=[3, 0])
    assert before < {run.key for cell in cells_of(extended) for run in cell.runs}


def test_the_same_settings_after_another_run_are_another_run():
    arms = {"a": {"phases": {"A": {"train": {"learning_rate": 1e-5}}}}, "b": {}}
    a, b = cells_of(study(arms=arms, phases=PHASES))
    assert a.runs[1].config == b.runs[1].config
    assert a.runs[1].key != b.runs[1].key


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {}}, "arms"),
        ({"seeds": [1, 1]}, "^study: seeds must differ"),
        ({"seeds": []}, "seeds"),
        ({"baseline": "tokn"}, "did you mean 'token'"),
        ({"armz": {}}, "unknown key 'armz', did you mean 'arms'"),
        ({"phases": PHASES, "arms": {"x": {"phases": {"C": {}}}}}, "no phase 'C'"),
        ({"phases": PHASES, "arms": {"x": {"phases": 3}}}, "expects phases by name"),
        ({"arms": {"a | b": {}}}, "without '|'"),
        ({"scorings": {"late": {"k": [64]}}}, "k must lie between 1 and num_samples = 32"),
        ({"scorings": {"late": {"tempratur": 1}}}, "did you mean 'temperature'"),
    ],
)
def test_a_wrong_study_is_refused_by_its_key(changes, said):
    with pytest.raises(InvalidValueError, match=said.replace("|", r"\|")):
        study(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"train": {"stepz": 3}}}, "grpo, seed 0: config: unknown key 'train.stepz'"),
        ({"arms": {"x": {"control": {"method": "tokenn"}}}}, "x, seed 0: .*'tokenn'"),
        ({"schedules": {"bad": "linear(0.5)"}}, "token, bad, seed 0"),
        ({"score": "mean@33"}, "score 'mean@33' is not among what is measured, mean@32"),
        ({"phases": {"A": {}}, "arms": {"x": {"phases": {"A": None}}}}, "leaves out every phase"),
    ],
)
def test_a_run_that_cannot_be_is_refused_by_its_cell(changes, said):
    with pytest.raises(EntrocraftError, match=said):
        cells_of(study(**changes))


def test_a_file_that_holds_no_study_is_refused(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("- 1\n")
    with pytest.raises(InvalidValueError, match="expected keys and values, got list"):
        load_study(file)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"run": {"seed": 5}}, "run.seed"),
        ({"tasks": {"x": {"seed": 5}}}, "tasks.x.seed"),
        ({"phases": PHASES | {"B": {"seed": 5}}}, "phases.B.seed"),
        ({"arms": {"a": {"seed": 5}}}, "arms.a.seed"),
        ({"arms": {"a": {"phases": {"A": {"seed": 5}}}}, "phases": PHASES}, "arms.a.phases.A.seed"),
    ],
)
def test_a_seed_that_the_seeds_of_the_study_would_override_is_refused(changes, where):
    with pytest.raises(InvalidValueError, match=rf"study: {where}: .*leave it out, and set `seeds: \[5\]` beside"):
        study(**changes)
