"""Tasks from the user's own data: what becomes of rows, and what is refused by file, row and column."""

import json
import sys
from datetime import date
from pathlib import Path

import pytest

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, RewardError, UnknownNameError
from entrocraft.grading import rewards
from entrocraft.tasks import DatasetTask, dataset

ROWS = [{"question": f"{i} + 1", "answer": i + 1, "level": i % 3} for i in range(40)]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jsonl(name="sums.jsonl", rows=ROWS):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def task(**options):
    return DatasetTask(**{"train": "sums.jsonl", "prompt": "{question}=", "reward": "number"} | options)


def prompts(problems):
    return {problem["prompt"] for problem in problems}


def test_every_format_gives_the_same_problems():
    jsonl()
    Path("sums.json").write_text(json.dumps(ROWS))
    lines = [f"{row['question']},{row['answer']},{row['level']}\n" for row in ROWS]
    Path("sums.csv").write_text("question,answer,level\n" + "".join(lines))
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), "sums.parquet")
    expected = task().problems("train", 10)
    for suffix in ("json", "csv", "parquet"):
        assert task(train=f"sums.{suffix}").problems("train", 10) == expected


def test_a_folder_is_read_by_datasets():
    Path("data").mkdir()
    jsonl("data/train.jsonl", ROWS[:30])
    jsonl("data/test.jsonl", ROWS[30:])
    found = task(train="data", test="data:test")
    assert (found.size("train"), found.size("test")) == (30, 10)


def test_splits_share_no_prompt_and_do_not_depend_on_the_order_of_rows():
    jsonl(rows=[*ROWS, *ROWS])
    train, test = (prompts(task().problems(split, task().size(split))) for split in ("train", "test"))
    assert train and test and not train & test
    jsonl(rows=ROWS[::-1])
    assert prompts(task().problems("test", task().size("test"))) == test


def test_problems_are_drawn_without_repetition_and_again_the_same():
    jsonl()
    first, again, other = (task().problems("train", 20, seed) for seed in (1, 1, 2))
    assert first == again != other and len(prompts(first)) == 20
    assert len(task().problems_up_to("train", 1000)) == task().size("train")
    with pytest.raises(InvalidValueError, match="1000 train problems were asked for, and there are"):
        task().problems("train", 1000)


def test_test_rows_that_are_trained_on_are_warned_of():
    jsonl()
    jsonl("test.jsonl", [ROWS[0], {"question": "new", "answer": 0}])
    both = task(test="test.jsonl")
    both.size("train")
    with pytest.warns(UserWarning, match="1 of the 2 prompts of test.jsonl are in sums.jsonl"):
        both.size("test")
    assert both.size("test") == 2  # once is enough


def test_evaluating_does_not_read_what_is_trained_on():
    jsonl("test.jsonl")
    assert task(train="nowhere.jsonl", test="test.jsonl").size("test") == 40


def test_prompts_become_chats():
    jsonl()
    question = {"role": "user", "content": "0 + 1="}
    system = {"role": "system", "content": "Just the number."}
    for options, expected in (({"chat": True}, [question]), ({"system": "Just the number."}, [system, question])):
        made = task(**options)
        assert expected in [p["prompt"] for split in ("train", "test") for p in made.problems_up_to(split, 99)]
    jsonl("talk.jsonl", [{"talk": [question | {"id": 1}], "answer": 1}])
    jsonl("other.jsonl", [{"talk": "in words", "answer": 1}])
    mixed = task(train="talk.jsonl", test="other.jsonl", prompt="{talk}")
    assert mixed.problems("train", 1) == [{"prompt": [question], "answer": "1"}]
    assert mixed.problems("test", 1) == [{"prompt": "in words", "answer": "1"}]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "'sums.jsonl' is empty"),
        ('{"question": 1}\n{"question"', {}, "sums.jsonl, line 2: not JSON"),
        ("[1]\n", {}, "sums.jsonl, line 1: expected an object of columns, got [1]"),
        ('{"question": "a", "answer": 1}\n{"question": "b"}', {}, "sums.jsonl, row 2: column 'answer' is empty"),
        ('{"question": "", "answer": 1}', {}, "row 1: column 'question' is empty"),
        ('{"question": "a", "answers": 1}', {}, "column of sums.jsonl 'answer': did you mean 'answers'?"),
        ('{"question": ["a"], "answer": 1}', {"prompt": "{question}"}, "must hold text, or messages with a role"),
        ('{"question": "a", "answer": 1}', {}, "leaves no problem to"),
        ('{"question": "a", "answer": 1}', {"train": "there.jsonl"}, "'there.jsonl': there is no such file"),
        ('{"question": "a", "answer": 1}', {"train": "there.txt"}, "'there.txt': there is no such file"),
        ('{"question": "a", "answer": 1}', {"train": "there"}, "expected a .csv, .json, .jsonl, .parquet or .tsv file"),
        ('{"question": "a", "answer": 1}', {"test": "sums.jsonl", "prompt": "{q}="}, "column of sums.jsonl 'q'"),
        ('{"question": "  ", "answer": 1}', {}, "row 1: column 'question' is empty"),
        ('{"question": "a", "answer": "none"}', {}, "row 1: column 'answer' holds no answer that reward can find"),
        ('{"question": "a", "answer": [1]}', {}, "row 1: column 'answer' must hold text or a number, got [1]"),
        ('{"question": "a", "answer": NaN}', {}, "must hold text or a number, got nan"),
        ('{"question": "a", "answer": true}', {}, "must hold text or a number, got True"),
        ('{"question": [], "answer": 1}', {"prompt": "{question}"}, "must hold text, or messages"),
        ('{"question": [{"role": "user", "content": null}], "answer": 1}', {"prompt": "{question}"}, "both text"),
        (
            '{"question": "a", "answer": 1}\n{"question": [{"role": "user", "content": "b"}], "answer": 1}',
            {"prompt": "{question}"},
            "text and chats are mixed: row 1 is one, row 2 the other",
        ),
        ("[" * 100_000, {}, "line 1: not JSON"),
        ('{"question": "\\ud800", "answer": 1}', {}, "row 1: the prompt is no Unicode text"),
    ],
)
def test_data_that_cannot_be_used_are_named(content, options, message):
    Path("sums.jsonl").write_text(content)
    with pytest.raises((InvalidValueError, UnknownNameError)) as error:
        task(**options).problems("train", 1)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "maths"}, "did you mean 'math'?"),
        ({"reward": {"name": "regex"}}, "pattern"),
        ({"reward": {"name": "regex", "pattern": "("}}, "no regular expression"),
        ({"reward": "nowhere:reward"}, "cannot import nowhere"),
        ({"reward": "math:sqr"}, "did you mean 'sqrt'?"),
        ({"reward": "math:pi"}, "is no function"),
        ({"reward": "a b:"}, "expected package.module:name"),
        ({"prompt": "no column"}, "names no column in braces"),
        ({"prompt": "{question"}, "cannot be read"),
        ({"test_share": 1.0}, "test_share must be at least 0 and less than 1"),
        ({"max_completion_tokens": 0}, "at least 1"),
        ({"prompt": "{question:.2f}"}, "take the name of a column and nothing else"),
        ({"prompt": "{question!r}"}, "take the name of a column and nothing else"),
        ({"prompt": "{question.__class__}"}, "take the name of a column and nothing else"),
        ({"train": None}, "say where the data are"),
        ({"train": 5}, "train: input should be a valid string, got 5"),
        ({"answer": ["a"]}, "answer: input should be a valid string"),
        ({"reward": {"name": ["math"]}}, "unknown reward"),
        ({"reward": {"name": "math", "seconds": "5"}}, "seconds: input should be a valid number"),
        ({"reward": {"name": "regex", "pattern": "a", "flags": 1}}, "unknown option of reward 'regex' 'flags'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_data_are_read(options, message):
    with pytest.raises((InvalidValueError, UnknownNameError)) as error:
        tasks.build("dataset", **{"train": "sums.jsonl", "prompt": "{question}=", "reward": "number"} | options)
    assert message in str(error.value)


def test_files_are_read_as_their_formats_say():
    Path("odd.jsonl").write_bytes(
        '\ufeff{"question": "a\u2028b\x85", "answer": 1}\r\n\n{"question": "c", "answer": 2}'.encode()
    )
    both = task(train="odd.jsonl", test="odd.jsonl")
    assert prompts(both.problems_up_to("train", 9)) == {"a\u2028b\x85=", "c="}
    Path("latin.csv").write_bytes("question,answer\ncaf\xe9,1\n".encode("latin-1"))
    Path("twice.csv").write_text("question,answer,answer\na,1,2\n")
    Path("quote.csv").write_text('question,answer\n"a,1\n')
    Path("short.csv").write_text("question,answer\na\n")
    for name, message in (
        ("latin", "is not UTF-8"),
        ("twice", "two columns are called 'answer'"),
        ("quote", "not CSV"),
        ("short", "row 1: it has not as many cells"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            task(train=f"{name}.csv").size("train")


def test_right_answers_are_text_of_one_shape():
    jsonl(rows=[{"question": str(i), "answer": answer} for i, answer in enumerate([12.0, 12, "12", " 12 "] * 9)])
    answers = {problem["answer"] for problem in task(reward="exact").problems_up_to("train", 99)}
    assert answers == {"12", " 12 "}


def test_unknown_options_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'test_share'"):
        tasks.build("dataset", train="x.jsonl", testshare=0.1)
    with pytest.raises(InvalidValueError, match="train"):
        tasks.build("dataset")


OWN = """
import time

import numpy as np

def by_level(completions, level, log_metric, trainer_state, **columns):
    log_metric("seen", len(completions))
    said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [len(text) + n for text, n in zip(said, level)]

def raises(completions, level, **columns):
    return [1 / n for n in level]

def none(completions, **columns):
    return [None if completion == "b" else 1 for completion in completions]

def short(completions, **columns):
    return [1.0]

def number(completions, **columns):
    return 1.0

def lazy(completions, **columns):
    return (int(completion) for completion in completions)

def huge(completions, **columns):
    return [10**400 for _ in completions]

def hangs(completions, **columns):
    while "b" in completions: pass
    return [np.float32(len(c)) for c in completions]

def slow(completions, **columns):
    time.sleep(1)
    return [1.0]
"""


@pytest.fixture
def own(monkeypatch):
    Path("own_rewards.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "own_rewards", raising=False)
    jsonl()
    return lambda name, **options: task(reward=f"own_rewards:{name}", **options)


def test_a_reward_of_the_users_own_is_given_all_columns_as_trl_gives_them(own):
    problems = [{"prompt": "p", "level": 5}, {"prompt": "q", "level": 1}]
    assert own("by_level").scores(["abc", ""], problems) == [8.0, 1.0]
    assert own("by_level").problems("train", 1)[0].keys() == {"prompt", "question", "answer", "level"}
    in_chat = [{"prompt": [{"role": "user", "content": "p"}], "level": 5}]
    assert own("by_level", chat=True).scores(["abc"], in_chat) == [8.0]
    trl = {"prompts": ["p"], "level": [5], "trainer_state": object(), "log_metric": lambda name, value: None}
    assert own("by_level").reward(["abc"], **trl) == [8.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raised on sample 3 of 3: prompt 'r', completion 'c': ZeroDivisionError: division by zero"),
        ("none", "must return finite numbers, got None for sample 2 of 3: prompt 'q', completion 'b'"),
        ("short", "must return one number per completion, got 1 for 3"),
        ("number", "must return a list of numbers, got 1.0"),
        ("lazy", "raised on sample 1 of 3: prompt 'p', completion 'a': ValueError: invalid literal"),
        ("huge", "must return finite numbers"),
    ],
)
def test_what_a_reward_does_amiss_is_said_with_the_sample(own, name, message):
    problems = [{"prompt": p, "level": n} for p, n in (("p", 2), ("q", 1), ("r", 0))]
    with pytest.raises(RewardError) as error:
        own(name).scores(["a", "b", "c"], problems)
    assert message in str(error.value)


def test_rows_are_chosen_by_what_their_columns_hold():
    jsonl(rows=[{"question": str(i), "answer": i, "level": i % 3, "kind": "ab"[i % 2]} for i in range(60)])
    chosen = task(where={"level": [1, 2]}, unless={"kind": "b"}, test_share=0.0).problems_up_to("train", 99)
    assert {int(problem["answer"]) for problem in chosen} == {i for i in range(60) if i % 3 and not i % 2}
    for options, message in (
        ({"where": {"levle": 1}}, "did you mean 'level'"),
        ({"where": {"level": 9}}, "none of 60 rows is what"),
        ({"unless": "b"}, "unless expects columns and their values"),
    ):
        with pytest.raises((InvalidValueError, UnknownNameError), match=message):
            task(**options).problems_up_to("train", 1)


def test_a_reward_that_hangs_on_one_completion_scores_it_zero_and_goes_on(own):
    limited = task(reward={"name": "own_rewards:hangs", "seconds": 2})
    problems = [{"prompt": p, "level": 1} for p in "pqr"]
    with pytest.warns(UserWarning, match=r"own_rewards:hangs took more than 2 s.*'completions': \['b'\]"):
        assert limited.scores(["a", "b", "ccc"], problems) == [1.0, 0.0, 3.0]
    logged = {}
    trl = {"prompts": ["p"], "level": [1], "trainer_state": object(), "log_metric": logged.__setitem__}
    assert limited.reward(["abcd"], **trl) == [4.0]
    assert logged["entrocraft/late_graders"] == 0.0  # of this call; that of another was late
    assert limited.reward(["b", "abc"], **trl | {"prompts": ["p", "q"], "level": [1, 1]}) == [0.0, 3.0]
    assert logged["entrocraft/late_graders"] == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"own_rewards:raises raised ZeroDivisionError: division by zero on \{'completions': \['c'\]"),
        (
            "none",
            r"must return a list of one finite number for one completion, got \[None\] for sample 2 of 3: prompt 'q'",
        ),
        ("number", "must return a list of one finite number for one completion, got 1.0 for sample 1 of 3"),
    ],
)
def test_what_a_limited_reward_does_amiss_is_said_with_the_sample(own, name, message):
    limited = task(reward={"name": f"own_rewards:{name}", "seconds": 20})
    problems = [{"prompt": p, "level": n} for p, n in (("p", 2), ("q", 1), ("r", 0))]
    with pytest.raises(RewardError, match=message):
        limited.scores(["a", "b", "c"], problems)


def test_a_limited_reward_is_given_what_json_can_hold(own):
    limited = task(reward={"name": "own_rewards:hangs", "seconds": 20})
    with pytest.raises(RewardError, match=r"column 'day' is more \(Object of type date is not JSON serializable\)"):
        limited.scores(["a"], [{"prompt": "p", "day": date(2026, 1, 1)}])


def test_options_of_a_reward_are_checked(own):
    with pytest.raises(UnknownNameError, match="did you mean 'seconds'"):
        task(reward={"name": "own_rewards:hangs", "second": 20})
    with pytest.raises(InvalidValueError, match="seconds must be positive and finite, got 0"):
        task(reward={"name": "own_rewards:hangs", "seconds": 0.0})


def test_a_reward_without_a_limit_that_takes_long_is_said_to(own, monkeypatch):
    monkeypatch.setattr(rewards, "_PATIENCE_SECONDS", 0.05)
    with pytest.warns(
        UserWarning, match=r"'own_rewards:slow' has been at work for 0.05 s on 1 completions.*prompt 'p'"
    ):
        assert own("slow").scores(["a"], [{"prompt": "p", "level": 1}]) == [1.0]


@pytest.mark.parametrize(("value", "answer"), [(b"12", "12"), (0.1, "0.1"), (1e-7, "0.0000001"), (12.0, "12")])
def test_right_answers_are_what_they_look_like(value, answer):
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.float32() if isinstance(value, float) else None
    answers = pyarrow.array([value] * 20, kind)
    pyarrow.parquet.write_table(
        pyarrow.table({"question": [str(i) for i in range(20)], "answer": answers}), "a.parquet"
    )
    assert task(train="a.parquet", test_share=0.0).problems("train", 1)[0]["answer"] == answer


@pytest.mark.parametrize("answer", ["3/4", "2:30", "1 000", "3,14", "10^3", "\ud83d", float("inf"), {"a": 1}])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_right_answers_that_would_be_read_as_another_are_refused(answer):
    jsonl(rows=[{"question": "q", "answer": answer}])
    with pytest.raises(InvalidValueError, match=r"sums.jsonl, row 1: column 'answer' "):
        task().problems("train", 1)


def test_columns_of_a_reward_of_ones_own_are_unicode(own):
    jsonl(rows=[{"question": str(i), "answer": i, "more": ["\ud83d"]} for i in range(20)])
    with pytest.raises(InvalidValueError, match="row 1: column 'more' is no Unicode text"):
        own("by_level").problems("train", 1)


def test_a_filter_on_text_of_a_table_is_no_filter_of_nothing():
    lines = [f"{row['question']},{row['answer']},{row['level']}\n" for row in ROWS]
    Path("sums.csv").write_text("question,answer,level\n" + "".join(lines))
    kept = task(train="sums.csv", test_share=0.0, unless={"level": 0}).size("train")
    assert kept == sum(row["level"] != 0 for row in ROWS)
    with pytest.raises(InvalidValueError, match="whose cells are of another type, such as '0'"):
        task(train="sums.csv", unless={"level": True}).size("train")


def verl_rows(number=40, **other):
    """Rows as DAPO-Math-17k has them."""
    said = "Solve it. The last line of your response should be of the form Answer: $Answer.\n\nWhat is {} + 1?"
    return [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": said.format(i), "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(i + 1), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"id-{i}"},
        }
        | other
        for i in range(number)
    ]


def parquet(rows, name="dapo-math-17k.parquet"):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), name)
    return name


def test_verls_layout_is_read_as_it_is():
    made = tasks.build("dataset", train=parquet(verl_rows()))
    (problem,) = made.problems("train", 1)
    assert problem["prompt"][0]["role"] == "user" and problem["prompt"][0]["content"].startswith("Solve it.")
    right = problem["answer"]
    completions = [f"So it is.\nAnswer: {right}", rf"\boxed{{{right}}}", "Answer: 1000"]
    assert made.scores(completions, [problem] * 3) == [1.0, 1.0, 0.0]
    assert made.decided == {"answer": "reward_model.ground_truth", "reward": "math"}
    jsonl("verl.jsonl", verl_rows())
    assert tasks.build("dataset", train="verl.jsonl").size("train") == made.size("train")


def test_copies_of_rows_are_left_out_of_large_data_and_counted(monkeypatch):
    monkeypatch.setattr(dataset, "MANY_ROWS", 100)
    plain = tasks.build("dataset", train=parquet(verl_rows(40)), test_share=0.0)
    large = tasks.build("dataset", train=parquet(verl_rows(40) * 3, "large.parquet"), test_share=0.0)
    with pytest.warns(UserWarning, match="80 of the 120 rows of large.parquet are exact copies of others and are left"):
        assert large.problems("train", 40) == plain.problems("train", 40)
    assert large.place_of(large.problems("train", 40)[0]).startswith("large.parquet, row ")
    rows = verl_rows(40) * 3 + [verl_rows(1)[0] | {"reward_model": {"ground_truth": "", "style": ""}}]
    with (
        pytest.warns(UserWarning, match="exact copies"),
        pytest.raises(InvalidValueError, match=r"row 121: column 'reward_model.ground_truth' is empty"),
    ):
        tasks.build("dataset", train=parquet(rows)).size("train")


@pytest.mark.filterwarnings("error")
def test_copies_stay_in_data_that_a_person_may_have_weighed(monkeypatch):
    monkeypatch.setattr(dataset, "MANY_ROWS", 100)
    assert task(train=jsonl(rows=ROWS * 2), test_share=0.0).size("train") == 80
    told_apart = [row | {"copy": i // len(ROWS)} for i, row in enumerate(ROWS * 3)]
    assert task(train=jsonl(rows=told_apart), test_share=0.0).size("train") == 120


def test_dotted_columns_may_be_named():
    source = parquet(verl_rows())
    made = DatasetTask(
        train=source,
        answer="reward_model.ground_truth",
        reward="number",
        prompt="{ability} {extra_info.index}",
        where={"extra_info.index": ["id-3", "id-4"]},
        test_share=0.0,
    )
    assert made.problems("train", 2) in (
        [{"prompt": f"MATH id-{i}", "answer": str(i + 1)} for i in order] for order in ((3, 4), (4, 3))
    )
    with pytest.raises(UnknownNameError, match=r"did you mean 'reward_model.ground_truth'"):
        DatasetTask(train=source, answer="reward_model.truth").size("train")


def test_what_verl_grades_by_running_code_is_not_graded_as_mathematics():
    with pytest.raises(InvalidValueError, match="graded by running code.*`reward` of your own"):
        tasks.build("dataset", train=parquet(verl_rows(data_source="taco"))).size("train")
    with pytest.raises(InvalidValueError, match="written by `entrocraft verl data`.*name the task 'countdown'"):
        rows = verl_rows(data_source="entrocraft/countdown", reward_model={"ground_truth": "{}"})
        tasks.build("dataset", train=parquet(rows)).size("train")


def test_verls_layout_is_known_by_its_ground_truth():
    rows = verl_rows(prompt="1 + 1?")
    assert tasks.build("dataset", train=parquet(rows), test_share=0.0).problems("train", 1)[0]["prompt"] == "1 + 1?"
    rows[0]["reward_model"] = {"ground_truth": None, "style": "rule"}
    with pytest.raises(InvalidValueError, match=r"row 1: column 'reward_model.ground_truth' is empty"):
        tasks.build("dataset", train=parquet(rows)).size("train")
    both = [row | {"answer": "2"} for row in verl_rows(4, prompt="1 + 1?")]
    plain = tasks.build("dataset", train=parquet(both), test_share=0.0)
    assert plain.problems("train", 1)[0]["answer"] == "2" and plain.decided["reward"] == "exact"


@pytest.mark.parametrize("name", ["countdown", "additions", "math-500", "reasoning-gym/chain_sum"])
def test_a_name_is_no_option_of_a_task_that_has_one(name):
    with pytest.raises((UnknownNameError, InvalidValueError), match="name"):
        tasks.build(name, **{"name": "x"})


def test_layouts_that_would_be_graded_unlike_are_refused():
    jsonl("plain.jsonl", [{"prompt": str(i), "answer": i} for i in range(9)])
    mixed = tasks.build("dataset", train=parquet(verl_rows()), test="plain.jsonl")
    mixed.size("train")
    with pytest.raises(InvalidValueError, match="of different layouts.*give `reward`"):
        mixed.size("test")


@pytest.mark.parametrize("name", ["dataset", "reasoning-gym/basic_arithmetic"])
def test_answers_without_bound_are_refused(name):
    options = {"train": "x.jsonl"} if name == "dataset" else {}
    with pytest.raises(InvalidValueError, match="at least 1 and at most 1,000,000, got 1000000000000"):
        tasks.build(name, max_completion_tokens=10**12, **options)
