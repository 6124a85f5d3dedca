"""Raw numbers in results/, and the sentences of the docs that are held against them."""

import json
import re
import statistics
from pathlib import Path

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def read(path):
    return json.loads((RESULTS / path).read_text(encoding="utf-8"))


def read_lines(path):
    return [json.loads(line) for line in (RESULTS / path).read_text(encoding="utf-8").splitlines()]


def distance(entropy, target, after=0.0):
    """Return the mean distance of entropy from its target, from this share of the steps on."""
    pairs = list(zip(entropy, target, strict=True))[int(after * len(entropy)) :]
    return statistics.mean(abs(value - wanted) for value, wanted in pairs)


def table_row(path, start, cells):
    """Return the cells of the row of a table of Markdown that begins so and has so many of them."""
    lines = (RESULTS / path).read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(start) and line.count("|") == cells + 1]
    return row.strip("|").split("|")


def percent(share):
    return f"{share:.0%}".replace("%", " %")


def says(page, claim):
    """Return whether a page holds a sentence, wherever its lines break."""
    text, claim = (re.sub(r"\s+", " ", each) for each in ((ROOT / page).read_text(encoding="utf-8"), claim))
    return claim in text
