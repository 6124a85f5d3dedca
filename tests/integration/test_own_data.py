"""A user's own data, reward, adapter: from the documented example to errors that say what to do."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.commands import run_command

from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model, resolve_model
from entrocraft.runs import RunDirectory

DOCS = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()


def documented(language, beginning):
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL) if code.startswith(beginning)]
    return found


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Return a function that runs a command in a folder that holds the example of docs/tasks.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    Path("problems.jsonl").write_text(documented("json", '{"numbers"'))
    Path("my_rewards.py").write_text(documented("python", "from entrocraft.errors"))
    Path("own.yaml").write_text(documented("yaml", "model: countdown-base"))
    yield run_command
    sys.modules.pop("my_rewards", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_the_documented_example_trains_evaluates_and_is_diagnosed(cli):
    result = cli("train", "own.yaml", "train.steps=2", "train.save_every=2", "eval={num_samples: 2, k: [1]}")
    assert result.exit_code == 0, result.output
    lines = RunDirectory(Path("runs/own")).step_metrics()
    assert len(lines) == 2 and 0.0 < lines[0]["reward"] < 1.0
    for command in (
        ["eval", "runs/own", "--num-problems", 2, "--num-samples", 2, "--k", 1],
        ["eval", "countdown-base", "--task", "own.yaml", "--num-problems", 2, "--num-samples", 2, "--k", 1],
        ["diagnose", "countdown-base", "--task", "own.yaml"],
    ):
        result = cli(*command)
        assert result.exit_code == 0, result.output
    assert "dataset has 6 problems to train on, fewer than 32: all are taken" in result.stderr
    assert "6 prompts x 8 rollouts" in result.output
    Path("problems.jsonl").write_text('{"numbers": "4,6,1,9", "target": 24}\n')
    result = cli(*command)
    assert result.exit_code == 2 and "has 1 problem to train on" in result.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_nested_columns_are_the_same_in_training_and_in_evaluation(cli):
    rows = [{"numbers": "1,2,3,4", "target": 10 + i, "more": {"a": i} if i % 2 else {"b": [i]}} for i in range(6)]
    Path("problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("my_rewards.py").write_text(
        "def near(completions, more, **columns):\n"
        "    assert all(m.keys() == {'a', 'b'} for m in more), more\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    result = cli("train", "own.yaml", "train.steps=1", "train.save_every=1", "eval={num_samples: 2, k: [1]}")
    assert result.exit_code == 0, result.output
    Path("problems.jsonl").write_text(json.dumps(rows[0] | {"more": 1}) + "\n" + json.dumps(rows[1]) + "\n")
    result = cli("train", "own.yaml", "--dry-run")
    assert result.exit_code == 2 and "do not each hold values of one type" in result.stderr


def test_adapters_come_as_safetensors_or_not_at_all(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "countdown-base"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(InvalidValueError, match=r"holds no adapter_model.safetensors"):
        load_model(str(tmp_path))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidValueError, match="names no base model"):
        load_model(str(tmp_path))


@pytest.mark.slow
def test_an_adapter_trains_resumes_and_is_evaluated(cli):
    settings = ["task={}", "train.lora={r: 4, alpha: 8}", "eval={num_problems: 2, num_samples: 2, k: [1]}"]
    settings += ["task.num_problems=20", "train.save_every=1"]
    assert cli("train", "own.yaml", *settings, "train.steps=1").exit_code == 0
    config = json.loads(Path("runs/own/config.json").read_text())
    config["train"]["steps"] = 2
    Path("runs/own/config.json").write_text(json.dumps(config))
    result = cli("train", "own.yaml", *settings, "train.steps=2", "--resume")
    assert result.exit_code == 0, result.output
    checkpoint = Path("runs/own/checkpoints/checkpoint-2")
    assert json.loads((checkpoint / "adapter_config.json").read_text())["base_model_name_or_path"] == "countdown-base"
    base, adapted = load_model("countdown-base").state_dict(), load_model(str(checkpoint)).state_dict()
    assert base.keys() == adapted.keys()
    assert any(not value.equal(base[name]) for name, value in adapted.items())
    assert cli("eval", "runs/own", "--num-problems", 2, "--num-samples", 2, "--k", 1).exit_code == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.options.prompt='{number}='"], "column of problems.jsonl 'number': did you mean 'numbers'?"),
        (["task.options.train=nowhere.jsonl"], "there is no such file"),
        (["task.options.rewards=math"], "did you mean 'reward'?"),
        (["task.options.reward=my_rewards:nears"], "did you mean 'near'?"),
        (
            ["task.options={train: problems.jsonl, prompt: '{numbers}', answer: target, chat: true}"],
            "problems.jsonl, row 4, column 'numbers': the prompts are chats, and this model's tokenizer "
            "has no chat template",
        ),
        (
            ["task.options.max_completion_tokens=2000"],
            "problems.jsonl, row 6, columns 'numbers', 'target': 12 of 12 prompts are too long: "
            "the model takes 64 tokens",
        ),
        (["task.num_problems=100"], "100 train problems were asked for, and there are 6"),
        (["model=short.gguf"], "cannot load the tokenizer of 'short.gguf'"),
        (["model=cut.gguf"], "cannot load the tokenizer of 'cut.gguf'"),
        (["model=cut"], "cannot load the model of 'cut'"),
        (["task.options.train=':test'"], "expected a file, a folder or a hub id before the split"),
        (["eval.k=[]"], "eval.k must name at least one k"),
    ],
)
@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_what_cannot_work_is_refused_before_training(cli, overrides, message):
    Path("short.gguf").write_bytes(b"no model")
    Path("cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x05\x00\x00\x00\x00\x00\x00\x00" * 3)
    shutil.copytree(resolve_model("countdown-base"), "cut")
    weights = Path("cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    result = cli("train", "own.yaml", *overrides)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_a_reward_that_cannot_be_called_is_refused_before_the_model_loads(cli):
    Path("my_rewards.py").write_text("def near(completions, targets, **columns): return targets")
    result = cli("train", "own.yaml", "--dry-run")
    assert result.exit_code == 2 and "raised on sample 1 of 1" in result.stderr and "'targets'" in result.stderr


@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("async def near(completions, **columns): return [0.0]", "is a coroutine"),
        ("import sys\ndef near(completions, **columns): sys.exit(0)", "raised on sample 1 of 1"),
        ("import sys\nsys.exit(0)", "cannot import my_rewards"),
        (
            "def near(completions, **columns): return [1.0, 2.0]",
            "got 2 for 1, the first of which is sample 1 of 1: prompt",
        ),
        ("def near(completions, **columns): return None", "got None for sample 1 of 1: prompt"),
    ],
)
@pytest.mark.parametrize(
    "command", [("train", "own.yaml"), ("eval", "countdown-base", "--task", "own.yaml", "--output", "out")]
)
def test_a_reward_that_is_none_is_refused_before_anything_is_drawn(cli, command, reward, message):
    Path("my_rewards.py").write_text(reward)
    result = cli(*command)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("runs").exists() and not Path("out").exists()


@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_a_reward_may_read_the_tokens_in_evaluations_as_in_training(cli):
    Path("my_rewards.py").write_text(
        "def near(prompts, completions, completion_ids, **columns):\n"
        "    return [float(len(ids) == len(text) + 1) for ids, text in zip(completion_ids, completions)]"
    )
    assert cli("train", "own.yaml", "--dry-run").exit_code == 0
    sizes = ("--num-problems", 2, "--num-samples", 4, "--k", "1", "--max-tokens", 40, "--output", "out")
    result = cli("eval", "countdown-base", "--task", "own.yaml", *sizes)
    assert result.exit_code == 0, result.output
    samples = [json.loads(line) for line in Path("out/countdown-base/samples.jsonl").read_text().splitlines()]
    assert samples and all(
        sample["score"] == 1.0 - sample["truncated"] for sample in samples
    )  # a token a letter, and an end


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dataset. 6 of the 6 prompts")
def test_a_reward_that_fails_in_the_middle_names_the_sample_and_keeps_the_run(cli):
    settings = ("train.steps=4", "train.save_every=1", "eval={num_problems: 2, num_samples: 2, k: [1]}")
    whole = "def near(completions, trainer_state, **columns): return [len(c) for c in completions]"
    broken = whole.replace("len(c)", "None if trainer_state and trainer_state.global_step == 2 else len(c)")
    Path("my_rewards.py").write_text(broken)
    result = cli("train", "own.yaml", *settings)
    assert result.exit_code == 2, result.output
    assert "must return finite numbers, got None for sample 1 of 16" in result.stderr
    assert len(RunDirectory(Path("runs/own")).step_metrics()) == 2
    Path("my_rewards.py").write_text(whole)
    sys.modules.pop("my_rewards")
    result = cli("train", "own.yaml", *settings, "--resume")
    assert result.exit_code == 0, result.output
    assert [line["step"] for line in RunDirectory(Path("runs/own")).step_metrics()] == [1, 2, 3, 4]
