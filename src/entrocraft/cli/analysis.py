"""`entrocraft diagnose` before a run, and `entrocraft explain` after it."""

import json
from pathlib import Path
from typing import Any

import click

from entrocraft.cli.output import say_loading, user_errors_exit_2
from entrocraft.errors import InvalidValueError
from entrocraft.models.sampling_config import MOST_SAMPLES


@click.command(short_help="Say before training if a curve pays, and how.")
@click.argument("model", metavar="MODEL_OR_RUN")
@click.option("--task", "task_name", required=True, help="The task, or a configuration that has one.")
@click.option(
    "--num-prompts", type=click.IntRange(2, MOST_SAMPLES), default=32, show_default=True, help="Problems to ask."
)
@click.option(
    "--num-rollouts", type=click.IntRange(2, MOST_SAMPLES), default=8, show_default=True, help="Rollouts per prompt."
)
@click.option(
    "--max-tokens", type=click.IntRange(1), help="Tokens of a rollout, at most. [default: what the task needs]"
)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Sampling temperature.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Rollouts sampled at once.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for diagnosis.json and diagnosis.png.")
@user_errors_exit_2
def diagnose(model: str, task_name: str, output: Path | None, **settings: Any) -> None:
    """Say, before training, whether a curve will pay, which method fits, and which settings to begin with.

    It samples a few hundred answers, measures where entropy starts and how precisely, and prints a block `control:` to
    paste into a configuration.
    """
    say_loading()
    from entrocraft.config import carried_from, max_tokens_from, task_from
    from entrocraft.models.sampling_config import SamplingConfig
    from entrocraft.runs import model_path_of

    # What can be refused is refused before the model loads.
    task = task_from(task_name)
    SamplingConfig(temperature=settings["temperature"])
    if output is not None:
        import entrocraft.reports.plots.style  # noqa: F401 - needs matplotlib

        if output.exists() and not output.is_dir():
            raise InvalidValueError(f"--output expects a folder, and {output} is a file")
    carried = carried_from([model], task_name)
    source = model_path_of(model)

    from entrocraft.analysis.diagnosis import diagnose as diagnosis_by
    from entrocraft.models import best_device, load_model
    from entrocraft.models.prompts import load_fitting_tokenizer
    from entrocraft.reports.diagnosis import describe

    problems = task.problems_up_to("train", settings["num_prompts"], settings["seed"])
    if 2 <= len(problems) < settings["num_prompts"]:
        note = (
            f"{task.name} has {len(problems)} problems to train on, fewer than {settings['num_prompts']}: all are taken"
        )
        click.echo(f"entrocraft: {note}", err=True)
        settings["num_prompts"] = len(problems)
    settings["max_tokens"] = settings["max_tokens"] or max_tokens_from(model, task_name)
    longest_answer = settings["max_tokens"] or task.max_completion_tokens
    tokenizer = load_fitting_tokenizer(source, task, problems, longest_answer, carried.get("chat_template_kwargs"))
    found = diagnosis_by(load_model(source, best_device()), tokenizer, task, sampling=carried, **settings)
    click.echo(f"{model} on {task.name}, temperature {settings['temperature']:g}")
    click.echo(describe(found))
    if output is not None:
        options = " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in sorted(settings.items()) if value is not None
        )
        about = {
            "command": f"entrocraft diagnose {model} --task {task_name} {options}",
            "model": model,
            "task": task.name,
            **settings,
            **({"sampling": carried} if carried else {}),
        }
        _write_diagnosis(output, found, about)


def _write_diagnosis(folder: Path, found: Any, about: dict[str, Any]) -> None:
    """Write a diagnosis as data, with what it is about, and as a picture."""
    from entrocraft.reports.plots.diagnosis import draw_diagnosis
    from entrocraft.reports.plots.style import write_picture
    from entrocraft.runs.files import making, write_text

    data_file, picture_file = folder / "diagnosis.json", folder / "diagnosis.png"
    with making(folder):
        write_text(data_file, json.dumps(about | found.to_dict(), allow_nan=False) + "\n")
        write_picture(draw_diagnosis(found, f"{about['model']} on {about['task']}"), picture_file)
    click.echo(f"wrote {data_file} and {picture_file}")


@click.command(short_help="Say why entropy moved in a run.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--momentum", type=float, help="The optimizer's: Adam's beta1. [default: the run's]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Draw it to this picture, too.")
@user_errors_exit_2
def explain(run: Path, momentum: float | None, output: Path | None) -> None:
    """Say why entropy moved in a run, and what was left out of its updates.

    Changes are attributed to four kinds of tokens, confident or rare, in answers better or worse than average, and to
    the drift of training. It needs 8 steps or more.
    """
    from entrocraft.analysis import explanation
    from entrocraft.reports.explanation import describe
    from entrocraft.runs import RunDirectory

    directory = RunDirectory(run)
    config = directory.config()  # refuses what is no run
    lines = directory.step_metrics()
    found = explanation.explain(lines, explanation.momentum_of(config) if momentum is None else momentum)
    click.echo(describe(found))
    if output is not None:
        from entrocraft.reports.plots.explanation import draw_explanation
        from entrocraft.reports.plots.style import write_picture

        write_picture(draw_explanation(found, lines, f"Why entropy moved: {directory.path.name}"), output)
        click.echo(f"wrote {output}")
