"""Data in verl's layout are read as they are: their answers, their copies, their columns with dots."""

import pytest
from support.dataset_files import ROWS, jsonl, parquet, task

from entrocraft import tasks
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.tasks import DatasetTask, dataset

pytestmark = pytest.mark.usefixtures("workplace")


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


def test_verls_layout_is_known_by_its_ground_truth():
    rows = verl_rows(prompt="1 + 1?")
    assert tasks.build("dataset", train=parquet(rows), test_share=0.0).problems("train", 1)[0]["prompt"] == "1 + 1?"
    rows[0]["reward_model"] = {"ground_truth": None, "style": "rule"}
    with pytest.raises(InvalidValueError, match=r"row 1: column 'reward_model.ground_truth' is empty"):
        tasks.build("dataset", train=parquet(rows)).size("train")
    both = [row | {"answer": "2"} for row in verl_rows(4, prompt="1 + 1?")]
    plain = tasks.build("dataset", train=parquet(both), test_share=0.0)
    assert plain.problems("train", 1)[0]["answer"] == "2" and plain.decided["reward"] == "exact"


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


def test_layouts_that_would_be_graded_unlike_are_refused():
    jsonl("plain.jsonl", [{"prompt": str(i), "answer": i} for i in range(9)])
    mixed = tasks.build("dataset", train=parquet(verl_rows()), test="plain.jsonl")
    mixed.size("train")
    with pytest.raises(InvalidValueError, match="of different layouts.*give `reward`"):
        mixed.size("test")
