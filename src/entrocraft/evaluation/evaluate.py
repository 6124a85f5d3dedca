"""One evaluation: answers drawn batch by batch, scored, and every one kept on file."""

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
        sampler: Function that loads the model; called once, and only if there is anything to draw.
        task: The task, which scores answers.
        problems: Problems of the task to be answered.
        config: Settings by which answers are drawn.
        max_tokens: Tokens after which an answer is cut; by default as many as the task says.
        seed: Seed of the random draws.
        with_answers: Whether to read what each completion answers, for majorities and diversity.
        file: File that keeps the samples. Whole batches that are there are not drawn again, and what is drawn after
            them is what an evaluation in one go would have drawn.
        on_batch: Function called after each batch, with the number of samples there are and that there will be.

    Returns:
        The samples, problem after problem.
    """
    max_tokens = task.max_completion_tokens if max_tokens is None else max_tokens
    rows = config.rows(max_tokens)
    # Number of the problem that each sample answers. A batch is so many rows, and may end within a problem.
    numbers = [i for i in range(len(problems)) for _ in range(config.num_samples)]
    samples = [] if file is None else file.read(numbers, rows)
    model: Sampler | None = None
    for start in range(len(samples), len(numbers), rows):
        model = sampler() if model is None else model
        batch = numbers[start : start + rows]
        asked = [problems[i] for i in batch]
        prompts = [problem["prompt"] for problem in asked]
        # Seeded by the batch's number, so that an evaluation that goes on draws what it would have drawn.
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
