"""What the page costs: memory and lag under many viewers, an update of a long run, and what a viewer costs a training.

    python benchmarks/page.py load --output results/app/load.json
    python benchmarks/page.py slowdown --output results/app/slowdown.json

`load` writes lines of a real run's size as fast as 480 a second, with fifty viewers in a process of their own, and
reads memory and processor time of the server from the system. `slowdown` wants a machine that does nothing else: in one
training a viewer comes and goes every few steps, and steps with and without it are compared.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

from entrocraft.app.book import Book
from entrocraft.app.series import default_keys, series
from entrocraft.runs.state import read_state

LINE = Path(__file__).parents[1] / "results" / "demo" / "entrocraft" / "metrics.jsonl"
LONG_RUN = 10_000
CURVE = {"text": "linear(1.0, 0.9, unit='initial')", "width": 0.06}
BLOCK = 4
"""Steps for which the viewer stays, and stays away."""
TRAINING = """
control: {schedule: "linear(1.0, 0.9, unit='initial')", width: 0.06}
task: {name: countdown}
train: {steps: STEPS, prompts_per_step: PROMPTS, rollouts_per_prompt: 8, learning_rate: 1.2e-4, save_every: 100000}
eval: {num_problems: 4, num_samples: 2, k: [1]}
"""


class Server:
    """`entrocraft app` in a process of its own."""

    def __init__(self, folder, *arguments):
        command = [sys.executable, "-m", "entrocraft", "app", "--no-browser", "--port", "0", "--folder", str(folder)]
        environment = os.environ | {"XDG_STATE_HOME": str(folder.parent / "state")}
        begun = time.perf_counter()
        self.process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
        url = self.process.stderr.readline().removeprefix("entrocraft: ").strip()
        self.seconds_to_address = time.perf_counter() - begun
        self.base, _, self.token = url.partition("?token=")

    def ask(self, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.base + path, data, headers)) as answer:
            return json.loads(answer.read())

    def memory_and_cpu(self):
        """Return the most memory so far in megabytes, and the processor's seconds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return int(peak.split()[1]) / 1024, sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.terminate()
        self.process.wait()


def lines_of(steps):
    """Return lines as a run writes them, with other numbers of as many digits at each step."""
    rng = np.random.default_rng(0)
    template = next(line for line in map(json.loads, LINE.read_text().splitlines()) if "entropy" in line)
    for step in range(1, steps + 1):
        values = {name: float(value) for name, value in zip(template, rng.uniform(0, 1, len(template)), strict=True)}
        yield json.dumps(values | {"step": step}) + "\n"


def request_for(path, host, token):
    """Return the bytes of a request, for connections that stay open."""
    return f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


# ---- many viewers ----------------------------------------------------------------------------------------


async def watch(base, token, last_step, arrivals):
    """Follow a run until its last step has come; keep when each step came."""
    host, _, port = base.removeprefix("http://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    writer.write(request_for("api/events?runs=run", f"{host}:{port}", token))
    is_steps = False
    while True:
        line = await reader.readline()
        if line.startswith(b"event: "):
            is_steps = line == b"event: steps\n"
        elif is_steps and line.startswith(b"data: "):
            now = time.time()
            steps = json.loads(line[6:])["step"]
            arrivals += [(step, now) for step in steps]
            if steps[-1] >= last_step:
                break
    writer.close()


async def view(base, token, viewers, last_step):
    arrivals = [[] for _ in range(viewers)]
    await asyncio.gather(*(watch(base, token, last_step, each) for each in arrivals))
    print(json.dumps(arrivals))


def write_at(file, rate, lines):
    """Write lines one by one at a rate; return when each was written."""
    written, begun = {}, time.perf_counter()
    with file.open("a") as opened:
        for count, line in enumerate(lines, start=1):
            time.sleep(max(0.0, begun + count / rate - time.perf_counter()))
            opened.write(line)
            opened.flush()
            written[count] = time.time()
    return written


def load(viewers, rate, seconds):
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "runs" / "run"
        run.mkdir(parents=True)
        file = run / "metrics.jsonl"
        file.write_text("")
        server = Server(run.parent)
        idle, cpu_before = server.memory_and_cpu()
        count = rate * seconds
        arguments = [sys.executable, __file__, "view", server.base, server.token, str(viewers), str(count)]
        watching = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        time.sleep(5.0)  # all viewers are there
        begun = time.perf_counter()
        written = write_at(file, rate, lines_of(count))
        took = time.perf_counter() - begun
        arrivals = json.loads(watching.communicate(timeout=60)[0])
        peak, cpu = server.memory_and_cpu()
        server.end()
    lags = [came - written[step] for each in arrivals for step, came in each]
    return {
        "viewers": viewers,
        "lines": count,
        "lines_per_second": round(count / took, 1),
        "bytes_per_line": len(next(lines_of(1))),
        "lost": sum(count - len({step for step, _ in each}) for each in arrivals),
        "told_twice": sum(len(each) - len({step for step, _ in each}) for each in arrivals),
        "seconds_to_address": round(server.seconds_to_address, 2),
        "server_megabytes_idle": round(idle, 1),
        "server_megabytes_most": round(peak, 1),
        "server_cpu_seconds": round(cpu - cpu_before, 2),
        "lag_median_seconds": round(statistics.median(lags), 3),
        "lag_95_percent_seconds": round(float(np.percentile(lags, 95)), 3),
    }


# ---- a long run ------------------------------------------------------------------------------------------


def milliseconds(function, times=20):
    """Return the median duration of a call."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        function()
        taken.append(1e3 * (time.perf_counter() - begun))
    return round(statistics.median(taken), 3)


def update_of_a_long_run():
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "metrics.jsonl"
        *before, last = lines_of(LONG_RUN + 1)
        file.write_text("".join(before))
        book = Book(file)
        begun = time.perf_counter()
        book.update()
        first = time.perf_counter() - begun
        keys = default_keys(book)[:5]
        nothing_new = milliseconds(book.update)

        def one_more():
            with file.open("a") as opened:
                opened.write(last)
            book.update()

        return {
            "steps": LONG_RUN,
            "file_megabytes": round(file.stat().st_size / 2**20, 1),
            "first_reading_seconds": round(first, 2),
            "update_milliseconds_nothing_new": nothing_new,
            "update_milliseconds_one_line": milliseconds(one_more),
            "five_series_whole_milliseconds": milliseconds(lambda: series(book, keys, last=LONG_RUN, points=LONG_RUN)),
            "five_series_1500_points_milliseconds": milliseconds(lambda: series(book, keys)),
        }


# ---- a training with and without a viewer ----------------------------------------------------------------


class Viewer:
    """What an open page does: it follows the events, and asks for the run and its series when it comes."""

    def __init__(self, server):
        self._server, self._connection = server, None

    def come(self):
        for path in ("api/runs/run", "api/runs/run/series"):
            self._server.ask(path)
        host, _, port = self._server.base.removeprefix("http://").rstrip("/").partition(":")
        self._connection = socket.create_connection((host, int(port)))
        self._connection.sendall(request_for("api/events?runs=run", f"{host}:{port}", self._server.token))
        threading.Thread(target=self._read, args=(self._connection,), daemon=True).start()

    @staticmethod
    def _read(connection):
        while connection.recv(1 << 16):
            pass

    def go(self):
        if self._connection is not None:
            self._connection.shutdown(socket.SHUT_RDWR)
            self._connection = None


def watched_in_turns(server, metrics, steps):
    """Let a viewer come and go until a training has made its steps; return the seconds of each, and who looked."""
    book, viewer, watched, there = Book(metrics), Viewer(server), {}, False
    while book.last_step < steps:
        time.sleep(0.02)
        book.update()
        state = read_state(metrics.with_name("state.json"))
        if state is not None and state.status != "running" and book.last_step < steps:
            sys.exit(f"the training has ended at step {book.last_step}: {state.why}")
        wanted = bool(book.last_step // BLOCK % 2)
        if wanted != there:
            (viewer.come if wanted else viewer.go)()
            there = wanted
        watched.setdefault(book.last_step, there)
    viewer.go()
    return dict(zip(book.values("step"), book.values("seconds"), strict=True)), watched


def slowdown(steps, prompts):
    """Return how much longer steps take with a viewer, by medians and an interval over blocks."""
    with tempfile.TemporaryDirectory() as temporary:
        recipe = Path(temporary) / "recipe.yaml"
        recipe.write_text(TRAINING.replace("STEPS", str(steps)).replace("PROMPTS", str(prompts)))
        server = Server(Path(temporary) / "runs", str(recipe))
        server.ask("api/runs", {"recipe": "recipe", "name": "run", "curve": CURVE})
        try:
            seconds, watched = watched_in_turns(server, Path(temporary) / "runs" / "run" / "metrics.jsonl", steps)
        finally:
            server.end()
    # The step in which the viewer comes or goes is neither one nor the other; the first ones warm up.
    kept = {step: value for step, value in seconds.items() if step > 2 * BLOCK and (step - 1) % BLOCK}
    of = {flag: [v for step, v in kept.items() if watched.get(step - 1, False) is flag] for flag in (False, True)}
    ratio = statistics.median(of[True]) / statistics.median(of[False])
    rng = np.random.default_rng(0)
    drawn = [
        np.median(rng.choice(of[True], len(of[True]))) / np.median(rng.choice(of[False], len(of[False])))
        for _ in range(2000)
    ]
    return {
        "steps": steps,
        "rollouts_a_step": 8 * prompts,
        "ratio": round(ratio, 4),
        "ratio_95_percent": [round(float(edge), 4) for edge in np.percentile(drawn, [2.5, 97.5])],
        "seconds_a_step_with_viewer": round(statistics.median(of[True]), 4),
        "seconds_a_step_without": round(statistics.median(of[False]), 4),
    }


def machine():
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    loaded = parts.add_parser("load", help="many viewers, and a long run")
    loaded.add_argument("--viewers", type=int, default=50)
    loaded.add_argument("--rate", type=int, default=480, help="lines a second")
    loaded.add_argument("--seconds", type=int, default=10)
    slowed = parts.add_parser("slowdown", help="a training with and without a viewer")
    slowed.add_argument("--steps", type=int, default=160)
    slowed.add_argument("--prompts", type=int, default=64, help="prompts of a step, of eight rollouts each")
    viewing = parts.add_parser("view", help="what `load` starts")
    for name, kind in (("base", str), ("token", str), ("viewers", int), ("last_step", int)):
        viewing.add_argument(name, type=kind)
    for part in (loaded, slowed):
        part.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    if given.part == "view":
        asyncio.run(view(given.base, given.token, given.viewers, given.last_step))
        return
    if given.part == "load":
        found = {"load": load(given.viewers, given.rate, given.seconds), "long_run": update_of_a_long_run()}
    else:
        found = slowdown(given.steps, given.prompts)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"machine": machine()} | found, indent=2) + "\n")
    print(given.output.read_text())


if __name__ == "__main__":
    main()
