"""Countdown problems that some operators cannot solve, checked against every expression that there is."""

import itertools

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.tasks import Countdown
from entrocraft.tasks.countdown import parse_expression, reachable_values


def values_by_brute_force(numbers, operators):
    """The values of all orders of the numbers, all operators, and all five ways to put parentheses around four."""
    shapes = [
        "(({}{}{}){}{}){}{}",
        "({}{}({}{}{})){}{}",
        "({}{}{}){}({}{}{})",
        "{}{}(({}{}{}){}{})",
        "{}{}({}{}({}{}{}))",
    ]
    found = set()
    for order in set(itertools.permutations(numbers)):
        for chosen in itertools.product(operators, repeat=3):
            parts = [order[0], chosen[0], order[1], chosen[1], order[2], chosen[2], order[3]]
            for shape in shapes:
                try:
                    found.add(parse_expression(shape.format(*parts))[0])
                except InvalidValueError:  # division by zero
                    continue
    return found


@pytest.mark.parametrize("operators", ["+-", "+-*", "+-*/"])
@pytest.mark.parametrize("numbers", [(1, 2, 3, 4), (2, 2, 5, 9), (7, 7, 7, 7)])
def test_reachable_values_are_those_of_every_expression(numbers, operators):
    assert reachable_values(numbers, operators) == values_by_brute_force(numbers, operators)


def test_what_operators_solve_that_must_not_suffice_is_left_out():
    task = Countdown(unreachable_by="-+", max_target=24)
    problems = task.problems("train", 50)
    assert len(problems) == 50
    for problem in problems:
        assert problem["target"] not in values_by_brute_force(problem["numbers"], "+-")
        assert problem["target"] in values_by_brute_force(problem["numbers"], "+-*")
    easy = Countdown(operators="+-", max_target=24).problems("train", 50)
    assert not {p["prompt"] for p in easy} & {p["prompt"] for p in problems}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unreachable_by": "/"}, "unreachable_by must be some of operators '[+]-[*]', but not all, got '/'"),
        ({"unreachable_by": "*-+"}, "but not all"),
        ({"unreachable_by": "+", "num_numbers": 6}, "takes too long for more than 5 numbers, got num_numbers=6"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InvalidValueError, match=message):
        Countdown(**options)


def test_a_problem_that_cannot_be_found_is_said_so():
    with pytest.raises(InvalidValueError, match="reached no target up to 99 that '[*]' does not"):
        Countdown(num_numbers=2, max_number=1, operators="*/", unreachable_by="*").problems("train", 1)
