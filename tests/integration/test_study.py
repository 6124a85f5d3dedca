"""`entrocraft study`, run in processes of its own, killed and restarted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from support.commands import run_command

from entrocraft.study import cells_of, load_study
from entrocraft.study.job import Workplace
from entrocraft.tasks.countdown import Countdown
from entrocraft.training import problems_of
from entrocraft.training.problems import write_problems

STUDY = {
    "title": "tiny",
    "run": {
        "task": {"num_problems": 40},
        "train": {"steps": 4, "prompts_per_step": 4, "rollouts_per_prompt": 4, "save_every": 2},
        "eval": {"num_problems": 4, "num_samples": 4, "k": [1, 4], "every": 2},
    },
    "arms": {"grpo": {"control": None}, "token": {"control": {"schedule": 0.55}}},
    "score": "mean@4",
}


WORDS = {"train": "words.jsonl", "test_share": 0.5, "reward": "number"}
"""Options of a task whose prompts the embedded model's tokenizer, which knows digits and signs, cannot read."""


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rows = [{"prompt": f"what is {number}?", "answer": number} for number in range(200)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write(tmp_path / "study.yaml", STUDY)


def write(file, data):
    file.write_text(yaml.safe_dump(data))
    return file


def rows_in(folder):
    file = folder / "rows.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def begin(file, folder):
    """Return the process of a study that has begun."""
    command = [sys.executable, "-m", "entrocraft", "study", str(file), "--output", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_running(folder):
    """Return whether any process has the folder's name among its arguments."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in entry.read_text() and entry.parent.name != str(os.getpid()):
                return True
        except OSError:
            continue  # it has just ended
    return False


def wait_until(condition):
    end = time.monotonic() + 300  # a machine may be busy
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_dry_run_lists_the_runs_and_writes_nothing(study_file, tmp_path):
    result = run_command("study", str(study_file), "--output", "out", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "grpo, seed 0: 4 steps of 16 rollouts",
        "token, seed 0: 4 steps of 16 rollouts",
        "2 runs, 8 steps",
    ]
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_drawn_are_told_of_before_hours_of_runs(study_file, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "entrocraft.reports.plots.style", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    refused = run_command("study", study_file, "--dry-run", "--output", tmp_path / "out")
    assert refused.exit_code == 2 and "pip install 'entrocraft[plots]'" in refused.stderr


def test_problems_that_arms_share_are_made_once_for_the_check(study_file, monkeypatch):
    made = []
    monkeypatch.setattr(Countdown, "problems", _counted(Countdown.problems, made))
    assert run_command("study", str(study_file), "--dry-run").exit_code == 0
    assert made == ["train", "test"]  # of two arms


def _counted(problems, made):
    def counting(self, split, *args, **kwargs):
        made.append(split)
        return problems(self, split, *args, **kwargs)

    return counting


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "no-such-model"}, "no-such-model"),
        ({"model": "models/no-such"}, "models/no-such"),  # which might be on the hub
        ({"task": {"name": "dataset", "options": WORDS}}, "tokenizer cannot read the prompt"),
        ({"train": {"trl": {"beta": "x"}}}, "beta"),
        ({"task": {"name": "countdwon"}}, "countdwon"),
    ],
)
def test_what_training_would_refuse_is_refused_before_anything_runs(study_file, tmp_path, change, said):
    write(study_file, STUDY | {"arms": {"odd": change}})
    result = run_command("study", str(study_file), "--output", "out")
    assert result.exit_code == 2
    assert "odd, seed 0" in result.output
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ({"task": {"name": "countdwon"}}, "countdwon"),
        ({"task": {"name": "dataset", "options": {"test": "nowhere.jsonl", "reward": "number"}}}, "nowhere.jsonl"),
        ({"task": {"name": "dataset", "options": WORDS}}, "tokenizer cannot read the prompt"),
        ({"num_problems": 2_000_000}, "2000000 problems were asked for"),
    ],
)
def test_what_a_scoring_would_fail_with_is_refused_before_anything_runs(study_file, tmp_path, scoring, said):
    write(study_file, STUDY | {"scorings": {"plain": {"num_problems": 2}, "other": scoring}})
    result = run_command("study", str(study_file), "--output", "out")
    assert result.exit_code == 2
    assert result.output.startswith("entrocraft: error: scorings.other: ") and said in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_those_of_the_runs_that_are_done_are_refused(study_file, tmp_path):
    def write_data(change):
        rows = [{"prompt": f"{i}+1=", "answer": i + 1 + change * (i == 5)} for i in range(40)]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write_data(0)
    own = {"train": "sums.jsonl", "test_share": 0.2, "reward": "number", "max_completion_tokens": 8}
    study = STUDY | {"run": STUDY["run"] | {"task": {"name": "dataset", "options": own}}}
    write(study_file, study)
    run = cells_of(load_study(study_file))[0].runs[0]
    problems = dict(zip(("train", "test"), problems_of(run.resolved(), run.resolved().task.build()), strict=True))
    place = Workplace(tmp_path / "out" / "runs", run.key).run
    place.path.mkdir(parents=True)
    write_problems(place.problems_file, problems)
    (tmp_path / "out" / "rows.jsonl").write_text(json.dumps({"step": 4, "key": run.key}) + "\n")

    more_seeds = ("study", str(write(study_file, study | {"seeds": [0, 1]})), "--output", "out", "--dry-run")
    assert run_command(*more_seeds).exit_code == 0
    write_data(1)
    result = run_command(*more_seeds)
    assert result.exit_code == 2
    assert "grpo, seed 0, which is done: the data of this run have changed: 1 of the " in result.output
    assert "sums.jsonl" in result.output and "another --output" in result.output
    place.problems_file.unlink()  # the message's own way out, and what rows without their runs have
    assert run_command(*more_seeds).exit_code == 0


@pytest.mark.slow
def test_a_killed_study_repeats_no_finished_run_and_loses_none(study_file, tmp_path):
    folder = tmp_path / "out"
    rng, seen = random.Random(0), {}
    for _ in range(3):
        process = begin(study_file, folder)
        wait_until(lambda of=process: is_running(folder / "runs") or of.poll() is not None)  # or it is through
        time.sleep(rng.uniform(2, 14))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wait_until(lambda: not is_running(folder / "runs"))  # no training is left behind
        rows = {row["key"]: row for row in rows_in(folder)}
        assert seen.items() <= rows.items()
        seen = rows
    result = run_command("study", str(study_file), "--output", str(folder))
    assert result.exit_code == 0, result.output
    rows = rows_in(folder)
    assert len(rows) == len({row["key"] for row in rows}) == 2
    assert {row["step"] for row in rows} == {4}
    assert all(seen[row["key"]] == row for row in rows if row["key"] in seen)
    for row in rows:
        lines = (folder / "runs" / row["key"] / "metrics.jsonl").read_text().splitlines()
        steps = [line["step"] for line in map(json.loads, lines) if "entropy" in line]
        assert steps == [1, 2, 3, 4]
    again = run_command("study", str(study_file), "--output", str(folder))
    assert again.exit_code == 0
    assert rows_in(folder) == rows


@pytest.mark.slow
def test_phases_go_on_from_the_model_before_and_scorings_are_kept(study_file, tmp_path):
    phases = {"A": {}, "B": {"task": {"name": "countdown", "options": {"num_numbers": 3}, "num_problems": 40}}}
    scorings = {"cold": {"num_problems": 3, "num_samples": 2, "k": [1], "temperature": 0.5}}
    write(study_file, STUDY | {"phases": phases, "scorings": scorings, "arms": {"grpo": {"control": None}}})
    result = run_command("study", str(study_file), "--output", "out")
    assert result.exit_code == 0, result.output
    first, second = rows_in(tmp_path / "out")
    assert (first["name"], second["name"]) == ("grpo, seed 0, phase A", "grpo, seed 0, phase B")
    runs = tmp_path / "out" / "runs"
    model = yaml.safe_load((runs / f"{second['key']}.yaml").read_text())["model"]
    assert model == str(runs / first["key"] / "checkpoints" / "checkpoint-4")
    assert second["scorings"]["cold"]["mean@2"] >= 0.0
    assert not list(runs.glob("*/checkpoints/*"))  # no run starts from them any more
    assert "## Phase B" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "arms2.png").stat().st_size > 0


@pytest.mark.slow
def test_a_run_that_fails_is_told_of_and_the_others_are_made(study_file, tmp_path, monkeypatch):
    reward = (
        "def breaks(completions, **columns):\n    assert len(completions) < 16\n    return [0.0] * len(completions)\n"
    )
    (tmp_path / "rewards_here.py").write_text(reward)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"prompt": "1,2,3=6:", "answer": "6"}\n' * 8)
    options = {"train": "data.jsonl", "test": "data.jsonl", "reward": "rewards_here:breaks"}
    options |= {"max_completion_tokens": 4}
    broken = {"control": None, "task": {"name": "dataset", "options": options, "num_problems": 8}}
    write(study_file, STUDY | {"arms": {"broken": broken, "token": STUDY["arms"]["token"]}})
    result = run_command("study", str(study_file), "--output", "out")
    assert result.exit_code == 1, result.output
    assert [row["name"] for row in rows_in(tmp_path / "out")] == ["token, seed 0"]
    assert "error: broken, seed 0:" in result.output
    assert "Not there yet\n\n- broken, seed 0" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_sigterm_stops_resumably_and_says_so(study_file, tmp_path):
    folder = tmp_path / "out"
    process = begin(study_file, folder)
    wait_until(lambda: list(folder.glob("runs/*/metrics.jsonl")))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "stopped; the same command goes on" in output
    assert "Traceback" not in output
    assert not is_running(folder / "runs")
