"""docs/control.md: methods, options and estimators are those of the code, and its settings can be used."""

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml

import entrocraft as ec
from entrocraft.control.methods import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
SETTINGS = [yaml.safe_load(code) for code in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def quoted(cell):
    return re.findall(r"`([^`]*)`", cell)


def table(header):
    """Return the rows of the table that begins so, cell by cell."""
    (text,) = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_every_method_is_in_the_table_with_what_it_turns_and_needs():
    rows = {quoted(row[0])[0]: row for row in table("method | leaves out or turns")}
    assert rows.keys() == METHODS.keys()
    for name, (_, _, _, turns, needs, source) in rows.items():
        method = METHODS[name]()
        assert (set(quoted(turns)), set(quoted(needs))) == (method.turns, method.needs), name
        assert source or name == "none"


def test_every_option_is_in_the_table_with_its_default():
    documented = {
        (name, quoted(option)[0]): yaml.safe_load(quoted(default)[0])
        for option, default, methods, _ in table("option | default")
        for name in quoted(methods)
    }
    taken = {
        (name, option): parameter.default
        for name, method in METHODS.items()
        for option, parameter in inspect.signature(method).parameters.items()
    }
    assert documented == taken


def test_every_estimator_is_in_the_table_with_its_options():
    rows = {quoted(row[0])[0]: quoted(row[1]) for row in table("estimator | options")}
    assert sorted(rows) == ec.advantages.available()
    for name, words in rows.items():
        options = list(inspect.signature(getattr(ec.advantages, name)).parameters.values())[1:]
        assert words == [word for option in options for word in (option.name, str(option.default))]


@pytest.mark.parametrize("settings", SETTINGS, ids=json.dumps)
def test_its_settings_can_be_used(settings):
    assert ec.EntropyControl.of(settings["control"]).settled().method_name == "token"


def test_old_names_mean_what_the_page_says():
    of = ec.EntropyControl.of
    assert (
        of({"rule": "aligned"}) == of({"method": "aligned"}) == of({"method": "predicted", "predictor": "whole_model"})
    )
    assert of({"method": "rejection"}) == of(None)
    assert of({"predictor": "aligned"}) == of({"predictor": "whole_model"})
    assert of({"rule": "token", "min_kept": 0.2}) == of({"method": {"name": "token", "min_kept": 0.2}})
    for refused in (
        {"method": "entropic", "min_kept": 0.2},
        {"method": "advantage", "predictor": "exact"},
        {"method": "entropy_bonus", "rejected": "mask"},
    ):
        with pytest.raises(ec.EntrocraftError):
            of(refused)
