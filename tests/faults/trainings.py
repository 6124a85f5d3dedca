"""The trainings that faults are tried on: real ones on the embedded model, as short as they can be."""

import json
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = """
task: {num_problems: 20} # less than three steps an epoch
control: {schedule: "linear(1.0, 0.8, unit='initial')", width: 0.02}
train: {steps: 6, prompts_per_step: 4, rollouts_per_prompt: 4, save_every: 2, max_completion_tokens: 8}
eval: {every: 3, num_problems: 4, num_samples: 4, k: [1, 4]}
"""
LORA = SETTINGS.replace("save_every: 2,", "save_every: 2, lora: {r: 4, alpha: 8},")
OWN = SETTINGS.replace(
    "{num_problems: 20} # less than three steps an epoch",
    "{name: dataset, options: {train: data.jsonl, test: test.jsonl, reward: REWARD}, num_problems: 8}",
)
STEPS = 6
# As the embedded model has learnt to read them.
PROBLEMS = [{"prompt": f"{a},{b},1,2={a + b + 3}:", "answer": str(a)} for a in range(1, 5) for b in (3, 7)]
HELD_OUT = [problem | {"prompt": problem["prompt"].replace(",1,2=", ",2,1=")} for problem in PROBLEMS]
REWARD = '''
"""Counts even digits, and does harm if a file says so: its first word what, its second at which call."""

import os
import sys
import time
from pathlib import Path

calls = 0


def even_digits(completions, **columns):
    global calls
    calls += 1
    harm, _, at = Path("harm.txt").read_text().partition(" ") if Path("harm.txt").exists() else ("", "", "0")
    if harm and calls >= int(at) and len(completions) > 1:
        if harm == "raise":
            raise RuntimeError("the sandbox is not there")
        if harm == "exit":
            sys.exit(3)
        if harm == "die":
            os._exit(3)
        while harm == "hang" or Path("harm.txt").exists():  # and takes every exception for a failed attempt
            try:
                time.sleep(0.05)
            except Exception:
                pass
    return [sum(character in "02468" for character in text) / 3 for text in completions]
'''


def _lines(problems: list[dict[str, str]]) -> str:
    return "".join(json.dumps(problem) + "\n" for problem in problems)


@dataclass(frozen=True)
class Training:
    """A training that the command line can run."""

    name: str
    settings: str
    files: dict[str, str] = field(default_factory=dict)
    """What else must lie in its folder, by name."""

    def lay_out(self, folder: Path) -> Path:
        """Write what the training needs into a folder, and return that."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ({"run.yaml": self.settings} | self.files).items():
            (folder / name).write_text(text)
        return folder


DATA = {"data.jsonl": _lines(PROBLEMS), "test.jsonl": _lines(HELD_OUT), "mine.py": REWARD}
PLAIN = Training("grpo", SETTINGS)
ADAPTER = Training("lora", LORA)
REWARDED = Training("own reward", OWN.replace("REWARD", "'mine:even_digits'"), DATA)
GRADED = Training("reward in processes", OWN.replace("REWARD", "{name: 'mine:even_digits', seconds: 5}"), DATA)
UNCONTROLLED = Training("no control", SETTINGS.replace("control: {", "control: null # {"))
