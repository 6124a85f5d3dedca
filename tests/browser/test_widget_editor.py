"""The widget of notebooks in a browser: a small host in the notebook's place, the real widget behind it."""

import hashlib
import json
from pathlib import Path

import pytest
from browser.served import AXE, Watched
from playwright.sync_api import expect

import entrocraft as ec

VENDOR = Path(__file__).parents[2] / "scripts" / "vendor"
BUNDLE = Path(ec.__file__).parent / "app" / "static" / "vendor" / "widget.js"
HOME = "http://notebook.test/"
NAMES = ("steps", "kinds", "curve", "request", "answer", "problem")
HOST = """
<!doctype html><html lang="en"><title>A notebook</title><link rel="icon" href="data:,">
<body><main><h1>A notebook</h1><div id="one"></div><div id="two"></div></main><script type="module">
import widget from "./widget.js";

const state = await held();
const waiting = {};
const listeners = {};
const put = (name, value) => {
  if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
  state[name] = value;
  for (const listener of listeners[`change:${name}`] ?? []) listener();
};
const model = {
  get: (name) => state[name],
  set: (name, value) => { waiting[name] = value; put(name, value); },
  on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
  off: (event, listener) => listeners[event].delete(listener),
  save_changes: async () => {
    for (const [name, value] of Object.entries(await tell({ ...waiting }))) put(name, value);
  },
};
window.close_one = widget.render({ model, el: document.getElementById("one") });
widget.render({ model, el: document.getElementById("two") });
</script></body></html>
"""


def test_the_bundle_is_made_from_the_files_as_they_are():
    lines = [line.split() for line in (VENDOR / "widget.sha256").read_text().splitlines()]
    assert {Path(name).name for _, name in lines} > {"widget.js", "knots.js", "editor.js", "views.css"}
    stale = [name for sha, name in lines if hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() != sha]
    assert stale == [], "run scripts/vendor/widget.sh"
    assert 80_000 < BUNDLE.stat().st_size < 150_000


@pytest.fixture
def show(chrome):
    """Show a widget twice, in a page that is watched."""
    opened = []

    def show_widget(widget, **options):
        context = chrome.new_context(viewport={"width": 900, "height": 1300}, **options)
        page = context.new_page()
        opened.append((context, Watched(page, HOME)))

        def answered():
            return json.loads(json.dumps({name: getattr(widget, name) for name in NAMES}))

        def tell(changes):
            widget.set_state(changes)
            return {name: value for name, value in answered().items() if name in ("answer", "problem")}

        page.expose_function("held", answered)
        page.expose_function("tell", tell)
        page.route(HOME, lambda route: route.fulfill(content_type="text/html", body=HOST))
        page.route(HOME + "widget.js", lambda route: route.fulfill(content_type="text/javascript", path=BUNDLE))
        page.goto(HOME)
        page.locator("#one").get_by_role("slider").first.wait_for()
        return page

    yield show_widget
    for context, watched in opened:
        context.close()
        assert watched.complaints == []
        assert watched.strangers == []


def knots(page, view="one"):
    return page.locator(f"#{view}").get_by_role("slider", name="Knot")


def drag(page, knot, dx, dy):
    box = knot.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=5)
    page.mouse.up()


def wait_until(page, holds):
    """Give the browser time until something holds in Python."""
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never held")


@pytest.mark.slow
def test_a_knot_that_is_dragged_changes_the_schedule_in_python_and_the_other_view(show):
    widget = ec.draw(ec.linear(1.0, 0.7, unit="initial"), steps=50)
    page = show(widget)
    drag(page, knots(page).last, 0, -60)
    wait_until(page, lambda: widget.schedule(50, 50) > 0.71)
    shown = float(knots(page).last.get_attribute("aria-valuenow"))
    wait_until(page, lambda: widget.schedule(50, 50) == shown)
    assert isinstance(widget.schedule, ec.Schedule) and widget.schedule(0, 50) == 1.0
    assert f"(1.0, {shown})" in widget.yaml and widget.band.width == 0.06
    wait_until(page, lambda: float(knots(page, "two").last.get_attribute("aria-valuenow")) == shown)


@pytest.mark.slow
def test_keys_add_move_and_remove_knots_and_undo(show):
    widget = ec.draw("linear(0.6, 0.4)")
    page = show(widget)
    knots(page).first.focus()
    page.keyboard.press("Enter")
    wait_until(page, lambda: getattr(widget.schedule, "knots", None) == ((0.0, 0.6), (0.5, 0.5), (1.0, 0.4)))
    page.keyboard.press("ArrowUp")  # the new knot has the focus
    wait_until(page, lambda: widget.schedule.knots[1] == (0.5, 0.505))
    page.keyboard.press("Control+z")
    wait_until(page, lambda: widget.schedule.knots[1] == (0.5, 0.5))
    page.keyboard.press("Delete")
    wait_until(page, lambda: len(widget.schedule.knots) == 2)
    page.locator("#one").get_by_role("button", name="cosine").click()
    wait_until(page, lambda: widget.schedule.kind == "cosine")


@pytest.mark.slow
def test_touch_moves_a_knot(show):
    widget = ec.draw()
    page = show(widget, has_touch=True)
    box = knots(page).last.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    for kind, points in (("Start", [(x, y)]), ("Move", [(x, y - 30)]), ("Move", [(x, y - 60)]), ("End", [])):
        touch.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y} for x, y in points]}
        )
    wait_until(page, lambda: widget.schedule(100, 100) > 0.71)


@pytest.mark.slow
def test_what_cannot_be_used_is_said(show):
    widget = ec.draw(ec.Band(lower=ec.linear(0.5, 0.4), upper=ec.linear(0.6, 0.5)))
    page = show(widget)
    edge = page.locator("#one").get_by_role("slider", name="Upper edge 2")
    drag(page, edge, 0, 250)
    page.locator("#one").get_by_role("alert").filter(has_text="lower must not exceed upper").wait_for()
    assert all(lower <= upper for lower, upper in widget.band.values())


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_looks_as_the_notebook_does_and_everyone_can_use_it(show, theme):
    page = show(ec.draw())
    page.evaluate("light => (document.body.dataset.jpThemeLight = light)", str(theme == "light").lower())
    page.evaluate("() => new Promise(requestAnimationFrame)")
    colour = page.locator("#one section").evaluate("element => getComputedStyle(element).backgroundColor")
    assert colour == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[theme]
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run('#one', { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })")
    assert [violation["id"] for violation in found["violations"]] == []
    page.evaluate("close_one()")
    expect(page.locator("#one section")).to_have_count(0)
