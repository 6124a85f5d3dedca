"""This library's tasks as verl takes them."""

import json
import os

import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from entrocraft.cli import main
from entrocraft.engines.verl.tasks import compute_score, compute_signed_score, write_parquet
from entrocraft.errors import EntrocraftError, InvalidValueError


def rows_of(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def graded(row, completion, function=compute_score):
    return function(row["data_source"], completion, row["reward_model"]["ground_truth"], row["extra_info"])


def numinamath(folder, rows):
    """Rows with the columns of NuminaMath-1.5."""
    usual = {"question_type": "math-word-problem", "problem_is_valid": "Yes", "solution_is_valid": "Yes"}
    path = folder / "numinamath.jsonl"
    path.write_text("".join(json.dumps(usual | row) + "\n" for row in rows))
    return {"name": "numinamath", "train": str(path)}


def test_countdown_is_asked_and_graded(tmp_path):
    about = write_parquet({"name": "countdown"}, "train", 20, tmp_path / "train.parquet")
    rows = rows_of(tmp_path / "train.parquet")
    assert about["written"] == len(rows) == 20
    numbers, target = rows[0]["prompt"][0]["content"].rstrip(":").split("=")
    assert rows[0]["prompt"][0]["role"] == "user"
    truth = json.loads(rows[0]["reward_model"]["ground_truth"])["problem"]
    assert truth["target"] == int(target) and truth["numbers"] == [int(n) for n in numbers.split(",")]
    assert graded(rows[0], "no idea") == 0.0 and graded(rows[0], "no idea", compute_signed_score) == -1.0


def test_what_is_written_is_written_down_and_always_the_same(tmp_path):
    first = write_parquet({"name": "countdown"}, "train", 20, tmp_path / "a.parquet", seed=1)
    again = write_parquet({"name": "countdown"}, "train", 20, tmp_path / "b.parquet", seed=1)
    other = write_parquet({"name": "countdown"}, "train", 20, tmp_path / "c.parquet", seed=2)
    assert first == again and first["sha256"] != other["sha256"]
    kept = pyarrow.parquet.read_schema(tmp_path / "a.parquet").metadata[b"entrocraft"]
    assert json.loads(kept) == first


def test_numinamath_leaves_out_what_cannot_be_graded(tmp_path):
    rows = [{"problem": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(30)]
    rows += [
        {"problem": "Prove it.", "answer": "proof", "question_type": "proof"},
        {"problem": "Choose.", "answer": "A", "question_type": "MCQ"},
        {"problem": "Broken.", "answer": "1", "problem_is_valid": "No"},
        {"problem": "Lost.", "answer": "notfound"},
    ]
    task = numinamath(tmp_path, rows)
    about = write_parquet(task, "train", None, tmp_path / "train.parquet")
    assert about["written"] == 30  # and none is held out: what is tested on is elsewhere
    with pytest.raises(InvalidValueError, match="holds out none of"):
        write_parquet(task, "test", None, tmp_path / "test.parquet")
    row = rows_of(tmp_path / "train.parquet")[0]
    assert "\\boxed{}" in row["prompt"][0]["content"]
    answer = json.loads(row["reward_model"]["ground_truth"])["problem"]["answer"]
    assert graded(row, f"It is \\boxed{{{answer}}}.") == 1.0 and graded(row, "\\boxed{1000}") == 0.0
    assert graded(row, f"It is \\boxed{{{answer}}}.", compute_signed_score) == 1.0


def test_answers_that_would_not_be_graded_as_right_are_left_out(tmp_path):
    rows = [{"problem": f"Number {i}?", "answer": answer} for i, answer in enumerate(["1", "\\frac{1}{2}", "{", "3"])]
    about = write_parquet(numinamath(tmp_path, rows * 5), "train", None, tmp_path / "train.parquet", check_answers=True)
    assert about["left_out_as_not_graded"] > 0
    answers = {
        json.loads(row["reward_model"]["ground_truth"])["problem"]["answer"]
        for row in rows_of(tmp_path / "train.parquet")
    }
    assert answers <= {"1", "\\frac{1}{2}", "3"}


def test_as_many_as_asked_for_are_written_or_it_is_said_why_not(tmp_path):
    answers = ["1", "{", "2", "3", "{", "4"]
    task = numinamath(tmp_path, [{"problem": f"Number {i}?", "answer": answer} for i, answer in enumerate(answers)])
    about = write_parquet(task, "train", 4, tmp_path / "train.parquet", check_answers=True)
    assert about["written"] == 4 and about["left_out_as_not_graded"] == about["looked_at"] - 4
    with pytest.raises(InvalidValueError, match="5 problems were asked for, and of 6 there are 4 left"):
        write_parquet(task, "train", 5, tmp_path / "train.parquet", check_answers=True)
    write_parquet({"name": "countdown"}, "train", 5, tmp_path / "five.parquet")
    about = write_parquet(
        {"name": "countdown"}, "train", 8, tmp_path / "b.parquet", without=[tmp_path / "five.parquet"]
    )
    assert about["written"] == 8 and about["left_out_as_known"] == 5


def test_a_function_that_data_name_is_called_only_if_they_are_trusted(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def score(completions, prompts, **columns):\n"
        "    return [float(c == p) for c, p in zip(completions, prompts)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "echo.jsonl").write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(20)))
    task = {"name": "dataset", "train": str(tmp_path / "echo.jsonl"), "reward": "mine:score"}
    write_parquet(task, "train", 1, tmp_path / "train.parquet")
    row = rows_of(tmp_path / "train.parquet")[0]
    said = row["prompt"][0]["content"]
    with pytest.raises(InvalidValueError, match="own_rewards=true"):
        graded(row, said)
    truth = row["reward_model"]["ground_truth"]
    assert [compute_score("", answer, truth, own_rewards=True) for answer in (said, "no")] == [1.0, 0.0]


def test_what_is_tested_on_is_not_trained_on(tmp_path):
    problems = [{"problem": f"What is {i}?", "answer": str(i)} for i in range(10)]
    (tmp_path / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    write_parquet({"name": "math-500", "test": str(tmp_path / "math.jsonl")}, "test", None, tmp_path / "math.parquet")
    same = [{"problem": "what\nis \u00a03?", "answer": "3"}] + [
        {"problem": f"And {i}?", "answer": str(i)} for i in range(30)
    ]
    task = numinamath(tmp_path, same * 2)
    drawn = write_parquet(task, "train", None, tmp_path / "all.parquet")
    about = write_parquet(task, "train", None, tmp_path / "train.parquet", without=[tmp_path / "math.parquet"])
    assert about["written"] + about["left_out_as_known"] == drawn["written"]
    assert not any(
        "3?" in row["prompt"][0]["content"] and "what" in row["prompt"][0]["content"]
        for row in rows_of(tmp_path / "train.parquet")
    )


def dapo(folder, number=20):
    """A file with the layout of DAPO-Math-17k."""
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": f"Solve it, then write Answer: $Answer.\n\nWhat is {i} + 1?", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(i + 1), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"id-{i}"},
        }
        for i in range(number)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "dapo-math-17k.parquet")
    return {"name": "dataset", "train": str(folder / "dapo-math-17k.parquet")}, rows


def test_verls_own_layout_is_read_and_written_back(tmp_path):
    task, read = dapo(tmp_path)
    about = write_parquet(task, "train", None, tmp_path / "back.parquet", check_answers=True)
    written = rows_of(tmp_path / "back.parquet")
    assert about["written"] == len(written) > 10 and about["left_out_as_not_graded"] == 0
    prompts = [row["prompt"] for row in read]
    assert all(row["prompt"] in prompts for row in written)
    (tmp_path / "dapo-math-17k.parquet").unlink()  # a worker need not have it
    for row in written:
        right = read[prompts.index(row["prompt"])]["reward_model"]["ground_truth"]
        assert [graded(row, f"Answer: {answer}") for answer in (right, "1000")] == [1.0, 0.0]


def test_other_data_for_verl_are_graded_as_mathematics(tmp_path):
    _, read = dapo(tmp_path)
    assert [graded(read[4], completion) for completion in ("Answer: 5", r"\boxed{5}", "6")] == [1.0, 1.0, 0.0]
    assert compute_score("", r"\boxed{x}", "{") == 0.0


def test_files_that_do_not_say_what_grades_them_are_graded_as_they_were():
    truth = {"task": '{"name": "dataset", "train": "nowhere.jsonl"}', "problem": {"answer": "a"}}
    assert [compute_score("", text, json.dumps(truth)) for text in ("a", "b")] == [1.0, 0.0]


def test_nothing_half_written_is_left_behind(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("pyarrow.parquet.write_table", fails)
    with pytest.raises(OSError, match="disk full"):
        write_parquet({"name": "countdown"}, "train", 2, tmp_path / "made" / "train.parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_place_of_a_pipe_or_a_device_is_not_taken(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EntrocraftError, match="cannot write .*pipe: .* a pipe or a device"):
        write_parquet({"name": "countdown"}, "train", 2, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("task", "number", "message"),
    [
        ({"name": "countdwon"}, 3, "did you mean 'countdown'"),
        ({"name": "countdown"}, None, "say how many"),
        ({"name": "countdown", "max_target": "x"}, 3, "max_target"),
    ],
)
def test_what_cannot_be_written_says_why(tmp_path, task, number, message):
    with pytest.raises(EntrocraftError, match=message):
        write_parquet(task, "train", number, tmp_path / "train.parquet")


def test_answers_that_are_not_there_cannot_be_checked(tmp_path):
    with pytest.raises(InvalidValueError, match="has no `answer` to check"):
        write_parquet({"name": "countdown"}, "train", 2, tmp_path / "a.parquet", check_answers=True)


def test_a_file_that_is_no_data_is_named(tmp_path):
    (tmp_path / "no.parquet").write_text("nothing")
    with pytest.raises(InvalidValueError, match="no parquet file with prompts"):
        write_parquet({"name": "countdown"}, "train", 2, tmp_path / "a.parquet", without=[tmp_path / "no.parquet"])


def test_the_command_writes_it(tmp_path):
    arguments = ["verl", "data", "countdown", "max_target=24", "--num-problems", "5", "-o", str(tmp_path / "a.parquet")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["task"] == {"name": "countdown", "max_target": 24}
    result = CliRunner().invoke(main, ["verl", "data", "countdown", "24", "-o", str(tmp_path / "a.parquet")])
    assert result.exit_code == 2 and "max_target=24" in result.output
    for wrong in ("max_target=[", "name=gsm8k"):
        result = CliRunner().invoke(main, ["verl", "data", "countdown", wrong, "-o", str(tmp_path / "a.parquet")])
        assert result.exit_code == 2 and wrong in result.output
