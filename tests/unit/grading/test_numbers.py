"""Numbers as a person reads them, and right answers of which a number is but a part."""

import time
from decimal import Decimal

import pytest

from entrocraft.grading.numbers import is_part_of_more, last_number, number_text, whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"9{,}500", "9500"),
        (r"1{,}000{,}000", "1000000"),
        (r"9\,500", "9500"),
        (r"9\;500", "9500"),
        (r"9\ 500", "9500"),
        (r"10,\!000", "10000"),
        ("9\u202f500", "9500"),
        ("9\u2009500.5", "9500.5"),
        ("9\u00a0500", "9500"),
        ("9~500", "9500"),
        ("1'000", "1000"),
        ("1_000", "1000"),
        ("1\u200b000", "1000"),
        ("1,00,000", "100000"),
        ("12,34,567.8", "1234567.8"),
        (r"3\,5", "5"),  # a list, not a group of three
        ("2,3,5", "5"),
        ("- 5", "-5"),
        ("\u2212 5", "-5"),
        ("\u20135", "-5"),
        (r"\boxed{- 5}", "-5"),
        ("$- 5$", "-5"),
        ("it is - 5", "-5"),
        ("x = - 5", "-5"),
        ("10 - 5", "5"),
        ("x - 5", "5"),
        ("so:\n- 5\n- 7", "7"),  # a list, not signs
        ("3 \u00d7 10^8", "300000000"),
        (r"3 \times 10^{-2}", "0.03"),
        ("2 * 10**3", "2000"),
        ("1e99999999999999999999", None),
        ("1e2000", None),
        ("none", None),
    ],
)
def test_numbers_are_read_as_a_person_reads_them(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *(
            "3/4",
            "-3/4",
            "3 / 4",
            "3\u20444",
            "1 1/2",
            "3\u00bd",
            r"\frac{3}{4}",
            r"\dfrac{-3}{4}",
            r"\frac34",
            "5/8 inch",
        ),
        *(
            "2:30",
            "12:30 pm",
            "2 : 3",
            "2024-01-15",
            "10-7",
            "1-2",
            "2-3 days",
            "3 to 4",
            "1 or 2",
            "3, 4",
            "(1,2)",
            "1;2",
        ),
        *("1 000", "12 500", "3,14", "1.000,50", "1.234.567", r"3\,4"),
        *(
            "10^3",
            "2^{5}",
            "2**3",
            "10\u00b2",
            "x^2",
            "x2",
            "5!",
            r"\sqrt{2}",
            r"2\pi",
            "2\u03c0",
            "2 + 3i",
            "5x",
            r"\pm 2",
        ),
        *("3 million", "5k", "6 * 7", "#### 3/4", "x = 5 (mod 7)"),
    ],
)
def test_a_number_that_is_a_part_of_more_is_known_as_such(text):
    assert is_part_of_more(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "42",
            "-42",
            "- 42",
            "42.",
            "4.2",
            "1,000",
            "1,00,000",
            r"9{,}500",
            "#### 1,000",
            "$42$",
            "$42",
            r"\boxed{42}",
        ),
        *("**42**", "42%", "42 apples", "5 kg", "5kg", "5 km/h", "$3.50/hour", "90\u00b0", r"90^\circ", "USD5", "3e8"),
        *(
            "5 + 7 = 12",
            "x = 5",
            "x=-5",
            "it is 42.",
            "Step 1: 5",
            "<<48/2=24>>24 clips",
            "answer: 5",
            "(5)",
            "Monday 3 pm",
        ),
        *(r"6 \times 10^3", r"100\text{ cm}", "no number"),
    ],
)
def test_a_number_that_is_all_there_is_may_be_a_right_answer(text):
    assert not is_part_of_more(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((42, "42"), (42.0, "42"), (-0.0, "0"), (0.1, "0.1"), (1e-7, "0.0000001"), (1e22, "1" + "0" * 22)),
        *((1e300, "1" + "0" * 300), (Decimal("2.50"), "2.5"), (10**400, "1" + "0" * 400)),
        *((True, None), (float("nan"), None), (float("-inf"), None), (Decimal("NaN"), None), ("1", None), (None, None)),
    ],
)
def test_numbers_of_tables_are_written_as_a_person_writes_them(value, text):
    assert number_text(value) == text


def test_whole_numbers_have_nothing_beside_them():
    assert [whole_number(text) for text in ("9 500", r"9\,500", "$5$", "5 cm", "3/4", "")] == [
        None,
        "9500",
        "5",
        *[None] * 3,
    ]


@pytest.mark.parametrize(
    "text", ["1,11" * 50_000, "- " * 50_000, "9" * 10**6, "5" + " " * 10**5, r"\frac{" * 30_000 + "5"]
)
def test_no_text_takes_long(text):
    began = time.monotonic()
    last_number(text), is_part_of_more(text)
    assert time.monotonic() - began < 10
