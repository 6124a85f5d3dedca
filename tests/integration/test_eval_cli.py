"""`entrocraft eval`: figures that can be recomputed from the samples it keeps, resumption, comparison, vLLM."""

import json
import math
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from filelock import FileLock
from support.commands import run_command

from entrocraft.errors import InvalidValueError
from entrocraft.evaluation.measures import differences
from entrocraft.models import load_model, load_tokenizer
from entrocraft.models.prompts import check_prompts
from entrocraft.reports.evaluation import _short_names
from entrocraft.tasks.countdown import Countdown, parse_expression

ARGUMENTS = ("eval", "countdown-base", "--task", "countdown", "--num-problems", 6, "--num-samples", 4, "--k", "1,2,4")
SAMPLES = Path("out/countdown-base/samples.jsonl")


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, exit_code=0):
        result = run_command(*arguments)
        assert result.exit_code == exit_code, result.output
        return result

    return run


def solves(line):
    """Return whether Python's own arithmetic agrees that a completion solves its problem."""
    numbers, target = line["prompt"].rstrip(":").split("=")
    text = line["completion"]
    used = sorted("".join(c if c.isdigit() else " " for c in text).split())
    if used != sorted(numbers.split(",")):
        return False
    try:
        parse_expression(text)  # nothing but arithmetic may reach the next line
        return eval(text) == int(target)
    except (ArithmeticError, SyntaxError, ValueError):
        return False


def test_scores_can_be_recomputed_from_the_samples(cli):
    cli(*ARGUMENTS, "--output", "out", "--batch-size", 7)
    lines = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    assert [line["problem"] for line in lines] == [i for i in range(6) for _ in range(4)]
    right = [solves(line) for line in lines]
    assert right == [line["score"] == 1.0 for line in lines] and 0 < sum(right) < 24
    scores = json.loads(Path("out/scores.json").read_text())["scores"]["countdown-base"]
    groups = [range(i, i + 4) for i in range(0, 24, 4)]
    assert scores["mean@4"] == pytest.approx(sum(right) / 24)
    pairs = [any(right[i] for i in pair) for group in groups for pair in combinations(group, 2)]
    assert scores["pass@2"] == pytest.approx(sum(pairs) / len(pairs))
    assert scores["pass@4"] == pytest.approx(sum(any(right[i] for i in group) for group in groups) / 6)
    assert scores["distinct@4"] == sum(len({lines[i]["completion"] for i in group}) for group in groups) / 6
    votes = 0.0
    for group in groups:
        counts = Counter(lines[i]["completion"] for i in group)
        first = [text for text, count in counts.items() if count == max(counts.values())]
        votes += sum(solves(lines[group[0]] | {"completion": text}) for text in first) / len(first) / 6
    assert scores["majority@4"] == pytest.approx(votes)
    assert scores["length"] == pytest.approx(sum(line["num_tokens"] for line in lines) / 24)
    assert Path("out/pass_at_k.png").read_bytes().startswith(b"\x89PNG")
    assert "majority@4" in Path("out/report.txt").read_text()


def test_samples_of_a_model_are_not_taken_for_those_of_another_in_its_place(cli):
    model = load_model("countdown-base")
    model.save_pretrained("mine")
    load_tokenizer("countdown-base").save_pretrained("mine")
    arguments = ("eval", "mine", *ARGUMENTS[2:], "--output", "out")
    report = cli(*arguments).stdout
    assert cli(*arguments).stdout == report
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)
    model.save_pretrained("mine")
    assert "holds samples made with weights" in cli(*arguments, exit_code=2).stderr


def test_entropies_are_those_of_a_pass_without_padding(cli):
    cli(*ARGUMENTS, "--output", "out", "--temperature", 0.7, "--top-p", 0.9)
    model, tokenizer = load_model("countdown-base"), load_tokenizer("countdown-base")
    for line in map(json.loads, SAMPLES.read_text().splitlines()):
        prompt, completion = (tokenizer(line[name])["input_ids"] for name in ("prompt", "completion"))
        completion += [] if line["truncated"] else [tokenizer.eos_token_id]
        assert len(completion) == line["num_tokens"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        log_probs = (logits / 0.7).log_softmax(-1)
        assert line["entropy"] == pytest.approx(-(log_probs.exp() * log_probs).sum().item(), abs=1e-3)


@pytest.mark.slow
def test_what_was_interrupted_goes_on_to_the_same_samples(cli):
    cli(*ARGUMENTS, "--output", "out", "--batch-size", 5)
    whole = SAMPLES.read_text()
    SAMPLES.write_text(whole[: len(whole) // 2])  # in the middle of a line, of a batch, of a problem
    cli(*ARGUMENTS, "--output", "out", "--batch-size", 5)
    assert SAMPLES.read_text() == whole
    before = SAMPLES.stat().st_mtime_ns
    cli(*ARGUMENTS, "--output", "out", "--batch-size", 5)
    assert SAMPLES.stat().st_mtime_ns == before
    refused = cli(*ARGUMENTS, "--output", "out", "--batch-size", 5, "--temperature", 0.5, exit_code=2)
    assert "made with temperature 1.0, not 0.5" in refused.stderr
    SAMPLES.write_text("".join(whole.splitlines(keepends=True)[::-1]))
    refused = cli(*ARGUMENTS, "--output", "out", "--batch-size", 5, exit_code=2)
    assert "out of order" in refused.stderr
    with FileLock(SAMPLES.parent / ".lock"):
        refused = cli(*ARGUMENTS, "--output", "out", "--batch-size", 5, exit_code=2)
    assert "in use by another process" in refused.stderr


def test_a_task_that_has_changed_is_another_task(cli):
    Path("own.yaml").write_text("task: {name: countdown, options: {max_target: 50}}")
    arguments = ("eval", "countdown-base", "--task", "own.yaml", "--num-problems", 2, "--num-samples", 2, "--k", 1)
    cli(*arguments, "--output", "out")
    cli(*arguments, "--output", "out")
    Path("own.yaml").write_text("task: {name: countdown, options: {max_target: 60}}")
    assert "holds samples made with problems" in cli(*arguments, "--output", "out", exit_code=2).stderr


def test_scores_of_a_reward_that_has_changed_are_not_gone_on_with(cli, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("problems.jsonl").write_text('{"prompt": "1,2,3,4=5:"}\n' * 2)
    Path("marking.py").write_text("def marked(completions, **columns):\n    return [1.0] * len(completions)\n")
    options = "{test: problems.jsonl, reward: 'marking:marked', max_completion_tokens: 4}"
    Path("own.yaml").write_text(f"task: {{name: dataset, options: {options}}}")
    arguments = ("eval", "countdown-base", "--task", "own.yaml", "--num-samples", 2, "--k", 1, "--output", "out")
    cli(*arguments)
    cli(*arguments)
    Path("marking.py").write_text("def marked(completions, **columns):\n    return [0.0] * len(completions)\n")
    assert "holds samples made with marking.py" in cli(*arguments, exit_code=2).stderr


def test_a_models_own_settings_of_generation_change_no_score(cli):
    model = load_model("countdown-base")
    model.save_pretrained("plain")
    model.generation_config.repetition_penalty = 1.7
    model.generation_config.no_repeat_ngram_size = 1
    model.save_pretrained("penalised")
    for name in ("plain", "penalised"):
        load_tokenizer("countdown-base").save_pretrained(name)
        cli("eval", name, *ARGUMENTS[2:], "--output", "out")
    assert Path("out/plain/samples.jsonl").read_text() == Path("out/penalised/samples.jsonl").read_text()


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_prompts_that_the_model_cannot_read_are_refused(cli, command):
    Path("words.jsonl").write_text("".join(json.dumps({"q": f"{i} apples", "answer": i}) + "\n" for i in range(9)))
    options = "{train: words.jsonl, test: words.jsonl, prompt: '{q}'}"
    Path("words.yaml").write_text(f"task: {{name: dataset, options: {options}}}")
    refused = cli(
        command,
        "countdown-base",
        "--task",
        "words.yaml",
        *(["--num-prompts", 2] if command == "diagnose" else []),
        exit_code=2,
    )
    assert "the tokenizer cannot read the prompt" in refused.stderr


def test_a_template_that_refuses_a_chat_is_named():
    tokenizer = load_tokenizer("countdown-base")
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    problems = [{"prompt": [{"role": "system", "content": "1"}, {"role": "user", "content": "2"}]}]
    message = "a problem of countdown: the chat template refuses .*System role not supported"
    with pytest.raises(InvalidValueError, match=message):
        check_prompts(Countdown(), problems, tokenizer, None, 10)


@pytest.mark.slow
def test_models_are_compared_problem_by_problem(cli):
    load_model("countdown-base").save_pretrained("copy")
    load_tokenizer("countdown-base").save_pretrained("copy")
    result = cli("eval", "countdown-base", "copy", *ARGUMENTS[2:], "--output", "out")
    assert "minus countdown-base, problem by problem" in result.output
    differences = json.loads(Path("out/scores.json").read_text())["differences"]["copy"]
    assert differences["mean@4"] == differences["mean@4/low"] == differences["mean@4/high"] == 0.0
    # Another model joins later; what was drawn is not drawn again.
    before = SAMPLES.stat().st_mtime_ns
    cli("eval", "countdown-base", "copy", "./copy", *ARGUMENTS[2:], "--output", "out")
    assert SAMPLES.stat().st_mtime_ns == before and len(list(Path("out").glob("*/samples.jsonl"))) == 3


class FakeLLM:
    """Answers as vLLM's `LLM` does; what it was asked is kept."""

    asked: list = []  # noqa: RUF012

    def __init__(self, model):
        self.model = model

    def generate(self, prompts, parameters, use_tqdm):
        FakeLLM.asked += zip(prompts, parameters, strict=True)
        completion = SimpleNamespace(text="1+1", token_ids=[1, 2, 3, 4], finish_reason="length")
        return [SimpleNamespace(outputs=[completion]) for _ in prompts]


def test_the_difference_is_by_how_much_the_second_exceeds_the_first():
    first, second = {"pass@1": [0.0, 0.5, 0.25]}, {"pass@1": [0.5, 1.0, 0.75]}
    assert differences(first, second) == {"pass@1": 0.5, "pass@1/low": 0.5, "pass@1/high": 0.5}


@pytest.mark.parametrize("content", ["{", "[1]", "1"])
def test_settings_that_are_damaged_are_said_so(cli, content):
    folder = Path("out/countdown-base")
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(content)
    assert "settings.json is damaged" in cli(*ARGUMENTS, "--output", "out", exit_code=2).stderr


def test_a_name_that_a_number_would_make_twice_is_counted_on(cli):
    assert _short_names(["a-2", "a", "a", "A"]) == ["a-2", "a", "a-3", "A-4"]


def test_a_task_must_be_named_to_be_solved(cli):
    Path("none.yaml").write_text("seed: 1")
    assert "has no task section" in cli("eval", "countdown-base", "--task", "none.yaml", exit_code=2).stderr
    assert (
        "unknown task 'countdown/typo'" in cli("eval", "countdown-base", "--task", "countdown/typo", exit_code=2).stderr
    )
    Path("file").touch()
    assert "--output names a folder" in cli(*ARGUMENTS, "--output", "file", exit_code=2).stderr


def test_the_prompt_that_cannot_be_read_is_the_one_that_is_named():
    tokenizer = load_tokenizer("countdown-base")
    with pytest.raises(InvalidValueError, match="cannot read the prompt 'é'"):
        check_prompts(Countdown(), [{"prompt": "1+2"}, {"prompt": "é"}], tokenizer, None, 1)


def test_vllm_is_asked_for_the_same(cli, monkeypatch):
    fake = ModuleType("vllm")
    fake.__spec__ = SimpleNamespace(name="vllm")
    fake.LLM, fake.SamplingParams = FakeLLM, lambda **parameters: parameters
    monkeypatch.setitem(sys.modules, "vllm", fake)
    result = cli(*ARGUMENTS, "--backend", "vllm", "--output", "out", "--top-p", 0.9)
    assert "truncated    1.000" in result.output and "entropy" not in result.output
    assert len(FakeLLM.asked) == 24
    prompt, parameters = FakeLLM.asked[0]
    assert load_tokenizer("countdown-base").decode(prompt["prompt_token_ids"]).endswith(":")
    assert parameters["top_p"] == 0.9 and parameters["top_k"] == -1
    assert len({parameters["seed"] for _, parameters in FakeLLM.asked}) == 24
    assert all(
        math.isfinite(value)
        for value in json.loads(Path("out/scores.json").read_text())["scores"]["countdown-base"].values()
    )
