"""`entrocraft export`: a run's model for others."""

from pathlib import Path

import click

from entrocraft.cli.output import user_errors_exit_2


@click.command(short_help="Save a run's model with a model card.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--push", "repo_id", metavar="REPO_ID", help="Upload it to this repository on the hub, too.")
@click.option("--public", is_flag=True, help="Anyone may see that repository, if it is new.")
@user_errors_exit_2
def export(run: Path, folder: Path, repo_id: str | None, public: bool) -> None:
    """Save a run's model to FOLDER, as transformers does, with a model card of its curve, scores and settings."""
    from entrocraft.reports import model_card as exporting
    from entrocraft.runs import RunDirectory

    directory = RunDirectory(run)
    exporting.export(directory, folder)
    checkpoint = directory.last_checkpoint()
    click.echo(f"wrote {folder}, the model of step {checkpoint[0] if checkpoint else 0}")
    if repo_id is not None:
        click.echo(f"pushed to {exporting.push(folder, repo_id, private=not public)}")
