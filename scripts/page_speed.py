"""How fast the page is, in headless Chromium: `python scripts/page_speed.py results/app/browser.json`."""

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.served import chromium, served  # noqa: E402

OPENINGS, UPDATES = 7, 40
SERIES, STEPS = 5, 10_000

FIRST_PAINT = """() => performance.getEntriesByName('first-contentful-paint')[0].startTime"""
UPDATE = """async ([series, steps, updates]) => {
    const { html, render } = await import(new URL('static/vendor/vendor.js', location.href));
    const { Chart } = await import(new URL('static/chart.js', location.href));
    const element = document.createElement('div');
    document.body.append(element);
    const x = Array.from({ length: steps }, (_, step) => step);
    const value = (step, line) => 0.6 - 0.00003 * step + 0.05 * line + 0.02 * Math.sin(step / 7) * Math.random();
    const values = (line) => x.map((step) => value(step, line));
    const tables = () => [{ x, lines: Array.from({ length: series }, (_, line) => (
        { id: `${line}`, label: `run ${line}`, color: `c${line + 1}`, values: values(line) })) }];
    const draw = (data) => render(
        html`<${Chart} label="speed" tables=${data} x=${[0, steps]} y=${[0.2, 1]} height=${360} />`, element);
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    draw(tables());
    await frame();
    await frame();
    const times = [];
    for (let turn = 0; turn < updates; turn += 1) {
        const data = tables();
        await frame();
        const begin = performance.now();
        draw(data);
        await Promise.resolve();
        times.push(performance.now() - begin);
    }
    return times;
}"""


def opening(browser: Browser, address: str) -> tuple[float, float]:
    """Open the page in a browser that has nothing of it; return ms until the first paint and the first knot."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.locator("button.knot").first.wait_for()
    drawn = page.evaluate("performance.now()")
    paint = page.evaluate(FIRST_PAINT)
    context.close()
    return paint, drawn


def spread(times: list[float]) -> dict[str, float]:
    """Return the median and the range."""
    return {"median": round(statistics.median(times), 1), "least": round(min(times), 1), "most": round(max(times), 1)}


@click.command(help=__doc__)
@click.argument("output", type=click.Path(path_type=Path))
def main(output: Path) -> None:
    """Measure, and write down what was measured where."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for name in ("entrocraft", "grpo"):
            shutil.copytree(ROOT / "results" / "demo" / name, Path(folder) / name)
        with served(Path(folder)) as address:
            openings = [opening(browser, address) for _ in range(OPENINGS)]
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(address)
            page.locator("button.knot").first.wait_for()
            updates = page.evaluate(UPDATE, [SERIES, STEPS, UPDATES])
        version = browser.version
    system = f"{platform.system()} {platform.machine()}"
    measured: dict[str, Any] = {
        "command": f"python scripts/page_speed.py {output}",
        "machine": {
            "cores": os.cpu_count(),
            "system": system,
            "load": os.getloadavg()[0],
        },
        "chromium": version,
        "first_paint_ms": spread([paint for paint, _ in openings]) | {"openings": OPENINGS},
        "first_knot_ms": spread([knot for _, knot in openings]) | {"openings": OPENINGS},
        "update_ms": spread(updates) | {"series": SERIES, "steps": STEPS, "updates": UPDATES},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(measured, indent=2) + "\n")
    click.echo(output.read_text())


if __name__ == "__main__":
    main()
