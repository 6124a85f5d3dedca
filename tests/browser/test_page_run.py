"""A real training that the page starts, shows, bends, stops and goes on with."""

import re

import pytest
from browser.served import SHORT_RECIPE, Watched, served
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
STARTS, MOVES = 120_000, 60_000


def step_of(page):
    return int(page.locator(".run-head b").first.inner_text())


def wait_for_step(page, step):
    page.wait_for_function(
        "step => Number(document.querySelector('.run-head b')?.innerText) >= step", arg=step, timeout=MOVES
    )


@pytest.fixture
def lonely_page(chrome, tmp_path):
    """A page on a folder of its own, from which trainings are started."""
    recipe = tmp_path / "short.yaml"
    recipe.write_text(SHORT_RECIPE)
    with served(tmp_path / "runs", recipe) as address:
        context = chrome.new_context(viewport={"width": 1440, "height": 960})
        page = context.new_page()
        watched = Watched(page, address)
        page.goto(address)
        page.get_by_label("Recipe").select_option("short")
        yield page
        context.close()
        assert watched.complaints == []
        assert watched.strangers == []


def start(page, steps):
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_label("Steps", exact=True).press("Tab")
    page.get_by_role("button", name="Start training").click()
    page.locator(".tiles").wait_for(timeout=STARTS)


def test_a_run_is_drawn_started_watched_bent_and_followed(lonely_page):
    page = lonely_page
    page.get_by_role("button", name="Add knot").click()
    start(page, 400)
    first = step_of(page)
    wait_for_step(page, first + 5)
    expect(page.locator(".tile .value").first).to_have_text(re.compile(r"^0\.\d{3} nats"))
    expect(page.locator(".answer").nth(3)).to_be_visible()
    expect(page.locator(".answer .chip").first).to_have_text(re.compile("^(kept|in part|left out)$"))

    page.get_by_role("button", name="Bend the curve").click()
    knot = page.get_by_role("slider", name="Knot").first
    knot.wait_for()
    knot.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    expect(page.get_by_text("nothing is sent yet")).to_be_visible()
    page.get_by_role("button", name="Apply").click()
    page.get_by_text(re.compile(r"Followed since step \d+")).wait_for(timeout=MOVES)
    followed = int(re.search(r"\d+", page.get_by_text(re.compile(r"Followed since step")).inner_text()).group())
    assert followed > first
    expect(page.get_by_role("log").get_by_text("steering").first).to_be_visible()

    page.get_by_role("button", name=re.compile("^Stop ")).click()
    page.get_by_role("button", name=re.compile("^Go on from step")).wait_for(timeout=MOVES)
    stopped = step_of(page)
    page.get_by_role("button", name=re.compile("^Go on from step")).click()
    wait_for_step(page, stopped + 1)
    page.get_by_role("button", name=re.compile("^Stop ")).click()
    page.get_by_role("button", name="Stop at once").click()
    page.get_by_role("button", name=re.compile("^Go on from step")).wait_for(timeout=MOVES)


def test_completions_of_an_earlier_step_can_be_held(open_page):
    page = open_page("run/with-curve")
    page.get_by_role("button", name="pinned").click()
    newest = page.locator(".card", has_text="Completions").locator(".muted").first.inner_text()
    page.get_by_role("button", name="Recorded step before").click()
    expect(page.locator(".head .muted", has_text=newest)).to_have_count(0)


def test_a_run_without_a_curve_says_so(open_page):
    page = open_page("run/without")
    page.get_by_text("this run follows no curve").wait_for()
    expect(page.get_by_text("no curve", exact=True)).to_be_visible()


def test_another_run_can_be_chosen(open_page):
    page = open_page("run/with-curve")
    page.get_by_label("Run", exact=True).select_option("without")
    page.wait_for_url("**#run/without")
    page.get_by_text("this run follows no curve").wait_for()


def test_a_run_that_is_not_there_is_said_so(open_page):
    page = open_page("run/nothing", refusals=True)
    expect(page.get_by_role("alert")).to_contain_text("nothing")
