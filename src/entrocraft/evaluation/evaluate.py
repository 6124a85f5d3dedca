"""One evaluation: answers drawn batch by batch, scored, and every one kept on file."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from entrocraft.errors import EntrocraftError
from entrocraft.evaluation.samplers import Sampler
from entrocraft.evaluation.samples import Sample, SampleFile
from entrocraft.grading.time_limit import tally
from entrocraft.models.sampling import SamplingConfig, seed_of_batch
from entrocraft.tasks import Problem, Task


def evaluate(
    sampler: Callable[[], Sampler],
    task: Task,
    problems: Sequence[Problem],
    config: SamplingConfig,
    *,
    max_tokens: int | None = None,
    seed: int = 0,
    with_answers: bool = True,
    file: SampleFile | None = None,
    share: tuple[int, int] = (0, 1),
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Draw `config.num_samples` answers to each problem and score them.

    Args:
        sampler: Function that loads the model; called once, and only if there is anything to draw.
        task: The task, which scores answers.
        problems: Problems of the task to be answered.
        config: Settings by which answers are drawn.
        max_tokens: Tokens after which an answer is cut; by default as many as the task says.
        seed: Seed of the random draws.
        with_answers: Whether to read what each completion answers, for majorities and diversity.
        file: File that keeps the samples. Whole batches that are there are not drawn again, and what is drawn after
            them is what an evaluation in one go would have drawn.
        share: Which of how many processes this is: each draws and scores every so many-th batch, and returns those.
        on_batch: Function called after each batch, with the number of samples there are and that there will be.

    Returns:
        The samples, problem after problem. A completion that breaks the task's verifier scores 0; how many did, or took
        too long to be graded, is warned of at the end.

    Raises:
        RewardError: A reward of the user's own raised, or returned what is none.
    """
    max_tokens = task.max_completion_tokens if max_tokens is None else max_tokens
    rows = config.rows(max_tokens)
    # Number of the problem that each sample answers. A batch is so many rows, and may end within a problem.
    numbers = [i for i in range(len(problems)) for _ in range(config.num_samples)]
    samples = [] if file is None else file.read(numbers, rows)
    model: Sampler | None = None
    before, num_broken = tally(), 0
    index, count = share
    for start in range(len(samples), len(numbers), rows):
        if start // rows % count != index:
            continue
        model = sampler() if model is None else model
        batch = numbers[start : start + rows]
        asked = [problems[i] for i in batch]
        prompts = [problem["prompt"] for problem in asked]
        # Seeded by the batch's number, so that an evaluation that goes on draws what it would have drawn.
        drawn = model.draw(prompts, config, max_tokens, seed_of_batch(seed, start // rows))
        texts = [one.text for one in drawn]
        answers: list[str | None] = [None] * len(texts)
        if with_answers:
            answers, _ = _each(task.answers_of, None, texts)
        tokens = {"completion_ids": [list(one.tokens) for one in drawn]} if task.reads_tokens else {}
        scores, broken = _each(task.scores, 0.0, texts, asked, **tokens)
        num_broken += broken
        scored = zip(batch, asked, drawn, scores, answers, strict=True)
        new = [
            Sample(
                problem=i,
                prompt=problem["prompt"],
                completion=one.text,
                answer=answer,
                score=score,
                num_tokens=one.num_tokens,
                truncated=one.truncated,
                entropy=one.entropy,
            )
            for i, problem, one, score, answer in scored
        ]
        if file is not None:
            file.append(new)
        samples += new
        if on_batch is not None:
            on_batch(len(samples), len(numbers))
    num_late = tally().since(before).lost
    if num_broken or num_late:
        warnings.warn(
            f"{task.name}: of {len(numbers)} completions, {num_broken} broke the verifier and score 0; "
            f"{num_late} calls of graders took too long or raised, and count as wrong",
            stacklevel=2,
        )
    return samples


def _each(
    function: Callable[..., list[Any]], instead: Any, *columns: Sequence[Any], **named: Any
) -> tuple[list[Any], int]:
    """Return what a function of a batch says of each of its samples, and of how many it raised.

    Where it raises on the whole batch it is asked sample by sample, and `instead` stands for each on which it raises
    again. What a user did wrong is raised as it is.
    """
    try:
        return function(*columns, **named), 0
    except EntrocraftError:
        raise
    except Exception:
        results, num_raised = [], 0
    for i in range(len(columns[0])):
        try:
            results += function(
                *(column[i : i + 1] for column in columns), **{k: v[i : i + 1] for k, v in named.items()}
            )
        except EntrocraftError:
            raise
        except Exception as error:
            if not num_raised:
                warnings.warn(f"the verifier raised {error!r:.200} on {columns[0][i]!a:.160}", stacklevel=3)
            results.append(instead)
            num_raised += 1
    return results, num_raised
