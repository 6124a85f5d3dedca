"""Pictures of the page for the documentation, from real runs: `python scripts/page_shots.py docs/page`.

Trains what the pictures show, unless the folder has it from before: plain GRPO, a run under control, and one that is
bent while it trains. Some ten minutes on two cores, from the root of the repository.
"""

import re
import sys
from pathlib import Path

import click
from PIL import Image
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.served import chromium, served, train  # noqa: E402

RECIPE = Path("recipes/countdown.yaml")
DESKTOP, PHONE = (1440, 900), (390, 844)
SHOWN_AT = 57
STEP_MS = 60_000


def opened(browser: Browser, address: str, view: str, scheme: str, size: tuple[int, int] = DESKTOP) -> Page:
    """Open a view in a browser of its own."""
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{address}#{view}")
    page.locator(".chart canvas").first.wait_for()
    page.wait_for_timeout(600)
    return page


def save(page: Page, path: Path) -> None:
    """Save what is seen, in a palette of 256 colours: a third of the bytes."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    click.echo(f"{path.name}: {path.stat().st_size // 1024} KB")


def draw_a_curve(page: Page) -> None:
    """Put knots where a person might."""
    page.get_by_role("button", name="nats per token").click()
    page.get_by_role("button", name="smooth").click()
    for _ in range(3):
        page.get_by_role("button", name="Add knot").click()
    steps = page.get_by_label(re.compile("^Step of knot"))
    targets = page.get_by_label(re.compile("^Target of knot"))
    for index, (step, target) in enumerate([(0, 0.594), (20, 0.598), (45, 0.535), (68, 0.452), (90, 0.417)]):
        targets.nth(index).fill(str(target))
        targets.nth(index).press("Tab")
        if steps.nth(index).is_enabled():
            steps.nth(index).fill(str(step))
            steps.nth(index).press("Tab")
    targets.nth(2).focus()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def bend(page: Page) -> None:
    """Propose a curve that rises and then falls."""
    page.get_by_role("button", name="Bend the curve").click()
    knot = page.get_by_role("slider", name="Knot").nth(1)
    knot.wait_for()
    knot.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")


def take_stills(browser: Browser, address: str, output: Path, scheme: str) -> None:
    """Take the pictures for which nothing needs to train."""
    page = opened(browser, address, "draw", scheme)
    draw_a_curve(page)
    page.get_by_label("behind it").select_option("grpo")
    page.wait_for_timeout(400)
    save(page, output / f"draw-{scheme}.png")
    save(opened(browser, address, "compare/entrocraft,grpo", scheme), output / f"compare-{scheme}.png")
    save(opened(browser, address, "explain/entrocraft/41", scheme), output / f"explain-{scheme}.png")


def take_live(browser: Browser, address: str, output: Path) -> None:
    """Start a training, bend it while it is looked at, and see it followed."""
    page = opened(browser, address, "draw", "light")
    page.get_by_label("Name").fill("bent")
    page.get_by_role("button", name="Start training").click()
    made = "least => Number(document.querySelector('.run-head b')?.innerText) >= least"
    page.wait_for_function(made, arg=SHOWN_AT, timeout=30 * STEP_MS)
    for scheme in ("light", "dark"):
        page = opened(browser, address, "run/bent", scheme)
        bend(page)
        page.wait_for_timeout(500)
        save(page, output / f"run-{scheme}.png")
    save(opened(browser, address, "run/bent", "dark", PHONE), output / "run-phone-dark.png")
    page.get_by_role("button", name="Apply").click()
    followed = page.get_by_text(re.compile("Followed since step"))
    followed.wait_for(timeout=STEP_MS)
    click.echo(followed.inner_text())


@click.command(help=__doc__)
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("runs/page"), help="Where the runs are.")
@click.option("--live/--no-live", default=True, help="Whether to start the training that is bent.")
def main(output: Path, folder: Path, live: bool) -> None:
    """Train, open, and take the pictures."""
    output.mkdir(parents=True, exist_ok=True)
    for name, overrides in {"grpo": ["control=null"], "entrocraft": []}.items():
        if not (folder / name).exists():
            train(RECIPE, folder / name, *overrides, seconds=3600)
    with chromium() as browser, served(folder) as address:
        for scheme in ("light", "dark"):
            take_stills(browser, address, output, scheme)
        if live:
            take_live(browser, address, output)


if __name__ == "__main__":
    main()
