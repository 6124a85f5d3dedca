"""Benchmarks on local samples of the hub's format, and what the hub is asked for."""

import json

import pytest

from entrocraft import tasks
from entrocraft.errors import InvalidValueError
from entrocraft.tasks.benchmarks import BENCHMARKS

# Columns as the data sets on the hub have them, the contents made up.
SAMPLES = {
    "aime-24": {"id": 60, "problem": "What is $2^5$?", "solution": "...", "answer": "032", "url": "", "year": "2024"},
    "aime-25": {"problem": "What is $2^5$?", "answer": "32", "id": "0"},
    "aime-26": {"id": 0, "problem": "What is $2^5$?", "answer": 32},
    "amc-23": {"problem": "What is $2^5$?", "answer": "32.0", "question": "?"},
    "gsm8k": {"question": "What is $2^5$?", "answer": "Two times two <<2*2=4>>4, and so on.\n#### 32"},
    "math-500": {"problem": "What is $2^5$?", "solution": "...", "answer": "\\frac{64}{2}", "subject": "Algebra",
                 "level": 2, "unique_id": "test/algebra/1.json"},
    "numinamath": {"problem": "What is $2^5$?", "solution": "...", "answer": "32", "problem_type": "Algebra",
                   "question_type": "math-word-problem", "source": "olympiads", "synthetic": False,
                   "problem_is_valid": "Yes", "solution_is_valid": "Yes"},
}  # fmt: skip
SPLITS = {name: "train" if benchmark.test is None else "test" for name, benchmark in BENCHMARKS.items()}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_local_copy_is_asked_and_graded_as_the_paper_does(name, tmp_path):
    file = tmp_path / "copy.jsonl"
    file.write_text(json.dumps(SAMPLES[name]) + "\n")
    task = tasks.build(name, **{SPLITS[name]: str(file)})
    (problem,) = task.problems_up_to(SPLITS[name], 200)
    (message,) = problem["prompt"]
    assert message["role"] == "user"
    assert message["content"] == (
        "What is $2^5$? Let's think step by step and output the final answer within \\boxed{}."
    )
    completions = ["2, 4, 8, 16, thus \\boxed{32}.", "\\boxed{2^5}", "It is 32, or \\boxed{16}.", "no"]
    assert task.scores(completions, [problem] * 4) == [1.0, 1.0, 0.0, 0.0]
    assert task.max_completion_tokens == 3072
    assert task.sampling == {"temperature": 0.6, "top_p": 0.95, "top_k": 20}


ON_THE_HUB = {
    "aime-24": ("HuggingFaceH4/aime_2024", None, "train"),
    "aime-25": ("math-ai/aime25", None, "test"),
    "aime-26": ("math-ai/aime26", None, "test"),
    "amc-23": ("knoveleng/AMC-23", None, "train"),
    "gsm8k": ("openai/gsm8k", "main", "test"),
    "math-500": ("HuggingFaceH4/MATH-500", None, "test"),
    "numinamath": ("AI-MO/NuminaMath-1.5", None, "train"),
}


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_the_hub_is_asked_for_the_right_thing(name, monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, config, *, split, revision):
        asked.append((path, config, split))
        return datasets.Dataset.from_list([SAMPLES[name] | {"n": len(asked)}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(tasks.build(name).problems(SPLITS[name], 1)) == 1
    assert asked == [ON_THE_HUB[name]]


def test_of_numinamath_only_what_can_be_graded_is_taken(tmp_path):
    broken = [
        {"question_type": "proof", "answer": "proof"},
        {"question_type": "MCQ", "answer": "B"},
        {"problem_is_valid": "Incomplete"},
        {"solution_is_valid": "No"},
        {"answer": "notfound"},
        {"answer": ""},
    ]
    file = tmp_path / "numinamath.jsonl"
    rows = [SAMPLES["numinamath"] | row | {"problem": f"Number {i}?"} for i, row in enumerate([*broken, {}])]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (problem,) = tasks.build("numinamath", train=str(file)).problems_up_to("train", 99)
    assert problem["prompt"][0]["content"].startswith("Number 6?")
    with pytest.raises(InvalidValueError, match="holds out none of"):
        tasks.build("numinamath", train=str(file)).problems("test", 1)


def test_benchmarks_are_not_trained_on():
    with pytest.raises(InvalidValueError, match="math-500 has no training problems"):
        tasks.build("math-500").problems("train", 1)


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(monkeypatch):
    import datasets

    def load_dataset(*arguments, **options):
        raise ConnectionError("Couldn't reach the hub\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InvalidValueError, match="'math-ai/aime25:test' cannot be loaded: Couldn't reach the hub$"):
        tasks.build("aime-25").problems("test", 1)
