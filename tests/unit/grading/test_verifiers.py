"""Verifiers by hand, time limits on calls that hang, and every data set of reasoning-gym."""

import os
import signal
import time
import warnings

import pytest

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, RewardError, UnknownNameError
from entrocraft.grading import verifiers
from entrocraft.grading.time_limit import TimeLimited
from entrocraft.tasks.procedural import ReasoningGym


@pytest.mark.parametrize(
    ("verifier", "completion", "answer", "right"),
    [
        ("exact", " 42\n", "42", True),
        ("exact", "", "", False),
        ("exact", "42.", 42, False),
        ("number", "first 3, then 1,234.50", "#### 1234.5", True),
        ("number", "-7", "-7", True),
        ("number", "3 - 7", "-7", False),
        ("number", "none", "7", False),
        ("number", "0.10", ".1", True),
        ("number", "-0", "0", True),
        ("number", "c = 3e8", "300,000,000", True),
        ("number", "10-7", "7", True),
        ("number", "2,3,5", "5", True),
        ("number", "\u22125", "-5", True),
        ("number", "1234567890123456789012345678901", "1234567890123456789012345678902", False),
        ({"name": "regex", "pattern": r"#### (.*)"}, "#### 1\n#### 2", "2", True),
        ({"name": "regex", "pattern": r"\d+"}, "a 12 b 34", "34", True),
        ({"name": "regex", "pattern": r"#### (.*)"}, "2", "2", False),
        ({"name": "regex", "pattern": "(?s)<a>(.*)</a>"}, "<a>\n2\n</a>", "2", True),
    ],
)
def test_verifiers_by_hand(verifier, completion, answer, right):
    assert verifiers.build(verifier).scores([completion], [answer]) == [float(right)]


@pytest.fixture(scope="module")
def math():
    return verifiers.Math(seconds=2.0)


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        (r"thus \boxed{\frac{3}{4}}", "0.75", True),
        (r"first \boxed{1}, no: \boxed{2}", "2", True),
        ("The answer is $x = 5$.", "5", True),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", True),
        (r"\boxed{\{1, 2\}}", r"\{2, 1\}", True),
        (r"\boxed{6}", "5", False),
        ("no idea", "5", False),
        ("", "5", False),
        ("\\boxed{" * 300, "5", False),
        (r"\boxed{36}", r"\$36", True),
        (r"\boxed{\$18.90}", r"\$18.90", True),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", True),
        (r"\boxed{\text{Eve}}", r"\text{Evelyn}", False),
        (r"\boxed{\text{(C)}}", r"\text{(C)}", True),
        (r"\boxed{(3, \frac{\pi}{2})}", r"\left( 3, \frac{\pi}{2} \right)", True),
        (r"\boxed{x^4-5x^3}", "x^4 - 5x^3", True),
        (r"\boxed{10\%}", r"10\%", True),
        (r"\boxed{9500}", r"9\,500", True),
        ("\\boxed{9\u202f500}", "9,500", True),
        (r"\boxed{10^{5000}}", "5", False),
        (r"\boxed{10^{5000}}", "10^{5000}", True),
    ],
)
def test_mathematics_is_compared_by_value(math, completion, answer, right):
    assert math.scores([completion], [answer]) == [float(right)]


def test_equal_mathematics_votes_alike(math):
    votes = math.answers_of([r"\boxed{\frac{1}{2}}", "it is 1/2", r"\boxed{0.25}", "no idea"])
    assert votes[0] == votes[1] != votes[2] and votes[3] is None


def test_an_answer_that_would_never_be_evaluated_ends_and_scores_nothing(math):
    began = time.monotonic()
    with pytest.warns(UserWarning, match="took more than 2 s"):
        scores = math.scores(["$9^{9^{9^{9}}}$", r"\boxed{5}", "$2^{10^{12}}$"], ["5", "5", "5"])
    assert scores == [0.0, 1.0, 0.0]
    assert time.monotonic() - began < 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert math.scores(["$9^{9^{9^{9}}}$", r"\boxed{5}"], ["5", "5"]) == [0.0, 1.0]


HARD = {
    "a power": r"\boxed{10^{5000}}",
    "a huge power": r"\boxed{10^{10^{7}}}",
    "a factorial": r"\boxed{1000000!}",
    "half an emoji": "\\boxed{\ud83d}",
    "NUL": "a\x00 \\boxed{1\x00}",
    "parentheses": "(" * 3000 + "1" + ")" * 3000,
    "fractions": r"\boxed{" + r"\frac{1}{" * 500 + "1" + "}" * 501,
    "braces": "$" + "{" * 20_000 + "$",
    "an exponent": "1e99999999999999999999",
    "a division": r"\boxed{\frac{1}{0}}",
}


@pytest.mark.slow
@pytest.mark.parametrize("completion", HARD.values(), ids=HARD.keys())
@pytest.mark.filterwarnings("ignore:entrocraft.grading")
def test_no_completion_ends_a_verifier(math, completion):
    regex = verifiers.build({"name": "regex", "pattern": "a(.*)"})
    for verifier in (math, regex, *map(verifiers.build, ("exact", "number"))):
        assert verifier.scores([completion, "5"], ["6", "6"]) == [0.0, 0.0]
        answers = verifier.answers_of([completion])
        assert answers[0] is None or len(answers[0]) <= max(len(completion), 1100)


def test_a_completion_that_breaks_a_verifier_scores_nothing_is_warned_of_once_and_counted():
    limited = TimeLimited("json:loads", seconds=20, num_workers=1)
    with pytest.warns(UserWarning, match=r"json:loads raised JSONDecodeError.* on \('\{',\); this counts as 0"):
        assert limited.map([("1",), ("{",), ("[",)], late=None, failed=0) == [1, 0, 0]
    assert limited.num_failed == 2 and limited.num_late == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert limited.map([("{",)], late=None, failed=0) == [0]


def test_a_pattern_cannot_hang_on_a_right_answer():
    verifier = verifiers.build({"name": "regex", "pattern": "(a+)+$", "seconds": 1.5})
    with pytest.warns(UserWarning, match="took more than 1.5 s"):
        assert verifier.expected("a" * 40 + "b") == "a" * 40 + "b"


def test_a_call_that_raises_or_dies_does_not_take_the_run_with_it():
    limited = TimeLimited("os:listdir", seconds=20, num_workers=1)
    with pytest.raises(RewardError, match="os:listdir raised FileNotFoundError.*nowhere"):
        limited.map([("/nowhere",)], late=None)
    assert limited.map([("/",)], late=None) != [None]
    with pytest.warns(UserWarning):
        assert TimeLimited("os:_exit", seconds=20, num_workers=1).map([(1,)], late="dead") == ["dead"]
    with pytest.raises(RewardError, match=r"cannot be loaded.*cannot import nowhere"):
        TimeLimited("nowhere:f", seconds=20, num_workers=1).map([()], late=None)
    with pytest.raises(InvalidValueError, match="seconds must be positive"):
        TimeLimited("os:listdir", seconds=0)
    for reward in ({"name": "math"}, {"name": "regex", "pattern": "x"}):
        for seconds in (0, -1.0, float("nan"), 1e9):  # before there is anything to grade
            with pytest.raises(InvalidValueError, match="seconds must be positive and finite"):
                verifiers.build(reward | {"seconds": seconds})


def test_a_worker_that_was_killed_is_started_again():
    limited = TimeLimited("os:getpid", seconds=20, num_workers=1)
    (first,) = limited.map([()], late=None)
    os.kill(first, signal.SIGKILL)
    (second,) = limited.map([()], late=None)
    assert second != first and limited.num_late == 0


def test_ctrl_c_is_not_for_workers():
    limited = TimeLimited("os:getpid", seconds=20, num_workers=1)
    (worker,) = limited.map([()], late=None)
    assert os.getpgid(worker) != os.getpgid(0)
    os.kill(worker, signal.SIGINT)
    assert limited.map([()], late=None) == [worker]


def test_a_users_pattern_cannot_hang_a_run():
    verifier = verifiers.build({"name": "regex", "pattern": r"<a>((?:\s*\w+\s*)*)</a>", "seconds": 1.0})
    with pytest.warns(UserWarning, match="took more than 1 s"):
        assert verifier.scores(["<a>" + "a" * 60 + "!", "<a>b</a>"], ["b", "b"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    "name",
    ["string_insertion", "spiral_matrix", "n_queens", "simple_integration", "polynomial_multiplication", "countdown"],
)
def test_an_answer_that_is_a_program_does_nothing(name, tmp_path):
    task = tasks.build(f"reasoning-gym/{name}", extract="whole")
    (problem,) = task.problems("train", 1)
    made = [tmp_path / str(i) for i in range(5)]
    programs = [
        f"open('{made[0]}','w').write('x') or '1'",
        f"exec('import os; os.mkdir(\"{made[1]}\")')",
        f'exec(\'import sqlite3; c=sqlite3.connect("{made[2]}"); c.execute("create table a(b)"); c.commit()\')',
        f"exec('import os; os.mkfifo(\"{made[3]}\")')",
        f'exec(\'import subprocess; subprocess.run(["touch", "{made[4]}"])\')',
    ]
    scores = task.scores(programs, [problem] * len(programs))
    assert all(score < 0.5 for score in scores) and not any(path.exists() for path in made)


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.mkfifo('made')",
        "import _posixsubprocess as p; p.fork_exec(['touch', 'made'], [b'/usr/bin/touch'], *[None] * 20)",
        "import ctypes; ctypes.CDLL(None).mkdir(b'made', 0o700)",
    ],
)
def test_programs_that_ask_nobody_are_kept_from_it_too(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RewardError, match="PermissionError"):
        TimeLimited("builtins:exec", seconds=20, num_workers=1).map([(program,)], late=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "answers",
    [
        [r"\boxed{3}", r"\boxed{3.0}", r"\boxed{x = 3}", "it is 3"],
        [r"\boxed{(x+1)^2}", r"\boxed{x^2+2x+1}"],
        [r"\boxed{\sqrt{8}}", r"\boxed{2\sqrt{2}}"],
        [r"\boxed{Evelyn}", r"\boxed{\text{Evelyn}}"],
    ],
)
def test_what_is_graded_as_equal_is_one_answer_to_a_majority(answers):
    assert len(set(verifiers.build("math").answers_of(answers))) == 1


def test_a_right_answer_may_be_written_as_completions_are():
    verifier = verifiers.build({"name": "regex", "pattern": "#### (.*)"})
    assert verifier.scores(["so #### 32", "so 32"], ["2^5\n#### 32", "32"]) == [1.0, 0.0]


@pytest.mark.parametrize("name", ["prime_factorization", "boxnet", "coin_flip", "game_of_life"])
def test_junk_scores_nothing(name):
    task = tasks.build(f"reasoning-gym/{name}", extract="whole")
    (problem,) = task.problems("train", 1)
    junk = ["I think 7", "2 x 3", "null", "[1, 2]", '{"a": 1}', "1e400", "x" * 5000]
    assert all(score < 0.5 for score in task.scores(junk, [problem] * len(junk)))


def test_packages_are_imported_at_the_top_of_a_module_and_an_error_says_so(tmp_path, monkeypatch):
    imports, uses = "import numpy as np\n", "    return float(np.mean(x))\n"
    (tmp_path / "above.py").write_text(f"{imports}def f(x):\n{uses}")
    (tmp_path / "within.py").write_text(f"def f(x):\n    {imports}{uses}")
    monkeypatch.chdir(tmp_path)
    assert TimeLimited("above:f", seconds=20, num_workers=1).map([([1, 2],)], late=None) == [1.5]
    with pytest.raises(RewardError, match="PermissionError.*import it at the top of the module"):
        TimeLimited("within:f", seconds=20, num_workers=1).map([([1, 2],)], late=None)


def test_what_a_function_prints_is_no_result(tmp_path, monkeypatch):
    (tmp_path / "loud.py").write_text("def f(x):\n    print('{}')\n    return x\n")
    monkeypatch.chdir(tmp_path)
    assert TimeLimited("loud:f", seconds=20, num_workers=1).map([(1,), (2,)], late=None) == [1, 2]


def gym(**options):
    return tasks.build("reasoning-gym/basic_arithmetic", **{"extract": "number"} | options)


def test_problems_of_reasoning_gym_are_scored_by_it():
    task = gym(level=0, instruction="Just the number.")
    problems = task.problems("train", 50)
    assert all(problem["prompt"].endswith("\nJust the number.") for problem in problems)
    right = [f"That is {problem['answer']}." for problem in problems]
    assert task.scores(right, problems) == [1.0] * 50
    assert task.scores(["no idea"] * 50, problems) == [0.0] * 50
    assert problems == gym(level=0, instruction="Just the number.").problems("train", 50)
    tests = {problem["prompt"] for seed in range(3) for problem in task.problems("test", 50, seed)}
    assert not tests & {problem["prompt"] for seed in range(3) for problem in task.problems("train", 500, seed)}


def test_answers_stand_between_tags_unless_said_otherwise():
    task = tasks.build("reasoning-gym/letter_counting", chat=True)
    (problem,) = task.problems("train", 1)
    assert problem["prompt"][0]["role"] == "user" and "<answer>" in problem["prompt"][0]["content"]
    answer = problem["answer"]
    assert task.scores([f"<answer>{answer}</answer>", answer], [problem] * 2) == [1.0, 0.0]
    assert task.answers_of(["<answer>a</answer><answer> b </answer>", "c"]) == ["b", None]


def test_a_curriculum_makes_problems_harder():
    def mean_length(**options):
        problems = gym(**options, instruction="").problems("train", 100)
        return sum(len(problem["prompt"]) for problem in problems) / 100

    assert mean_length(level=0) < mean_length(level=2) < mean_length(level=99)
    assert mean_length(level=0) < mean_length(level={"num_digits": 2}) < mean_length(level=2)
    assert mean_length(level=0, options={"min_terms": 6, "max_terms": 6}) > mean_length(level=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "basic_arithmetics"}, "did you mean 'basic_arithmetic'?"),
        ({"options": {"min_term": 3}}, "did you mean 'min_terms'?"),
        ({"options": {"min_terms": -3}}, "min_terms must be positive"),
        ({"level": {"num_digit": 1}}, "did you mean 'num_digits'?"),
        ({"level": {"num_digits": 99}}, "level of num_digits must be 0 to"),
        ({"level": -1}, "must be 0 to"),
        ({"extract": "tag"}, "did you mean 'tags'?"),
        ({"level": "easy"}, "level: input should be"),
        ({"level": 1.5}, "level: input should be"),
        ({"max_completion_tokens": 0}, "at least 1"),
    ],
)
def test_settings_of_reasoning_gym_are_checked(options, message):
    with pytest.raises((InvalidValueError, UnknownNameError)) as error:
        tasks.build("reasoning-gym", **{"dataset": "basic_arithmetic"} | options)
    assert message in str(error.value)


def test_too_few_problems_are_said_to_be_too_few():
    with pytest.raises(InvalidValueError, match="1000 distinct train problems were asked for"):
        gym(
            options={
                "min_terms": 2,
                "max_terms": 2,
                "max_digits": 1,
                "operators": ["+"],
                "allow_negation": False,
                "allow_parentheses": False,
            }
        ).problems("train", 1000)


@pytest.mark.slow
def test_every_data_set_scores_its_own_answer():
    from reasoning_gym.factory import DATASETS

    for name in sorted(set(DATASETS) - {"composite"}):
        task = ReasoningGym(name, extract="whole")
        problems = [problem for problem in task.problems("train", 2) if problem["answer"]]
        assert task.scores([problem["answer"] for problem in problems], problems) == [1.0] * len(problems), name
