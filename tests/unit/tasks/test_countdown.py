import ast
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.tasks import Additions
from entrocraft.tasks.countdown import Countdown, parse_expression


def value_by_pythons_own_parser(node):
    if isinstance(node, ast.Expression):
        return value_by_pythons_own_parser(node.body)
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    left, right = value_by_pythons_own_parser(node.left), value_by_pythons_own_parser(node.right)
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right


expressions = st.recursive(
    st.integers(1, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner, st.booleans()).map(
        lambda parts: f"({parts[0]}{parts[1]}{parts[2]})" if parts[3] else f"{parts[0]}{parts[1]}{parts[2]}"
    ),
    max_leaves=8,
)


@given(expressions)
def test_the_parser_agrees_with_pythons_grammar(text):
    try:
        expected = value_by_pythons_own_parser(ast.parse(text, mode="eval"))
    except ZeroDivisionError:
        with pytest.raises(InvalidValueError, match="division by zero"):
            parse_expression(text)
        return
    value, numbers = parse_expression(text)
    assert value == expected
    assert numbers == [int(digits) for digits in "".join(c if c.isdigit() else " " for c in text).split()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1+",
        "(1",
        "1)",
        "1 2",
        "-1",
        "1**2",
        "1//2",
        "0x1+1",
        "1_0",
        "1.5",
        "a",
        "()",
        "__import__('os')",
        "(" * 300,
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(InvalidValueError):
        parse_expression(text)


def test_only_the_right_value_with_each_number_once_is_rewarded():
    task, problem = Countdown(), {"numbers": [4, 6, 1, 9], "target": 24}
    assert task.score("4*6*(9-8)", problem) == 0.0  # 8 is not given
    assert task.score("4*6", problem) == 0.0  # 1 and 9 are left
    assert task.score("4*6+1-1", problem) == 0.0  # 1 twice
    assert task.score("9+6+1+4", problem) == 0.0  # 20
    assert task.score("(9-6+1)*4", problem) == 0.0  # 16
    assert task.score("6*(9-4-1)", problem) == 1.0
    assert task.score("6*(9-4-1) ", problem) == 1.0
    assert task.score("6*(9-4-1)=24", problem) == 0.0


@given(st.integers(0, 10**6), st.sampled_from(["+-*", "+-*/", "-/", "*"]), st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_every_problem_comes_with_a_solution_that_scores(seed, operators, num_numbers):
    task = Countdown(operators=operators, num_numbers=num_numbers, max_target=10_000)
    problem = task.solved_problem(random.Random(seed))
    assert task.score(problem["solution"], problem) == 1.0
    assert len(problem["solution"]) < task.max_completion_tokens


def test_problems_are_seeded_distinct_and_hide_their_solution():
    task = Countdown()
    problems = task.problems("train", 300, seed=1)
    assert problems == task.problems("train", 300, seed=1)
    assert problems != task.problems("train", 300, seed=2)
    assert len({p["prompt"] for p in problems}) == 300
    assert not any("solution" in p for p in problems)


def test_the_splits_share_no_problem_in_any_order_of_numbers():
    task = Countdown()
    keys = {
        split: {(tuple(sorted(p["numbers"])), p["target"]) for p in task.problems(split, 1000, seed=3)}
        for split in ("train", "test")
    }
    assert not keys["train"] & keys["test"]


def test_asking_for_more_problems_than_there_are_is_refused():
    with pytest.raises(InvalidValueError, match="50 distinct test problems"):
        Countdown(num_numbers=2, max_number=2, max_target=3).problems("test", 50)


def test_the_reward_has_trls_signature():
    task = Countdown()
    problems = task.problems("train", 2)
    columns = {name: [p[name] for p in problems] for name in problems[0] if name != "prompt"}
    rewards = task.reward(prompts=["", ""], completions=["1", "2"], trainer_state=object(), log_metric=print, **columns)
    assert rewards == [0.0, 0.0]


def test_options_are_checked():
    assert {"additions", "countdown", "dataset", "reasoning-gym", "math-500"} <= set(tasks.available())
    with pytest.raises(UnknownNameError, match="did you mean 'countdown'"):
        tasks.build("countdwon")
    for options in ({"num_numbers": 1}, {"max_target": 0}, {"operators": "^"}, {"nonsense": 1}):
        with pytest.raises((InvalidValueError, UnknownNameError)):
            tasks.build("countdown", **options)


@pytest.mark.parametrize(
    "options", [{"max_number": 10**12}, {"max_target": 10**12}, {"operators": "+" * 10**6}, {"max_number": 10**9}]
)
def test_what_has_no_bound_or_no_problem_is_refused(options):
    with pytest.raises(InvalidValueError) as error:
        Countdown(**options).problems("train", 2)
    assert len(str(error.value)) < 300


def test_more_problems_than_can_be_held_are_refused():
    for task in (Countdown(), Additions()):
        with pytest.raises(InvalidValueError, match="100000000000 problems were asked for, and at most 1,000,000"):
            task.problems("train", 10**11)
    with pytest.raises(InvalidValueError, match="at most 1,000,000,000, got 1000000000000"):
        Additions(max_number=10**12)


def test_problems_of_no_split_and_no_number_of_them_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1?", "answer": 2}\n')
    from_data = tasks.DatasetTask(train=str(tmp_path / "rows.jsonl"), test_share=0.0)
    for task in (Countdown(), Additions(), tasks.Parity(), tasks.ReasoningGym("basic_arithmetic"), from_data):
        with pytest.raises(UnknownNameError, match="unknown split 'valid': Known: test, train"):
            task.problems("valid", 1)
        for number in (-1, 2.5, "3", None, True):
            with pytest.raises(InvalidValueError, match=f"{task.name}: expected a number of problems, 0 or more"):
                task.problems("train", number)
        assert task.problems("train", 0) == []


@pytest.mark.parametrize("name", [None, 5])
def test_what_is_no_name_of_a_task_is_refused(name):
    with pytest.raises(UnknownNameError, match=f"unknown task '{name}'"):
        tasks.build(name)


def test_sums_are_read_as_a_person_reads_numbers():
    task = Additions(max_number=999)
    for said, answer in (("5", 5), ("It is 5.", 5), ("1,234", 1234), ("5.0", 5), ("2 + 3 = \uff15", 5)):
        assert task.score(said, {"answer": answer}) == 1.0, said
    for said, answer in (("7.5", 5), ("1/-5", 5), ("-5", 5), ("1,005", 5), ("", 5), ("50", 5)):
        assert task.score(said, {"answer": answer}) == 0.0, said
