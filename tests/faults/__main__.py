"""Tries every fault on real trainings and prints what became of them; `python -m faults --help`."""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from faults.bench import Bench
from faults.everything import all_faults, not_tried
from faults.table import Rows


def main() -> None:
    """Try the faults one after another, and exit with 1 if one was not survived."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--random-moments", type=int, default=50, help="signals at random moments")
    parser.add_argument("--only", metavar="WORDS", default="", help="faults whose kind or name has these words")
    parser.add_argument("--output", type=Path, default=Path("results/trust/faults.json"))
    parser.add_argument("--go-on", action="store_true", help="try only what the output does not have as survived")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no fault after so many minutes")
    wanted = parser.parse_args()
    deadline = time.monotonic() + 60 * wanted.minutes
    command = f"make faults SEED={wanted.seed} MOMENTS={wanted.random_moments}"
    rows = Rows(wanted.output, {"command": command, "seed": wanted.seed}, go_on=wanted.go_on)
    faults = [*all_faults(wanted.seed, wanted.random_moments)]
    rows.drop_all_but(faults)
    rows.say_not_tried(not_tried())
    failed = left_out = 0
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True))
        bench = Bench(Path(folder))
        stack.callback(bench.close)
        for fault in faults:
            if wanted.only not in f"{fault.kind}: {fault.name}" or rows.has(fault):
                continue
            if time.monotonic() > deadline:
                left_out += 1
                continue
            begun = time.monotonic()
            verdict = fault.happen(bench)
            rows.add(fault, verdict, time.monotonic() - begun)
            failed += not verdict.survived
            told = "; ".join([*verdict.problems, verdict.said])
            mark = "survived" if verdict.survived else "NOT SURVIVED"
            print(f"{mark}  {fault.kind}: {fault.name} [{verdict.training}]  {told}", flush=True)
    print(f"\n{rows}")
    for kind, why in not_tried().items():
        print(f"not tried here: {kind}, since {why}")
    if left_out:
        print(f"not tried for want of time: {left_out}")
    sys.exit(1 if failed or left_out else 0)


if __name__ == "__main__":
    main()
