import math
import os
import time

import pytest
import yaml

from entrocraft.errors import InvalidValueError
from entrocraft.yaml_text import MOST_CHARACTERS, read_assignment, read_yaml, read_yaml_file

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}], k{i}: 1}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {steps: 1}\nseed: 3\ntrain: {steps: 2}",
            "key 'train' is given twice, in line 1, column 1, and in line 3",
        ),
        ("train:\n  steps: 1\n  steps: 1", "key 'steps' is given twice, in line 2, column 3, and in line 3"),
        ("{a: 1, 'a': 2}", "given twice"),
        ("{1: x, 1.0: y}", "given twice"),
        ("{true: x, yes: y}", "given twice"),
        ("[[{a: 1, a: 1}]]", "given twice"),
        ("&x {a: 1, a: 2}: 3", "given twice"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_places(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(text)


def test_merge_keys_stay():
    text = "base: &base {steps: 1, seed: 2}\nrun:\n  <<: *base\n  steps: 3\nother: {<<: [*base, *base], seed: 3}"
    data = read_yaml(text)
    assert data["run"] == {"steps": 3, "seed": 2} and data["other"] == {"steps": 1, "seed": 3}


@pytest.mark.parametrize("text", [BOMB, MERGE_BOMB, "&a [*a]", "&a {b: *a}", "a: &a {<<: *a}"])
def test_aliases_cannot_blow_up(text):
    begun = time.perf_counter()
    with pytest.raises(yaml.YAMLError, match=r"values at most|repeats what it is a part of"):
        read_yaml(text)
    assert time.perf_counter() - begun < 5


def test_aliases_may_be_used():
    assert read_yaml("a: &a [1, 2]\nb: *a\nc: *a")["c"] == [1, 2]


def test_what_is_read_and_echoed_is_bounded(tmp_path):
    with pytest.raises(yaml.YAMLError, match="characters at most"):
        read_yaml("x" * (MOST_CHARACTERS + 1))
    with pytest.raises(InvalidValueError) as error:
        read_assignment(f"a=[{'x' * 500_000}", "a.b=1")
    assert len(str(error.value)) < 1000
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidValueError, match="a pipe or a device"):
        read_yaml_file(tmp_path / "pipe")
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(InvalidValueError, match="is not YAML"):
        read_yaml_file(tmp_path / "x")


def test_two_halves_of_a_character_are_one_as_json_writes_it():
    assert read_yaml('a: "\\ud83d\\ude00 \u00e9"') == {"a": "😀 é"}


@pytest.mark.parametrize("text", ['a: "\\ud83d"', '"\\ude00": 1', '["\\ude00\\ud83d"]'])
def test_half_of_a_character_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="half of a character"):
        read_yaml(text)


def test_what_looks_like_a_date_is_the_text_that_it_is():
    assert read_yaml("day: 2026-01-01\nnone: 2026-13-45") == {"day": "2026-01-01", "none": "2026-13-45"}


@pytest.mark.parametrize("text", ["010", "-010", "00", "0_7", "00012", "2:30", "-1:30", "12:30:59", "1:30.5"])
def test_numbers_that_nobody_means_are_the_text_that_they_are(text):
    assert yaml.safe_load(text) != text  # 8, -8, 0, 7, 10, 150, -90, 45059 and 90.5
    assert read_yaml(text) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("0", 0), ("-7", -7), ("+7", 7), ("1_000", 1000), ("0x1F", 31), ("0b101", 5), ("010.5", 10.5), (".5", 0.5)],
        *[("-.5", -0.5), ("5.", 5.0), ("1e-4", 1e-4), ("2.5E+3", 2500.0), (".inf", math.inf), ("-.inf", -math.inf)],
    ],
)
def test_numbers_are_numbers(text, number):
    value = read_yaml(f"[{text}]")[0]
    assert value == number and type(value) is type(number)


@pytest.mark.parametrize(
    "text", ["a: !!binary aGk=", "!!set {a, b}", "!!timestamp 2026-01-01", "!!omap [a: 1]", "!x y"]
)
def test_what_json_has_no_word_for_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="is no plain data"):
        read_yaml(text)
