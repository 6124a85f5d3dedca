"""A run's model for others: saved weights, and a card that says how they were trained."""

import shutil
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from httpx import HTTPError
from huggingface_hub import HfApi, ModelCard, ModelCardData
from safetensors import SafetensorError

from entrocraft.config import parse_config
from entrocraft.errors import InvalidValueError, first_line, os_error_line
from entrocraft.models import load_model, load_tokenizer
from entrocraft.reports.run import entropy_section, scores_section
from entrocraft.runs import RunDirectory, model_path_of
from entrocraft.runs.files import making

_PACKAGES = ("entrocraft", "torch", "transformers", "trl", "peft")


def export(run: RunDirectory, folder: Path) -> None:
    """Write the model of a run's newest checkpoint as `save_pretrained` does, with a model card and its picture.

    Adapters are merged into the model they were trained on.

    Args:
        run: The run whose model is written.
        folder: Folder to write to, which must be new or empty.

    Raises:
        EntrocraftError: There is no run or no checkpoint, or the folder holds something.
    """
    parse_config(run.config(), run.config_file)  # refuses what is no run, and that of a script
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidValueError(f"{folder} is there already; name a new folder")
    source = model_path_of(str(run.path))
    model, tokenizer = load_model(source), load_tokenizer(source)
    card = model_card(run)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    with making(folder.parent):
        try:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
            if run.curve_file.exists():
                shutil.copy(run.curve_file, unfinished / run.curve_file.name)
            card.save(unfinished / "README.md")
            if folder.exists():  # and empty: it may be a mount, which nothing can take the place of
                for file in sorted(unfinished.iterdir()):
                    shutil.move(file, folder / file.name)
            else:
                unfinished.rename(folder)
        except (OSError, SafetensorError) as error:
            cause = os_error_line(error) if isinstance(error, OSError) else first_line(error)
            raise InvalidValueError(f"cannot write {folder}: {cause}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def push(folder: Path, repo_id: str, *, private: bool = True) -> str:
    """Upload an exported model to the hub and return its address.

    Raises:
        InvalidValueError: The hub refuses, or cannot be reached.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    except (ValueError, OSError, HTTPError) as error:
        raise InvalidValueError(
            f"cannot push to {repo_id!r}: {first_line(error)}. The model is in {folder}; once that is mended: "
            f"hf upload {repo_id} {folder}"
        ) from error
    return str(url)


def model_card(run: RunDirectory) -> ModelCard:
    """Return the card of a run's model: the curve, how it was followed, held-out scores, settings and versions."""
    data = run.config()
    config, checkpoint = parse_config(data, run.config_file), run.last_checkpoint()
    steps = checkpoint[0] if checkpoint else 0
    # What came after the checkpoint is not in the weights.
    lines, evaluations = (
        [line for line in each if line["step"] <= steps] for each in (run.step_metrics(), run.eval_metrics())
    )
    by_control = (
        "" if config.control is None else ", its entropy on a curve by [entrocraft](https://arxiv.org/abs/2604.26326)"
    )
    sections = [
        "---\n" + ModelCardData(**_card_data(config.model)).to_yaml() + "\n---",
        f"# {run.path.name}\n\n`{config.model}` trained by reinforcement learning ({config.train.algorithm.upper()}) "
        f"on `{config.task.name}` for {steps} steps{by_control}.",
        entropy_section(lines),
        f"![entropy and reward]({run.curve_file.name})" if run.curve_file.exists() else "",
        scores_section(evaluations),
        "## Settings\n\n```yaml\n" + yaml.safe_dump(data, sort_keys=False).rstrip() + "\n```",
        "## Versions\n\n" + "\n".join(f"- {name} {number}" for name, number in _versions().items()),
    ]
    return ModelCard("\n\n".join(section for section in sections if section) + "\n")


def _card_data(model: str) -> dict[str, Any]:
    """Return what the hub reads at the head of a card."""
    # The hub follows base_model as a link: only a hub id can be one.
    base = {"base_model": model} if model.count("/") == 1 and not Path(model).exists() else {}
    return {"library_name": "transformers", "tags": ["entrocraft", "reinforcement-learning"], **base}


def _versions() -> dict[str, str]:
    """Return the versions of the packages that had a part in the run, of those that are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
