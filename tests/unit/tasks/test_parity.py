"""Parity: what is right, how answers are read, and how problems are drawn."""

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.tasks import Parity


def test_problems_ask_for_the_parity_of_their_bits():
    for problem in Parity(num_bits=6).problems("train", 50):
        bits = problem["prompt"].removesuffix("=")
        assert len(bits) == 6
        assert problem["answer"] == "01"[sum(map(int, bits)) % 2]


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        *(("1", 1.0), ("0", 0.0), (":1101=1", 1.0), (":0000=1", 1.0), (":1101=0", 0.0), (":1101", 0.0), ("", 0.0)),
        *(("=1", 0.0), (":=1", 0.0), ("11", 0.0), (":11=1=1", 0.0), ("1\n", 0.0), (":12=1", 0.0)),
    ],
)
def test_only_the_answer_counts_at_once_or_after_working(completion, score):
    assert Parity().score(completion, {"answer": "1"}) == score


def test_answers_are_compared_without_their_working():
    assert Parity().answers_of(["1", ":10=1", ":10", "x"]) == ["1", "1", None, None]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_the_last_bit_is_right_as_often_as_asked_for(share):
    problems = Parity(last_bit_right=share).problems("train", 2000)
    assert sum(p["prompt"][-2] == p["answer"] for p in problems) / 2000 == pytest.approx(share, abs=0.03)


def test_no_row_of_bits_is_in_both_splits():
    task = Parity(num_bits=8)
    train, test = ({p["prompt"] for p in task.problems(split, 2000)} for split in ("train", "test"))
    assert not train & test
    assert len(test) / (len(train) + len(test)) == pytest.approx(0.2, abs=0.06)


def test_a_whole_working_fits():
    assert len(":" + "0" * 12 + "=" + "1") + 1 == Parity(num_bits=12).max_completion_tokens  # and the end


@pytest.mark.parametrize("options", [{"num_bits": 3}, {"num_bits": 25}, {"last_bit_right": 1.1}])
def test_odd_options_are_refused(options):
    with pytest.raises(InvalidValueError, match="parity: "):
        Parity(**options)
