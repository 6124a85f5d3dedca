"""What trackers are told: each step's numbers, held-out scores, and the run's name."""

from pathlib import Path
from typing import ClassVar

import pytest
import transformers
from support.commands import run_command

RUN = """
task: {num_problems: 8}
control: {schedule: 0.55, width: 0.02}
train: {steps: 2, prompts_per_step: 2, rollouts_per_prompt: 2, save_every: 2}
eval: {every: 1, num_problems: 2, num_samples: 2, k: [1]}
"""


class Tracker(transformers.TrainerCallback):
    """A tracker that remembers what it was told, as transformers' own would send it."""

    told: ClassVar[list] = []
    names: ClassVar[set] = set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        from transformers.integrations.integration_utils import rewrite_logs

        self.names.add(args.run_name)
        self.told.append((state.global_step, rewrite_logs(logs)))


@pytest.mark.slow
def test_trackers_get_scores_targets_and_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN)
    monkeypatch.setattr("transformers.trainer.DEFAULT_CALLBACKS", [*transformers.trainer.DEFAULT_CALLBACKS, Tracker])
    result = run_command("train", "run.yaml", "--output", "a run")
    assert result.exit_code == 0, result.output
    assert Tracker.names == {"a run"}
    scored = [step for step, logs in Tracker.told if "eval/mean@2" in logs]
    assert scored == [0, 1, 2]
    steps = [logs for _, logs in Tracker.told if "train/loss" in logs]
    assert len(steps) == 2, [(step, len(logs), [k for k in logs if "loss" in k]) for step, logs in Tracker.told]
    assert [logs["train/entrocraft/target"] for logs in steps] == [0.55, 0.55]
    assert all("train/entropy" in logs for logs in steps)


def test_the_documentation_says_how_the_command_line_names_a_tracker():
    pages = (Path(__file__).parents[2] / "docs").glob("*.md")
    assert any("train.trl.report_to" in page.read_text() for page in pages)
