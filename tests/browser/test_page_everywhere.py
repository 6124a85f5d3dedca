"""What holds for the whole page: axe, phones, tabs, hostile text, a server that goes away."""

import json
import shutil

import pytest
from browser.served import AXE, served
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS = ["draw", "run/with-curve", "compare/with-curve,without", "explain/with-curve/5"]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
TABS = 8


def violations(page):
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
    return [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_and_nothing_sticks_out(open_page, view, size, scheme):
    width, height = SIZES[size]
    page = open_page(view, width, height, color_scheme=scheme)
    page.wait_for_function("!document.querySelector('[aria-busy=true]')")
    page.locator(".chart canvas").first.wait_for()
    assert violations(page) == []
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_axe_finds_nothing_while_a_curve_is_wrong(open_page):
    page = open_page("draw")
    page.get_by_role("button", name="Add knot").click()
    page.get_by_label("Draw both edges on their own").check()
    page.get_by_role("slider", name="Upper edge 1").wait_for()
    assert violations(page) == []


def test_the_look_is_chosen_and_kept(open_page):
    page = open_page("draw", color_scheme="light")
    page.get_by_role("button", name="Look: as the system").click()
    page.get_by_role("button", name="Look: light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    page.locator(".card").first.wait_for()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(14, 16, 19)")


def test_eight_tabs_all_work(open_page):
    first = open_page("run/with-curve")
    tabs = [first] + [first.context.new_page() for _ in range(TABS - 1)]
    for tab in tabs[1:]:
        tabs[tabs.index(tab) - 1].evaluate("""() => {
            Object.defineProperty(document, 'hidden', {value: true, configurable: true});
            document.dispatchEvent(new Event('visibilitychange'));
        }""")  # what a browser does to the tab that another one covers
        tab.goto(first.url)
        tab.locator(".tiles").wait_for(timeout=10_000)
    for tab in tabs:
        expect(tab.locator(".tiles")).to_have_count(1)


def test_a_hidden_tab_has_no_stream_and_gets_one_when_it_is_seen(open_page):
    page = open_page("run/with-curve")
    page.locator(".tiles").wait_for()

    def show(hidden):
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
                document.dispatchEvent(new Event('visibilitychange'));
            }""",
            hidden,
        )

    show(True)
    with page.expect_request("**/api/events**", timeout=10_000):
        show(False)


def test_what_a_model_wrote_is_text_and_nothing_else(chrome, runs, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(runs / "with-curve", folder / "hostile")
    path = folder / "hostile" / "rollouts.jsonl"
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202ereversed\x07"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for text in line["texts"]:
            text["completion"] = text["prompt"] = hostile
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with served(folder) as address:
        page = chrome.new_page()
        page.on("dialog", lambda dialog: pytest.fail(f"a completion ran as a script: {dialog.message}"))
        for view in ("run/hostile", "explain/hostile/5"):
            page.goto(f"{address}#{view}")
            page.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
            expect(page.get_by_text("⟨202E⟩reversed␇")).not_to_have_count(0)
            expect(page.locator(".group img, .group script, .said img")).to_have_count(0)
        page.close()


def test_a_server_that_goes_away_is_said_so(chrome, runs):
    with served(runs) as address:
        page = chrome.new_page()
        page.goto(f"{address}#run/with-curve")
        page.locator(".tiles").wait_for()
    page.get_by_text("The connection to the server is lost.").wait_for(timeout=20_000)
    page.close()


def test_without_its_token_the_page_says_where_it_is(chrome, address):
    context = chrome.new_context()
    page = context.new_page()
    answer = page.goto(address.partition("?")[0])
    assert answer.status == 401
    expect(page.get_by_text("open the address that `entrocraft app --url` prints")).to_be_visible()
    context.close()


def test_the_page_works_below_a_path_of_a_proxy(open_page, address):
    page = open_page("draw")
    page.context.route(
        "**/user/me/proxy/**",
        lambda route: route.continue_(url=route.request.url.replace("/user/me/proxy/", "/")),
    )
    page.goto(address.partition("?")[0] + "user/me/proxy/#run/with-curve")
    page.locator(".tiles").wait_for()
    assert page.evaluate(
        "performance.getEntriesByType('resource').every(each => each.name.includes('/user/me/proxy/'))"
    )
