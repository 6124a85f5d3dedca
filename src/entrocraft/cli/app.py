"""`entrocraft app`: the page in the browser."""

from importlib.util import find_spec
from pathlib import Path

import click

from entrocraft.cli.output import say, user_errors_exit_2
from entrocraft.errors import InvalidValueError, MissingDependencyError


@click.command(short_help="Draw, watch and compare in the browser.")
@click.argument("paths", metavar="[RECIPE.yaml|RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for any that is free."
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs go. [default: runs]")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Further name of this server; may be given again.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option("--no-token", is_flag=True, help="Let every user of this machine in.")
@click.option("--url", is_flag=True, help="Print the address of the page that runs on the port, and end.")
@user_errors_exit_2
def app(
    paths: tuple[Path, ...],
    host: str,
    port: int,
    folder: Path,
    allow_host: tuple[str, ...],
    no_browser: bool,
    no_token: bool,
    url: bool,
) -> None:
    """Open a page in the browser: draw curves, start and watch runs, compare and explain them.

    RECIPE.yaml may be started from the page, beside the recipes that come with the package. RUN is a run, a study or a
    folder of them, shown beside those of `--folder`. The address holds a token, which the browser keeps as a cookie.
    """
    lacking = next((name for name in ("starlette", "uvicorn", "sse_starlette") if find_spec(name) is None), None)
    if lacking is not None:
        raise MissingDependencyError(f"the page needs {lacking}: pip install 'entrocraft[app]'")
    from entrocraft.app.server import Server, Settings, address_of

    if url:
        click.echo(address_of(port))
        return
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise InvalidValueError(f"{missing} is not there: expected a recipe, a run, or a folder of runs")
    settings = Settings(
        host=host,
        port=port,
        allow_hosts=allow_host,
        has_token=not no_token,
        folder=folder,
        recipes=[path for path in paths if path.is_file()],
        runs=[path for path in paths if path.is_dir()],
    )
    Server(settings).run(say, open_browser=not no_browser)
