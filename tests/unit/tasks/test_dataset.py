"""Tasks from the user's own data: what becomes of rows, and what is refused by file, row and column."""

import json
from pathlib import Path

import pytest
from support.dataset_files import ROWS, jsonl, prompts, task

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, UnknownNameError

pytestmark = pytest.mark.usefixtures("workplace")


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


def test_a_filter_on_text_of_a_table_is_no_filter_of_nothing():
    lines = [f"{row['question']},{row['answer']},{row['level']}\n" for row in ROWS]
    Path("sums.csv").write_text("question,answer,level\n" + "".join(lines))
    kept = task(train="sums.csv", test_share=0.0, unless={"level": 0}).size("train")
    assert kept == sum(row["level"] != 0 for row in ROWS)
    with pytest.raises(InvalidValueError, match="whose cells are of another type, such as '0'"):
        task(train="sums.csv", unless={"level": True}).size("train")


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


def test_unknown_options_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'test_share'"):
        tasks.build("dataset", train="x.jsonl", testshare=0.1)
    with pytest.raises(InvalidValueError, match="train"):
        tasks.build("dataset")


@pytest.mark.parametrize("name", ["countdown", "additions", "math-500", "reasoning-gym/chain_sum"])
def test_a_name_is_no_option_of_a_task_that_has_one(name):
    with pytest.raises((UnknownNameError, InvalidValueError), match="name"):
        tasks.build(name, **{"name": "x"})


@pytest.mark.parametrize("name", ["dataset", "reasoning-gym/basic_arithmetic"])
def test_answers_without_bound_are_refused(name):
    options = {"train": "x.jsonl"} if name == "dataset" else {}
    with pytest.raises(InvalidValueError, match="at least 1 and at most 1,000,000, got 1000000000000"):
        tasks.build(name, max_completion_tokens=10**12, **options)
