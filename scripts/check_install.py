"""Install the wheel where there is no checkout, and try what the README begins with.

    make check-wheel     # the newest releases that the bounds of pyproject.toml allow
    make versions        # the oldest, too, and the tests that compare the engine with TRL's own trainers

Makes a virtual environment of its own, works in an empty folder, and removes both.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"  # as in the Makefile: nothing larger is fetched after it
EXTRAS = ("trl", "plots")
SHOWN = ("torch", "transformers", "trl", "accelerate", "datasets")
ENGINE_TESTS = [
    f"tests/integration/test_{name}.py"
    for name in (
        "trl_undisturbed",
        "trl_masked_by_hand",
        "trl_nothing_kept",
        "trl_checkpoints",
        "trl_refused",
        "trl_visitation",
        "sampling_record",
    )
]
NEEDED_BY_TESTS = ("pytest", "hypothesis", "peft")
DEMO_FILES = [f"grpo/{name}" for name in ("metrics.jsonl", "report.md", "curve.png")] + ["comparison.png"]


def oldest() -> Iterator[str]:
    """Yield the lower bounds of what the extras ask for, as pins; torch stays what it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]:
        name, bound = re.match(r"([\w-]+).*?>=([\w.]+)", requirement).groups()  # type: ignore[union-attr]
        if name != "torch":
            yield f"{name}=={bound}"


def check(wheel: Path, python: str, *, torch: str, old: bool, with_tests: bool, steps: int) -> dict[str, object]:
    """Install the wheel for a Python, run the commands, and return what was found."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        bin_folder = here / "venv" / "bin"
        # The environment of whoever calls has no say: neither its packages nor its checkout.
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for busy cores take minutes

        def run(*command: str, cwd: Path = here) -> str:
            print("$", *command[:1], *(word.replace(folder, "TMP") for word in command[1:]), flush=True)
            done = subprocess.run(
                command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                sys.exit(f"{done.stdout[-4000:]}\nexit {done.returncode}: {' '.join(command)}")
            return done.stdout

        run(python, "-m", "venv", str(here / "venv"))
        pip = [str(bin_folder / "python"), "-m", "pip", "install", "--quiet"]
        run(*pip, f"torch=={torch}")
        run(*pip, f"{wheel.resolve()}[{','.join(EXTRAS)}]", *(oldest() if old else ()))
        installed = time.perf_counter()
        entrocraft = str(bin_folder / "entrocraft")
        assert "demo" in run(entrocraft, "--help")
        found = json.loads(run(entrocraft, "env", "--json"))
        assert found["extras"]["trl"] == [], found
        print(run(entrocraft, "env"))
        print(run(entrocraft, "demo", "--steps", str(steps), "--output", "demo"))
        missing = [name for name in DEMO_FILES if not (here / "demo" / name).stat().st_size]
        assert not missing, missing
        tested = None
        if with_tests:
            run(*pip, *NEEDED_BY_TESTS)
            out = run(str(bin_folder / "python"), "-m", "pytest", "-q", *ENGINE_TESTS, cwd=ROOT)
            tested = out.strip().splitlines()[-1]
            print(tested)
        return {
            "python": found["system"]["python"],
            "versions": {name: found["packages"][name] for name in SHOWN},
            "demo": f"{steps} steps of both runs",
            "engine_tests": tested,
            "seconds_to_install": round(installed - began),
            "seconds": round(time.perf_counter() - began),
        }


def main() -> None:
    """Check what was asked for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--oldest", action="store_true", help="the oldest releases that the bounds allow")
    parser.add_argument("--torch", default=TORCH, help="another release of it; most take gigabytes")
    parser.add_argument("--tests", action="store_true", help="compare the engine with TRL's own trainers, too")
    parser.add_argument("--steps", type=int, default=1, help="of the demo's runs")
    parser.add_argument("--output", type=Path, help="add a line to this file")
    args = parser.parse_args()
    found = check(args.wheel, args.python, torch=args.torch, old=args.oldest, with_tests=args.tests, steps=args.steps)
    line = json.dumps({"releases": "oldest" if args.oldest else "newest", **found})
    print(line)
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        with args.output.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
