"""Drawing a curve: by mouse, by touch, by keys alone, as numbers, and from a file."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def knots(page):
    return page.get_by_role("slider", name="Knot")


def says(page, index):
    return knots(page).nth(index).get_attribute("aria-valuetext")


def says_other_than(page, index, before):
    """What a knot says once that is no longer what it said `before`."""
    expect(knots(page).nth(index)).not_to_have_attribute("aria-valuetext", before)
    return says(page, index)


def value_of(page, index):
    """The value of a knot as the text has it, of up to four decimals."""
    return f"{float(knots(page).nth(index).get_attribute('aria-valuenow')):g}"


def code(page):
    return page.locator("pre.code").inner_text()


def pick(page, family):
    page.get_by_role("group", name="Family of curves").get_by_role("button", name=family, exact=True).click()


def wait_for_code(page, text):
    page.locator("pre.code", has_text=text).wait_for()


def drag(page, knot, dx, dy):
    box = knot.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2, steps=4)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def test_a_knot_that_is_dragged_moves_the_curve_the_table_and_the_text(open_page):
    page = open_page("draw")
    page.get_by_role("button", name="Add knot").click()
    expect(knots(page)).to_have_count(3)
    before = says(page, 1)
    drag(page, knots(page).nth(1), 30, -70)
    after = says_other_than(page, 1, before)
    value, step = float(after.split()[0]), int(after.split()[-1])
    expect(page.get_by_label("Target of knot 2")).to_have_value(f"{value:.3f}")
    expect(page.get_by_label("Step of knot 2")).to_have_value(str(step))
    wait_for_code(page, value_of(page, 1))


def test_the_text_follows_while_a_knot_is_still_held(open_page):
    page = open_page("draw")
    before = code(page)
    box = knots(page).last.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for moved in range(40):  # far more moves than requests that can be under way
        page.mouse.move(x, y - 2 * moved)
    page.wait_for_function("before => document.querySelector('pre.code').innerText !== before", arg=before)
    page.mouse.up()
    wait_for_code(page, value_of(page, -1))


def test_a_curve_is_drawn_and_checked_by_keys_alone(open_page):
    page = open_page("draw")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('knot')"):
            break
    expect(knots(page).nth(0)).to_be_focused()
    start = says(page, 0)
    page.keyboard.press("Enter")
    expect(knots(page)).to_have_count(3)
    expect(knots(page).nth(1)).to_be_focused()
    moved = says(page, 1)
    for key in ("ArrowUp", "ArrowRight", "PageUp"):
        page.keyboard.press(key)
        moved = says_other_than(page, 1, moved)
    page.keyboard.press("Shift+ArrowDown")
    lowered = says_other_than(page, 1, moved)
    assert float(lowered.split()[0]) == pytest.approx(float(moved.split()[0]) - 0.002, abs=1e-6)
    for key, left in (("Delete", 2), ("Control+z", 3), ("Control+Shift+z", 2)):
        page.keyboard.press(key)
        expect(knots(page)).to_have_count(left)
    expect(knots(page).nth(0)).to_have_attribute("aria-valuetext", start)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Check only":
            break
    page.keyboard.press("Enter")
    page.locator("form .note, form .problem").first.wait_for(timeout=60_000)
    expect(page.locator("form .problem")).to_have_count(0)


def test_families_units_edges_and_undo(open_page):
    page = open_page("draw")
    pick(page, "cosine")
    wait_for_code(page, "cosine(")
    page.get_by_role("button", name="nats per token").click()
    wait_for_code(page, "knots" if "knots" in code(page) else "piecewise")
    page.get_by_label("Draw both edges on their own").check()
    page.get_by_role("slider", name="Upper edge 1").wait_for()
    wait_for_code(page, "upper")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    wait_for_code(page, "cosine(")
    page.get_by_role("button", name="Python", exact=True).click()
    wait_for_code(page, "import entrocraft")
    page.get_by_role("button", name="command", exact=True).click()
    wait_for_code(page, "entrocraft train")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert "entrocraft train" in download.value.path().read_text()


def test_the_band_is_made_wider_on_the_chart(open_page):
    page = open_page("draw")
    width = page.locator("output")
    before = width.inner_text()
    knots(page).first.focus()
    drag(page, page.get_by_role("slider", name="Width of the band").last, 0, -20)
    expect(width).not_to_have_text(before)


def test_a_curve_that_cannot_be_is_answered_by_the_librarys_own_sentence(open_page):
    page = open_page("draw", refusals=True)
    page.get_by_label("Draw both edges on their own").check()
    page.get_by_role("slider", name="Upper edge 1").wait_for()
    target = page.get_by_label("Target of lower edge 1")
    target.fill("2")
    target.press("Enter")
    expect(page.get_by_role("alert").first).to_contain_text("lower must not exceed upper")


def test_a_file_is_loaded_into_the_editor(open_page, tmp_path):
    page = open_page("draw")
    file = tmp_path / "curve.yaml"
    file.write_text("control:\n  schedule: [[0, 0.6], [0.25, 0.5], [1, 0.4]]\n  width: 0.05\n")
    page.locator("input[type=file]").set_input_files(file)
    for n, target in enumerate(("0.600", "0.500", "0.400"), 1):
        expect(page.get_by_label(f"Target of knot {n}")).to_have_value(target)
    expect(page.locator("output")).to_have_text("0.050 nats")


def test_a_knot_is_moved_by_touch_and_the_page_still_scrolls(open_page):
    page = open_page("draw", width=390, height=844, has_touch=True, is_mobile=True)
    knot = knots(page).last
    assert knot.bounding_box()["width"] >= 44
    before = knot.get_attribute("aria-valuetext")
    box = knot.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 40}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(knot).not_to_have_attribute("aria-valuetext", before)
    expect(page.locator(".chart").first).to_have_css("touch-action", "pan-y")
