"""Cells: dotted columns, text of any kind, and filters that compare what values say."""

import datetime
import warnings
from decimal import Decimal

import pytest

from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.tasks.cells import Selection, cell, check_columns, check_unicode, decoded
from entrocraft.tasks.prompt_template import PromptTemplate

NESTED = {"reward_model": {"ground_truth": "34", "more": {"x": 1}}, "a.b": 2, "c.d": {"e": 3}, "none": None}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("reward_model.ground_truth", "34"),
        ("reward_model.more.x", 1),
        ("a.b", 2),
        ("c.d.e", 3),
        ("none.x", None),
        ("reward_model.nothing", None),
        ("a.c", None),
    ],
)
def test_dots_lead_into_cells(column, value):
    assert cell(NESTED, column) == value


def test_a_dotted_column_that_is_not_there_is_refused_with_the_nearest():
    check_columns(["reward_model.ground_truth", "c.d.e"], [NESTED], "x")
    with pytest.raises(UnknownNameError, match=r"did you mean 'reward_model.ground_truth'"):
        check_columns(["reward_model.groundtruth"], [NESTED], "x")


@pytest.mark.parametrize(
    ("found", "asked", "same"),
    [
        ("0", 0, True),
        ("0.0", 0, True),
        (" 0 ", 0, True),
        (0, "0", True),
        (0.0, 0, True),
        (Decimal("0.10"), 0.1, True),
        ("1e1", 10, True),
        ("10", 1, False),
        ("True", True, True),
        ("false", False, True),
        (True, True, True),
        (False, True, False),
        (True, "true", True),
        ("a", "a", True),
        ("A", "a", False),
        ("007", "7", False),
        (b"a", "a", True),
        (datetime.date(2026, 1, 2), "2026-01-02", True),
        ("2026-01-02", datetime.date(2026, 1, 2), True),
        (None, None, True),
        ("", None, True),
        (float("nan"), None, True),
        (None, 0, False),
        (0, None, False),
    ],
)
def test_filters_compare_what_values_say(found, asked, same):
    row = {"c": found}
    assert Selection("where", {"c": asked}).all_hold(row) is same
    assert Selection("unless", {"c": [asked]}).any_holds(row) is same
    Selection("where", {"c": asked}).check([row], "x")


@pytest.mark.parametrize(
    ("cells", "asked"),
    [
        (["easy", "hard"], 0),
        ([0, 1], "easy"),
        ([True, False], 1),
        ([0, 1], True),
        (["yes", "no"], True),
        ([[1], [2]], 1),
        ([{"a": 1}], "a"),
        ([datetime.date(2026, 1, 2)], 5),
    ],
)
def test_filters_of_another_type_are_refused(cells, asked):
    for option in ("where", "unless"):
        with pytest.raises(
            InvalidValueError, match=f"data: {option} asks for .* in column 'c', whose cells are of another"
        ):
            Selection(option, {"c": asked}).check([{"c": value} for value in cells], "data")


@pytest.mark.parametrize("asked", [{"c": {"a": 1}}, {"c": [[1]]}, {"c": []}, "c", ["c"], 5])
def test_filters_that_compare_with_nothing_are_refused(asked):
    with pytest.raises(InvalidValueError, match="expects"):
        Selection("unless", asked)


def test_a_filter_that_misses_by_a_letter_is_warned_of():
    rows = [{"c": "Easy"}, {"c": "Hard"}]
    with pytest.warns(
        UserWarning, match=r"unless asks for 'easy' in column 'c', and no row holds it: did you mean 'Easy'"
    ):
        Selection("unless", {"c": "easy"}).check(rows, "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Selection("unless", {"c": ["Easy", "other"]}).check(rows, "data")


def test_bytes_are_text_if_they_are_utf_8():
    assert decoded("é".encode(), "x") == "é" and decoded(5, "x") == 5
    with pytest.raises(InvalidValueError, match="x holds bytes that are not UTF-8"):
        decoded(b"\xe9", "x")


@pytest.mark.parametrize("value", ["\ud83d", ["a", {"b": "\ud83d"}], {"\ud83d": 1}, [["\udc00"]]])
def test_half_a_character_is_refused_at_any_depth(value):
    with pytest.raises(InvalidValueError, match="x is no Unicode text: it holds half of a character") as error:
        check_unicode(value, "x")
    str(error.value).encode()


@pytest.mark.parametrize(
    ("template", "value", "prompt"),
    [
        ("{q}", b"caf\xc3\xa9", "café"),
        ("{q}", {"role": "user", "content": "hi"}, [{"role": "user", "content": "hi"}]),
        ("{q}", [{"role": "user", "content": b"hi", "id": 1}], [{"role": "user", "content": "hi"}]),
        ("{q}=", 24, "24="),
        ("{q}=", 24.0, "24="),
        ("{q}=", 0.1, "0.1="),
        ("{q}=", [4, 6.0], "[4, 6]="),
        ("{{{q}}}", "x", "{x}"),
        ("{m.n}!", "-", "deep!"),
        ("{m.n}", "-", "deep"),
    ],
)
def test_prompts_are_text_or_messages(template, value, prompt):
    assert PromptTemplate(template).prompt({"q": value, "m": {"n": "deep"}}, "file, row 1") == prompt


@pytest.mark.parametrize(
    ("template", "value"),
    [
        *(("{q}", value) for value in (True, 5, 0.1, [1, 2], ["a"], {"a": 1}, [], [[]], b"\xff", [{"role": "user"}])),
        *(("{q}=", value) for value in (True, ["a"], [True], {"a": 1}, [None], [], float("nan"), b"\xff")),
        *(("{q}", value) for value in ("\ud83d", [{"role": "user", "content": "\ud83d"}])),
    ],
)
def test_what_is_no_text_does_not_become_its_repr(template, value):
    with pytest.raises(
        InvalidValueError, match="file, row 1: (column 'q' (must hold|holds|is no)|the prompt is no Unicode)"
    ):
        PromptTemplate(template).prompt({"q": value}, "file, row 1")
