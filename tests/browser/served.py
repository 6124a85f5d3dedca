"""The page as people get it: a real server in a process of its own, and Debian's Chromium before it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(__file__).with_name("axe.min.js")
SHORT_RECIPE = """\
# A short training of the embedded model, for the page to start.
model: countdown-base
seed: 0
task: {name: countdown}
control: {schedule: "linear(1.0, 0.8, unit='initial')", width: 0.1}
train: {steps: 12, prompts_per_step: 8, rollouts_per_prompt: 4, learning_rate: 1.2e-4, save_every: 6}
eval: {num_problems: 16, num_samples: 4, k: [1, 4]}
"""
_QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def train(recipe: Path, output: Path, *overrides: str, seconds: float = 300) -> None:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "entrocraft", "train", recipe, *overrides, "--output", output]
    done = subprocess.run([str(part) for part in command], env=_QUIET, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise RuntimeError(f"the training that the page is to show failed:\n{done.stdout}\n{done.stderr}")


@contextmanager
def served(folder: Path, *recipes: Path) -> Iterator[str]:
    """Serve a folder of runs; gives the address with its token."""
    command = [sys.executable, "-m", "entrocraft", "app", "--port", "0", "--no-browser", "--folder", folder, *recipes]
    with subprocess.Popen(
        [str(part) for part in command], env=_QUIET, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout
            lines = (line.partition("http")[1:] for line in process.stdout)
            yield "".join(next(address for address in lines if address[0])).strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser that Debian packages; nothing is downloaded."""
    if not CHROMIUM.exists():
        raise RuntimeError(
            "the browser tests need Chromium: apt-get update && apt-get install -y --no-install-recommends chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Watched:
    """What a page must not do: complain on its console, or ask anything of another machine.

    Args:
        refusals: Whether the server is meant to refuse something.
    """

    def __init__(self, page: Page, address: str, refusals: bool = False):
        self._home = address.partition("?")[0]
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._is_own(request.url) or self.strangers.append(request.url))
        if not refusals:
            page.on(
                "response",
                lambda response: response.status < 400 or self.complaints.append(f"{response.status} {response.url}"),
            )

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):  # responses say which
            self.complaints.append(text)

    def _is_own(self, url: str) -> bool:
        return url.startswith((self._home, "data:", "blob:"))
