"""A curve over several turns: Countdown with a first attempt, what it evaluates to, and a second.

    python benchmarks/multi_turn.py --output results/multi_turn

An environment of TRL: the policy's first message is a call of the tool `attempt`, whose answer is the value, and its
second message may do better: the best of both counts. The tool's tokens are in its context, but neither in the loss nor
in the entropy. Without a curve, and with one.
"""

import argparse
import json
import tempfile
from pathlib import Path

from datasets import Dataset
from trl import GRPOConfig

from entrocraft.engines.trl import EntropyControlledGRPOTrainer
from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model, load_tokenizer
from entrocraft.tasks import Countdown
from entrocraft.tasks.countdown import parse_expression

CURVE = "linear(1.0, 0.8, unit='initial')"
# The problem, then `attempt<end>=value:` for each attempt, which is the text of the call.
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}"
    "{% if not m.content %}{% for call in m.tool_calls %}"
    "{{ call.function.name }}{{ call.function.arguments }}{% endfor %}"
    "{% endif %}{{ eos_token }}"
    "{% elif m.role == 'tool' %}{{ m.content }}:{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
# All that the policy says is an attempt.
TEXT = {"type": "string", "x-regex": r"^(.*?)(?:<[a-z]+>)?$"}
RESPONSE_SCHEMA = {
    "type": "object",
    "properties": {
        "role": {"const": "assistant"},
        "content": TEXT,
        "tool_calls": {
            "type": "array",
            "x-regex-iterator": r"^(.*)$",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"const": "function"},
                    "function": {
                        "type": "object",
                        "properties": {
                            "name": {"const": "attempt"},
                            "arguments": {"type": "object", "properties": {"expression": TEXT}},
                        },
                    },
                },
            },
        },
    },
}


class Feedback:
    """Says what an attempt evaluates to."""

    def reset(self, **columns) -> None:
        """Begin a problem; nothing is said."""

    def attempt(self, expression: str) -> str:
        """Evaluate an attempt.

        Args:
            expression: An arithmetic expression.

        Returns:
            Its value; nothing if it has none.
        """
        try:
            value, _ = parse_expression(expression)
        except InvalidValueError:
            return "="
        return f"={value}" if value.denominator == 1 else "="


def best_attempt(completions, numbers, target, **columns):
    """Return 1.0 where one of the attempts of a conversation solves the problem."""
    problems = [{"numbers": n, "target": t} for n, t in zip(numbers, target, strict=True)]
    return [
        max(Countdown().score(message["content"], problem) for message in said if message["role"] == "assistant")
        for said, problem in zip(completions, problems, strict=True)
    ]


def make_trainer(steps, control, seed=0, folder="runs/multi_turn", **settings):
    """Return a trainer over two turns; without a curve if `control` is None, which only measures."""
    task, tokenizer = Countdown(), load_tokenizer("countdown-base")
    tokenizer.chat_template, tokenizer.response_schema = CHAT_TEMPLATE, RESPONSE_SCHEMA
    # TRL tries the template on words, for which the embedded model has no tokens.
    tokenizer.backend_tokenizer.model.unk_token = tokenizer.pad_token
    problems = task.problems("train", 2000, seed)
    for problem in problems:
        problem["prompt"] = [{"role": "user", "content": problem["prompt"]}]
    arguments = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": 256,
        "num_generations": 8,
        "max_completion_length": 2 * task.max_completion_tokens + 8,
        "max_tool_calling_iterations": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "beta": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": seed,
    }
    return EntropyControlledGRPOTrainer(
        model=load_model("countdown-base"),
        processing_class=tokenizer,
        reward_funcs=best_attempt,
        train_dataset=Dataset.from_list(problems),
        environment_factory=Feedback,
        args=GRPOConfig(**arguments | settings),
        entropy_control={"method": "none"} if control is None else control,
    )


def main():
    """Train with and without the curve, and write what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in args.seeds:
        for name, control in (("none", None), ("token", {"schedule": CURVE})):
            with tempfile.TemporaryDirectory() as folder:
                trainer = make_trainer(args.steps, control, seed, folder)
                trainer.train()
            lines = [line for line in trainer.state.log_history if "entrocraft/entropy" in line]
            columns = ("entropy", "target", "kept_token_fraction", "num_tokens")
            rows.append(
                {"rule": name, "seed": seed, "reward": [round(line["reward"], 4) for line in lines]}
                | {column: [line.get(f"entrocraft/{column}") for line in lines] for column in columns}
                | {"tools_called": [line["tools/call_frequency"] for line in lines]}
            )
            print(name, seed, rows[-1]["entropy"][-1], rows[-1]["target"][-1], rows[-1]["reward"][-1], flush=True)
    (args.output / "multi_turn.json").write_text(json.dumps({"curve": CURVE, "runs": rows}) + "\n")


if __name__ == "__main__":
    main()
