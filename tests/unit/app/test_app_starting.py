import shlex
from pathlib import Path

import pytest

from entrocraft.app.recipes import read_recipe, recipes_from
from entrocraft.app.requests import Request, parsed_body
from entrocraft.app.starting import SETTINGS, command_of, control_of, control_without_curve
from entrocraft.config import load_config
from entrocraft.errors import EntrocraftError, InvalidValueError
from entrocraft.schedules import Band, linear

BAND = Band(linear(1.0, 0.6, unit="initial"), width=0.05)


def settings(**fields):
    return Request(fields, SETTINGS)


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "control: {schedule: 0.5, width: 0.1, method: {name: budget, min_kept: 0.3}, guard: relax}\n"
        "train: {steps: 40, save_every: 10}\n"
    )
    return read_recipe(file)


def trained(command):
    """Return the configuration that a command trains with."""
    verb, file, *overrides = command
    assert verb == "train"
    return load_config(Path(file), overrides)


def test_the_curve_takes_the_recipes_place_and_all_else_stays(recipe):
    control = control_of(recipe, BAND, settings())
    config = trained(command_of(recipe.path, control, settings()))
    assert config.control.band() == BAND
    assert config.control.method == {"name": "budget", "min_kept": 0.3} and config.control.guard == "relax"
    assert config.train.steps == 40


def test_the_same_method_keeps_the_recipes_options_and_another_brings_its_own(recipe):
    assert control_of(recipe, BAND, settings(method="budget", method_options={}))["method"]["min_kept"] == 0.3
    assert control_of(recipe, BAND, settings(method="token", method_options={}))["method"] == "token"
    own = control_of(recipe, BAND, settings(method="budget", method_options={"min_kept": 0.2}))
    assert own["method"] == {"name": "budget", "min_kept": 0.2}


def test_the_trainers_own_estimator_is_left_to_the_trainer(recipe):
    assert "estimator" not in control_of(recipe, BAND, settings(estimator="grpo"))
    assert control_of(recipe, BAND, settings(estimator="maxrl"))["estimator"] == "maxrl"


def test_steps_and_seed_are_overrides(recipe):
    chosen = settings(steps=7, seed=3)
    config = trained(command_of(recipe.path, control_of(recipe, BAND, chosen), chosen))
    assert (config.train.steps, config.seed) == (7, 3)


def test_a_command_survives_a_shell(recipe):
    command = command_of(recipe.path, control_of(recipe, BAND, settings()), settings())
    assert shlex.split(shlex.join(command)) == command


def test_edges_become_edges():
    band = Band(lower=linear(0.5, 0.3), upper=linear(0.6, 0.5))
    assert control_of(None, band, settings()) == {"lower": "linear(0.5, 0.3)", "upper": "linear(0.6, 0.5)"}


@pytest.mark.parametrize(
    ("chosen", "control"),
    [
        ({}, None),
        ({"method": "none", "estimator": "grpo"}, None),
        ({"method": "none", "estimator": "maxrl"}, {"guard": "off", "method": "none", "estimator": "maxrl"}),
        ({"method": "clip_higher"}, {"guard": "off", "method": "clip_higher"}),
        (
            {"method": "clip_b", "method_options": {"follow": False}},
            {"guard": "off", "method": {"name": "clip_b", "follow": False}},
        ),
    ],
)
def test_without_a_curve_there_is_the_plain_algorithm_or_a_method_without_a_target(tmp_path, chosen, control):
    file = tmp_path / "mine.yaml"
    file.write_text("control: {schedule: 0.5, width: 0.1, guard: 'off'}\n")
    recipe = read_recipe(file)
    found = control_without_curve(recipe, settings(**chosen))
    assert found == control
    assert (trained(command_of(file, found, settings())).control is None) == (control is None)


@pytest.mark.parametrize("chosen", [{"method": "token"}, {"method": "clip_b", "method_options": {"follow": True}}])
def test_a_method_that_follows_a_curve_needs_one(chosen):
    with pytest.raises(InvalidValueError, match="draw one"):
        control_without_curve(recipes_from([])["countdown"], settings(**chosen))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"method": "os:system"}, "unknown method"),
        ({"method": ["token"]}, "unknown method"),
        ({"estimator": "my_package.mine:function"}, "unknown estimator"),
        ({"method": "token", "method_options": {"min_keep": 0.2}}, "did you mean 'min_kept'"),
        ({"method": "token", "method_options": {"min_kept": {"a": 1}}}, "a number, a word, true or false"),
        ({"method": "token", "method_options": {"fallback": "x" * 201}}, "a number, a word, true or false"),
        ({"method": "token", "method_options": []}, "expected an object"),
        ({"steps": 0}, "steps: expected a whole number from 1 to 100,000"),
        ({"steps": True}, "steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_may_not_be_chosen_is_refused(chosen, message):
    with pytest.raises(EntrocraftError, match=message):
        command_of(recipes_from([])["countdown"].path, control_of(None, BAND, settings(**chosen)), settings(**chosen))


@pytest.mark.parametrize("name", ["model", "task", "train", "reward", "output", "config"])
def test_what_could_name_code_cannot_be_said_at_all(name):
    with pytest.raises(EntrocraftError, match=f"unknown field '{name}'"):
        settings(**{name: "x"})


def test_a_value_with_quotes_or_breaks_stays_one_value(recipe):
    chosen = settings(method="token", method_options={"fallback": "skip'}\nseed: 5"})
    (override,) = [
        each for each in command_of(recipe.path, control_of(recipe, BAND, chosen), chosen) if "control" in each
    ]
    from entrocraft.yaml_text import read_assignment

    name, value = read_assignment(override, "a=1")
    assert name == "control" and value["method"]["fallback"] == "skip'}\nseed: 5"


@pytest.mark.parametrize("body", [b"[]", b"3", b"{", b'{"a": NaN}', b"\xff", b"[" * 30_000, b'{"a": Infinity}'])
def test_a_body_that_is_no_object_of_json_is_refused(body):
    with pytest.raises(ValueError):
        parsed_body(body)


def test_no_body_is_an_empty_object():
    assert parsed_body(b"") == {}
