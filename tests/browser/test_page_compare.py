"""Runs over each other, and a step of one explained."""

import json

import pytest
from browser.test_page_everywhere import violations
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def test_two_runs_are_compared(open_page):
    page = open_page("compare/with-curve,without")
    rows = page.get_by_role("region", name="Table of results").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("with-curve")
    expect(rows.nth(1)).to_contain_text("±")
    expect(page.get_by_role("img", name="Entropy of with-curve, without over steps")).to_be_visible()
    expect(page.get_by_role("img", name="pass@k on held-out problems")).to_be_visible()
    expect(page.locator(".note")).not_to_be_empty()


def test_runs_are_chosen_and_left_out_and_the_address_says_which(open_page):
    page = open_page("compare/with-curve,without")
    page.get_by_role("checkbox", name="without").uncheck()
    page.wait_for_url("**#compare/with-curve")
    page.get_by_role("checkbox", name="with-curve").uncheck()
    expect(page.get_by_text("Choose runs to lay over each other.")).to_be_visible()
    page.go_back()
    page.get_by_role("region", name="Table of results").wait_for()


def test_a_step_is_explained_by_every_rollout(open_page):
    page = open_page("explain/with-curve/5")
    expect(page.get_by_role("heading", name="Step 5")).to_be_visible()
    expect(page.locator(".dot-mark")).to_have_count(32)
    expect(page.locator(".quadrants li")).to_have_count(4)
    expect(page.get_by_text("Chosen rollout")).to_be_visible()
    expect(page.get_by_text("of 32").first).to_be_visible()
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
    expect(strongest).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")
    expect(page.get_by_text("raises entropy")).to_be_visible()
    assert violations(page) == []


def test_a_click_on_a_dot_chooses_its_rollout(open_page):
    page = open_page("explain/with-curve/5")
    page.locator(".dot-mark").nth(20).wait_for()
    box = page.locator(".dot-mark").nth(20).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    ring = page.locator(".chosen-ring").bounding_box()
    assert abs(ring["x"] + ring["width"] / 2 - box["x"] - box["width"] / 2) < 12
