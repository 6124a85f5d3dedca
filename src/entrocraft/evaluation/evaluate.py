"""Draw answers, score them, and keep every one."""

from collections.abc import Callable, Sequence

from entrocraft.evaluation.samplers import Sampler
from entrocraft.evaluation.samples import Sample, SampleFile
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
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Draw `config.num_samples` answers to each problem and score them.

    Args:
        sampler: Makes the model, if there is anything to draw.
        task: Scores answers.
        problems: Of the task.
        config: How to draw.
        max_tokens: Where an answer is cut; by default where the task says.
        seed: Of the draws.
        with_answers: Also say what each completion answers, for majorities and diversity.
        file: Where samples are kept. Whole batches that are there are not drawn again, and what is drawn after them is
            what an evaluation in one go would have drawn.
        on_batch: Called with the number of samples there are and will be, after each batch.

    Returns:
        The samples, problem after problem.
    """
    max_tokens = task.max_completion_tokens if max_tokens is None else max_tokens
    rows = config.rows(max_tokens)
    numbers = [i for i in range(len(problems)) for _ in range(config.num_samples)]
    samples = [] if file is None else file.read(numbers, rows)
    model: Sampler | None = None
    for start in range(len(samples), len(numbers), rows):
        model = sampler() if model is None else model
        batch = numbers[start : start + rows]
        asked = [problems[i] for i in batch]
        prompts = [problem["prompt"] for problem in asked]
        drawn = model.draw(prompts, config, max_tokens, seed_of_batch(seed, start // rows))
        texts = [one.text for one in drawn]
        answers = task.answers_of(texts) if with_answers else [None] * len(texts)
        tokens = {"completion_ids": [list(one.tokens) for one in drawn]} if task.reads_tokens else {}
        scored = zip(batch, asked, drawn, task.scores(texts, asked, **tokens), answers, strict=True)
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
    return samples
