"""Runs over each other, and a step of one explained."""

import json

import pytest
from browser.test_page_everywhere import violations

pytestmark = pytest.mark.slow


def test_two_runs_are_compared(open_page):
    page = open_page("compare/with-curve,without")
    page.get_by_role("region", name="Table of results").wait_for()
    rows = page.get_by_role("region", name="Table of results").get_by_role("row")
    assert rows.count() == 3
    assert "with-curve" in rows.nth(1).inner_text()
    assert "±" in rows.nth(1).inner_text()
    assert page.get_by_role("img", name="Entropy of with-curve, without over steps").is_visible()
    assert page.get_by_role("img", name="pass@k on held-out problems").is_visible()
    assert page.locator(".note").inner_text()


def test_runs_are_chosen_and_left_out_and_the_address_says_which(open_page):
    page = open_page("compare/with-curve,without")
    page.get_by_role("checkbox", name="without").uncheck()
    page.wait_for_url("**#compare/with-curve")
    page.get_by_role("checkbox", name="with-curve").uncheck()
    assert page.get_by_text("Choose runs to lay over each other.").is_visible()
    page.go_back()
    page.get_by_role("region", name="Table of results").wait_for()


def test_a_step_is_explained_by_every_rollout(open_page):
    page = open_page("explain/with-curve/5")
    assert page.get_by_role("heading", name="Step 5").is_visible()
    page.locator(".dot-mark").first.wait_for()
    assert page.locator(".dot-mark").count() == 32
    assert page.locator(".quadrants li").count() == 4
    assert page.get_by_text("Chosen rollout").is_visible()
    assert page.get_by_text("1 of 32").is_visible() or page.get_by_text("of 32").first.is_visible()
    page.get_by_role("button", name="Next rollout").click()
    page.get_by_role("button", name="Next step").click()
    page.wait_for_url("**#explain/with-curve/6")
    page.get_by_role("heading", name="Step 6").wait_for()
    page.get_by_role("slider", name="Step", exact=True).focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name="Step 5").wait_for()


def test_tokens_are_tinted_by_what_they_do_to_entropy(open_page, runs):
    lines = [json.loads(line) for line in (runs / "with-curve" / "rollouts.jsonl").read_text().splitlines()]
    # A prompt whose rewards are all equal teaches nothing, and has no tints.
    step = next(line["step"] for line in lines if any(any(text["changes"] or ()) for text in line["texts"]))
    page = open_page(f"explain/with-curve/{step}")
    tokens = page.locator(".tokens span")
    tokens.first.wait_for()
    strengths = tokens.evaluate_all("spans => spans.map((span) => span.style.getPropertyValue('--strength'))")
    strongest = tokens.nth(strengths.index("70%"))
    assert strongest.evaluate("span => getComputedStyle(span).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert page.get_by_text("raises entropy").is_visible()
    assert violations(page) == []


def test_a_click_on_a_dot_chooses_its_rollout(open_page):
    page = open_page("explain/with-curve/5")
    page.locator(".dot-mark").nth(20).wait_for()
    box = page.locator(".dot-mark").nth(20).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    ring = page.locator(".chosen-ring").bounding_box()
    assert abs(ring["x"] + ring["width"] / 2 - box["x"] - box["width"] / 2) < 12
