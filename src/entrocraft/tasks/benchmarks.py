"""Benchmarks of mathematics that the paper trains on and measures: sources, prompt and grading of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrocraft.tasks.dataset import DatasetTask

BOXED = "Let's think step by step and output the final answer within \\boxed{{}}."
"""Instruction that the paper appends to questions, as part of a prompt template."""
PAPER_SAMPLING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
"""Sampling of the paper's evaluations, which draw 32 samples a problem."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set on the hub."""

    test: str | None = None
    """Hub id and split of the problems that are measured; see `sources.read_rows`."""
    train: str | None = None
    """Hub id and split of the problems to train on."""
    config: str | None = None
    """Configuration of the data set."""
    question: str = "problem"
    """Column of the questions; that of the answers is `answer` everywhere."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Columns and the values that rows must hold; see `DatasetTask`."""
    unless: Mapping[str, Any] = field(default_factory=dict)
    """Columns and the values that rows must not hold."""


BENCHMARKS = {
    "aime-24": Benchmark(test="HuggingFaceH4/aime_2024:train"),
    "aime-25": Benchmark(test="math-ai/aime25:test"),
    "aime-26": Benchmark(test="math-ai/aime26:test"),
    "amc-23": Benchmark(test="knoveleng/AMC-23:train"),
    "gsm8k": Benchmark(
        test="openai/gsm8k:test",
        train="openai/gsm8k:train",
        config="main",
        question="question",
    ),
    "math-500": Benchmark(test="HuggingFaceH4/MATH-500:test"),
    # What a verifier can grade: no proofs, no multiple choice, nothing marked as broken.
    "numinamath": Benchmark(
        train="AI-MO/NuminaMath-1.5:train",
        where={"question_type": "math-word-problem", "problem_is_valid": "Yes", "solution_is_valid": "Yes"},
        unless={"answer": ["", "proof", "notfound", None]},
    ),
}


def build_benchmark(
    name: str,
    *,
    test: str | None = None,
    train: str | None = None,
    chat: bool = True,
    system: str | None = None,
    max_completion_tokens: int = 3072,
) -> DatasetTask:
    """Return a benchmark as a task.

    Args:
        name: Name of the benchmark, one of `BENCHMARKS`.
        test: Local copy of the problems that are measured, a file with the same columns; by default the hub's.
        train: Problems to train on, likewise; only GSM8K and NuminaMath bring their own.
        chat: Whether to ask through the model's chat template; false for base models without one.
        system: System message before each question.
        max_completion_tokens: Number of tokens after which an answer is cut; the paper's limit by default.

    Raises:
        InvalidValueError: The data cannot be had; see `DatasetTask`.

    Example:
        >>> build_benchmark("math-500").sampling["temperature"]
        0.6
    """
    benchmark = BENCHMARKS[name]
    task = DatasetTask(
        name=name,
        train=train or benchmark.train,
        test=test or benchmark.test,
        test_share=0.0,
        where=benchmark.where,
        unless=benchmark.unless,
        config=benchmark.config,
        prompt=f"{{{benchmark.question}}} {BOXED}",
        chat=chat,
        system=system,
        reward="math",
        max_completion_tokens=max_completion_tokens,
    )
    task.sampling = PAPER_SAMPLING
    return task
