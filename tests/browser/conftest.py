"""A server with two runs, trained once, and pages that are watched."""

import pytest
from browser.served import SHORT_RECIPE, Watched, chromium, served, train
from playwright.sync_api import expect

expect.set_options(timeout=30_000)  # ms; a busy machine draws late


@pytest.fixture(scope="session")
def chrome():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "short.yaml"
    path.write_text(SHORT_RECIPE)
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory, recipe):
    """A folder with a run that follows a curve and one that does not."""
    folder = tmp_path_factory.mktemp("page") / "runs"
    train(recipe, folder / "with-curve")
    train(recipe, folder / "without", "control=null")
    return folder


@pytest.fixture(scope="session")
def address(runs, recipe):
    with served(runs, recipe) as url:
        yield url


@pytest.fixture
def open_page(chrome, address):
    """Open the page in a browser of its own; whatever it does wrong fails the test at its end."""
    opened = []

    def open_at(view="draw", width=1440, height=960, refusals=False, **options):
        context = chrome.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        opened.append((context, Watched(page, address, refusals)))
        page.goto(f"{address}#{view}")
        page.locator("main .card, main .empty").first.wait_for()
        return page

    yield open_at
    for context, watched in opened:
        context.close()
        assert watched.complaints == []
        assert watched.strangers == []
