import json
import os

import pytest
from support.page import CONFIG, step_line

from entrocraft.app.errors import NotFoundError
from entrocraft.app.library import Library
from entrocraft.app.recipes import recipes_from
from entrocraft.app.recorded import RecordedRun
from entrocraft.app.studies import arms_of, estimate_at_each, mean_over_seeds
from entrocraft.errors import InvalidValueError


def row_of(key, name, entropy, scores, **others):
    usual = {"step": 4, "seconds": 1.0, "block": 2, "evaluated": [0, 4], "tracking": None, "scorings": {}}
    series = {"entropy": entropy, "target": [None, None], "reward": [0.25, 0.5], "kept_token_fraction": [1.0, 1.0]}
    return usual | series | {"key": key, "name": name, "scores": {"mean@2": scores}} | others


@pytest.fixture
def study(tmp_path):
    """Return a study of one arm with three seeds and one with a single seed."""
    folder = tmp_path / "runs" / "compared"
    (folder / "runs").mkdir(parents=True)
    rows = [
        row_of("a0", "token, line, seed 0", [0.5, 0.4], [0.25, 0.5]),
        row_of("a1", "token, line, seed 1", [0.6, None], [0.25, 0.75]),
        row_of("a2", "token, line, seed 2", [0.7, 0.2], [0.25, 0.625]),
        row_of("b0", "grpo, seed 0", [0.5, 0.3], [0.25, 0.25]),
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for key in ("a0", "a1", "a2", "b0", "b1"):
        (folder / "runs" / f"{key}.yaml").write_text("{}")
    return folder


def names(library):
    return {name: place.path.name for name, place in library.places().items()}


def test_runs_are_found_two_levels_down_and_named_by_their_folders(make_run, tmp_path):
    make_run("one")
    make_run("grpo", folder="runs/demo")
    make_run("deep", folder="runs/demo/old")
    make_run("with, comma?", folder="runs")
    assert names(Library(tmp_path / "runs")) == {
        "one": "one",
        "demo~grpo": "grpo",
        "with__comma_": "with, comma?",
    }


def test_a_folder_of_something_else_is_no_run(make_run, tmp_path):
    make_run("one")
    (tmp_path / "runs" / "model").mkdir()
    (tmp_path / "runs" / "model" / "config.json").write_text('{"hidden_size": 8}')
    (tmp_path / "runs" / ".hidden").mkdir()
    (tmp_path / "runs" / ".hidden" / "metrics.jsonl").write_text("")
    assert names(Library(tmp_path / "runs")) == {"one": "one"}


def test_runs_of_the_same_name_are_told_apart(make_run, tmp_path):
    make_run("one")
    other = make_run("one", folder="elsewhere")
    library = Library(tmp_path / "runs", [other.path])
    assert {name: place.path for name, place in library.places().items()} == {
        "one": tmp_path / "runs" / "one",
        "one~2": other.path,
    }
    assert len(Library(tmp_path / "runs", [tmp_path / "runs" / "one"]).places()) == 1  # named twice, there once


def test_links_that_lead_out_of_the_folder_are_left_out(make_run, tmp_path):
    make_run("one")
    outside = make_run("secret", folder="elsewhere")
    os.symlink(outside.path, tmp_path / "runs" / "linked")
    assert names(Library(tmp_path / "runs")) == {"one": "one"}


@pytest.mark.parametrize("name", ["../elsewhere/secret", "/etc", "one/../one", ".", "", "one/", "two", "ONE"])
def test_a_name_is_looked_up_and_never_made_a_path(make_run, tmp_path, name):
    make_run("one")
    make_run("secret", folder="elsewhere")
    with pytest.raises(NotFoundError, match="there is no run"):
        Library(tmp_path / "runs").run(name)


def test_a_broken_run_is_listed_with_what_is_wrong_and_the_others_are_whole(make_run, tmp_path):
    make_run("good")
    make_run("broken").config_file.write_text("[")
    torn = make_run("torn")
    lines = torn.metrics_file.read_text().splitlines()
    torn.metrics_file.write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    found = {each["name"]: each for each in Library(tmp_path / "runs").summaries()}
    assert (found["good"]["state"], found["good"]["problem"], found["good"]["step"]) == ("done", None, 4)
    assert found["broken"]["state"] == "broken" and "config.json" in found["broken"]["why"]
    assert (found["torn"]["state"], found["torn"]["step"]) == ("done", 4)
    assert found["torn"]["problem"] == "line 2 of metrics.jsonl is damaged: it is no JSON, got b'{'"


def test_a_run_that_is_expected_is_listed_before_it_is_there(tmp_path):
    library = Library(tmp_path / "runs")
    run = library.expect("new")
    assert names(library) == {"new": "new"} and library.run("new") is run
    library.forget_if_there("new")
    assert names(library) == {"new": "new"}


def test_a_run_that_was_there_and_is_not_is_forgotten(make_run, tmp_path):
    library = Library(tmp_path / "runs")
    library.expect("new")
    make_run("new")
    library.forget_if_there("new")
    assert names(library) == {"new": "new"}
    (tmp_path / "runs" / "new").rename(tmp_path / "moved")
    assert names(library) == {}


def test_a_study_is_listed_as_one_with_its_runs_as_steps(study, tmp_path):
    (found,) = Library(tmp_path / "runs").summaries()
    assert (found["name"], found["kind"], found["state"]) == ("compared", "study", "done")
    assert (found["step"], found["steps"]) == (4, 5)
    with pytest.raises(NotFoundError, match="is a study"):
        Library(tmp_path / "runs").run("compared")


def test_a_study_whose_rows_are_damaged_is_broken(study, tmp_path):
    rows = (study / "rows.jsonl").read_text()
    (study / "rows.jsonl").write_text("{\n" + rows)
    (found,) = Library(tmp_path / "runs").summaries()
    assert found["state"] == "broken" and "line 1" in found["problem"]


def test_arms_are_rows_that_differ_in_their_seeds(study):
    arms = arms_of(study)
    assert {arm: [row["key"] for row in rows] for arm, rows in arms.items()} == {
        "token, line": ["a0", "a1", "a2"],
        "grpo": ["b0"],
    }
    curve = mean_over_seeds(arms["token, line"], "entropy")
    assert curve["step"] == [1, 3]  # the middles of steps 1 to 2, and 3 to 4
    assert curve["value"] == pytest.approx([0.6, 0.3]) and curve["low"] == [0.5, 0.2] and curve["high"] == [0.7, 0.4]
    assert mean_over_seeds(arms["token, line"], "target") is None
    first, last = estimate_at_each(arms["token, line"], "mean@2")
    assert first == {"step": 0, "value": 0.25, "low": 0.25, "high": 0.25}
    assert last["step"] == 4 and last["value"] == 0.625 and 0.5 <= last["low"] < 0.625 < last["high"] <= 0.75
    assert estimate_at_each(arms["grpo"], "mean@2")[1] == {"step": 4, "value": 0.25, "low": None, "high": None}


# ---- recipes ---------------------------------------------------------------------------------------------


def test_the_recipe_that_comes_with_the_package_is_that_of_the_repository():
    from pathlib import Path

    root = Path(__file__).parents[3]
    shipped = recipes_from([])["countdown"]
    assert shipped.path.read_text() == (root / "recipes" / "countdown.yaml").read_text(), "copy it to assets/recipes"
    about = shipped.about()
    assert about["budget"] == {"prompts": 64, "rollouts": 8, "steps": 100} and about["title"].startswith("The main job")
    assert about["curve"]["text"] == "linear(1.0, 0.8, unit='initial')" and about["curve"]["width"] == 0.06
    assert (about["method"], about["estimator"]) == ("learning_rate", "grpo")


def test_given_recipes_come_first_and_may_take_a_shipped_ones_name(tmp_path):
    mine, other = tmp_path / "countdown.yaml", tmp_path / "plain.yaml"
    mine.write_text("control: {method: {name: entropic}, lower: 0.4, upper: 0.5}\n")
    other.write_text("control: null\ntrain: {algorithm: rloo}\n")
    found = recipes_from([other, mine])
    assert list(found) == ["plain", "countdown"] and found["countdown"].path == mine
    assert (found["plain"].method, found["plain"].estimator, found["plain"].about()["curve"]) == ("none", "rloo", None)
    assert found["countdown"].method == "entropic" and found["countdown"].about()["curve"]["lower"] == [
        (0, 0.4),
        (1, 0.4),
    ]
    with pytest.raises(InvalidValueError, match="two recipes are called"):
        recipes_from([mine, mine])


def test_a_recipe_that_cannot_be_used_is_refused_at_once(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("trian: {}\n")
    with pytest.raises(InvalidValueError, match="did you mean 'train'"):
        recipes_from([file])


def test_a_run_belongs_to_the_recipe_whose_steps_it_makes(make_run, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {steps: 9, prompts_per_step: 2, rollouts_per_prompt: 2, learning_rate: 1e-4}\nseed: 5\n")
    recipes = recipes_from([file])
    make_run("mine")
    make_run("other", config=CONFIG | {"train": CONFIG["train"] | {"prompts_per_step": 4}})
    make_run("hotter", config=CONFIG | {"train": CONFIG["train"] | {"temperature": 2.0}}, lines=[step_line(1)])
    found = {each["name"]: each["recipe"] for each in Library(tmp_path / "runs", (), recipes).summaries()}
    assert found == {"mine": "mine", "other": None, "hotter": None}
    assert recipes["countdown"].asks_as(CONFIG) and not recipes["countdown"].made(CONFIG)


# ---- what is held ----------------------------------------------------------------------------------------


def test_a_run_that_has_ended_is_read_again_only_when_it_changes(make_run, tmp_path, monkeypatch):
    ended, running = make_run("ended"), make_run("running", [step_line(1)], why=None)
    library, read = Library(tmp_path / "runs"), []
    monkeypatch.setattr(RecordedRun, "update", counted(RecordedRun.update, read))
    for _ in range(3):
        library.summaries()
    assert read == ["ended", "running", "running", "running"]
    ended.append_metrics(step_line(5))
    running.append_metrics(step_line(2))
    assert {each["name"]: each["step"] for each in library.summaries()} == {"ended": 5, "running": 2}


def counted(update, read):
    def counting(run):
        read.append(run.directory.path.name)
        update(run)

    return counting


def test_of_many_runs_those_asked_for_last_are_held(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("entrocraft.app.library._MOST_OPEN", 2)
    for name in ("a", "b", "c"):
        make_run(name)
    library = Library(tmp_path / "runs")
    a, b = library.run("a"), library.run("b")
    assert library.run("a") is a
    library.run("c")
    assert library.run("a") is a and library.run("b") is not b
