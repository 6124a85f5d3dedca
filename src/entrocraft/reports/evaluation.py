"""The evaluation of one or several models, from their names to a table, samples on file and a picture."""

import gc
import hashlib
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import entrocraft
from entrocraft import tasks
from entrocraft.config import carried_from, max_tokens_from, parse_config, task_config_of
from entrocraft.errors import InvalidValueError, RunDirectoryError
from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.measures import differences, measures_of
from entrocraft.evaluation.samplers import TransformersSampler, VllmSampler, check_vllm
from entrocraft.evaluation.samples import SampleFile
from entrocraft.evaluation.scores import with_intervals
from entrocraft.models import resolve_model
from entrocraft.models.prompts import load_fitting_tokenizer
from entrocraft.models.sampling_config import SamplingConfig
from entrocraft.models.weights import digest_of_model
from entrocraft.reports.score_table import score_table
from entrocraft.runs import RunDirectory, model_path_of
from entrocraft.runs.files import write_text
from entrocraft.tasks import Task

MOST_PROBLEMS = 200


def evaluate_models(
    models: Sequence[str],
    ks: Sequence[int],
    output: Path | None,
    *,
    task_name: str | None,
    num_problems: int | None,
    max_tokens: int | None,
    backend: str,
    seed: int,
    **sampling: Any,
) -> str:
    """Evaluate models on the same problems and return what to print.

    Args:
        models: Models or runs.
        ks: The k of pass@k and majority@k.
        output: Folder for samples, scores and the picture; nothing is kept if None.
        task_name: Name of the task, see `config.task_from`; by default the task of the first run.
        num_problems: Held-out problems; by default 200, or all there are.
        max_tokens: Tokens after which an answer is cut; by default those of the run's or file's configuration, else
            what the task's longest right answer needs.
        backend: `transformers` or `vllm`.
        seed: Seed of the random draws.
        sampling: Fields of `SamplingConfig`; what is None is as the task wants it, or the default.

    Raises:
        EntrocraftError: Something about the request is wrong.
    """
    _refuse_early(output)
    task, about_task = _task(task_name, models[0])
    carried = carried_from(models, task_name)
    config = SamplingConfig(
        **carried | dict(task.sampling) | {name: value for name, value in sampling.items() if value is not None}
    )
    if backend == "vllm" and config.generation_kwargs:
        raise InvalidValueError(
            f"backend vllm cannot draw as the run was trained, with {', '.join(sorted(config.generation_kwargs))}; "
            "use backend transformers"
        )
    max_tokens = max_tokens or max_tokens_from(models[0], task_name) or task.max_completion_tokens
    problems = task.problems_asked_for("test", num_problems, MOST_PROBLEMS)
    names, sources = _short_names(models), [model_path_of(model) for model in models]
    for source in sources:  # all of them, before the first is asked anything
        resolve_model(source)
    task.scores([""], problems[:1])  # a reward that cannot be called is refused now
    if backend == "vllm":
        check_vllm(sources)
    for source in sources:
        load_fitting_tokenizer(source, task, problems, max_tokens, config.chat_template_kwargs)
    settings = about_task | {
        **_own_code(task),
        "num_problems": len(problems),
        "problems": hashlib.sha256(json.dumps(problems, sort_keys=True, default=str).encode()).hexdigest()[:16],
        "max_tokens": max_tokens,
        "backend": backend,
        "seed": seed,
        **asdict(config),
    }
    samplers = {
        name: partial(VllmSampler if backend == "vllm" else TransformersSampler.load, source)
        for name, source in zip(names, sources, strict=True)
    }
    values = {}
    with ExitStack() as stack:
        # All files are opened, and so checked, before the first model draws.
        files: dict[str, SampleFile | None] = dict.fromkeys(names)
        if output is not None:
            for name, model, source in zip(names, models, sources, strict=True):
                about = settings | {"model": model, "source": source, "weights": digest_of_model(resolve_model(source))}
                files[name] = stack.enter_context(SampleFile(output / name, about))
        for name, sampler in samplers.items():  # one model at a time is held
            with _ProgressBar(name) as advance:
                samples = evaluate(
                    sampler,
                    task,
                    problems,
                    config,
                    max_tokens=max_tokens,
                    seed=seed,
                    file=files[name],
                    on_batch=advance,
                )
            values[name] = measures_of(samples, ks)
            gc.collect()
    text = _report(task, len(problems), config, values)
    if output is not None:
        _write(output, settings, values, text)
        text += f"\nwrote {output}"
    return text


def _refuse_early(output: Path | None) -> None:
    """Refuse what would only fail once all answers are drawn."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidValueError("evaluation runs in one process; start it without torchrun or accelerate")
    if output is None:
        return
    import entrocraft.reports.plots.style  # noqa: F401 - needs matplotlib

    if output.exists() and not output.is_dir():
        raise RunDirectoryError(f"{output} is a file; --output names a folder")
    if output.exists() and not any(output.glob("*/settings.json")) and any(output.iterdir()):
        raise RunDirectoryError(f"{output} holds something else than evaluations; give another --output")


def _task(name: str | None, model: str) -> tuple[Task, dict[str, Any]]:
    """Return the task that a name, a configuration or else a run says, and the settings that tell which it was."""
    if name is not None and not name.endswith((".yaml", ".yml")):
        return tasks.build(name), {"task": name}
    run = RunDirectory(Path(model))
    if name is not None:
        config = task_config_of(Path(name))
    elif run.exists:
        config = parse_config(run.config(), run.config_file).task
    else:
        raise InvalidValueError(f"--task is needed with a model; known: {', '.join(tasks.available())}")
    return config.build(), {"task": config.name, "task_options": config.options}


def _own_code(task: Task) -> dict[str, str]:
    """Return the digest of the file that scores answers by its name; nothing where this library does."""
    scorer = task.scored_by or type(task)
    try:
        file = inspect.getsourcefile(scorer)
    except TypeError:  # built into Python, or an object that is called
        file = None
    if file is None or Path(file).is_relative_to(Path(entrocraft.__file__).parent):
        return {}
    return {Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]}


def _short_names(models: Sequence[str]) -> list[str]:
    """Return a folder name for each model, all different."""
    names: list[str] = []
    for model in models:
        stem = name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
        number = 1
        while name.lower() in {taken.lower() for taken in names}:  # some file systems do not tell A from a
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _report(task: Task, num_problems: int, config: SamplingConfig, values: Mapping[str, dict[str, list[float]]]) -> str:
    """Return the scores of all models as one table, under a line that says how they were come by."""
    cut = f", top-k {config.top_k}" if config.top_k else ""
    lines = [
        f"{task.name}: {num_problems} held-out problems, {config.num_samples} samples each, temperature "
        f"{config.temperature:g}, top-p {config.top_p:g}{cut}; 95 % intervals over problems"
    ]
    return "\n".join([*lines, "", score_table(values)])


def _write(output: Path, settings: Mapping[str, Any], values: Mapping[str, dict[str, list[float]]], text: str) -> None:
    """Write scores as data, the report as text and pass@k as a picture."""
    from entrocraft.reports.plots.scores import draw_pass_at_k
    from entrocraft.reports.plots.style import write_picture

    first = next(iter(values.values()))
    data = {
        "settings": settings,
        "scores": {name: with_intervals(measures) for name, measures in values.items()},
        "differences": {name: differences(first, measures) for name, measures in list(values.items())[1:]},
    }
    write_text(output / "scores.json", json.dumps(data, indent=2) + "\n")
    write_text(output / "report.txt", text + "\n")
    write_picture(draw_pass_at_k(values), output / "pass_at_k.png")


class _ProgressBar:
    """A bar on standard error while answers are drawn; none where nobody watches."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> Any:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True)
        self._bar.start()
        task = self._bar.add_task(self._name, total=None)
        return lambda done, total: self._bar.update(task, completed=done, total=total)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
