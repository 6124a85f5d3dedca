"""What the pages quote of messages, results, recipes, public names and pictures is what these are."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import entrocraft as ec
from entrocraft.analysis import explanation
from entrocraft.analysis.diagnosis import prospects, recommendation
from entrocraft.control import guard
from entrocraft.reports import diagnosis as diagnosis_report
from entrocraft.reports import explanation as explanation_report

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def texts_of(*modules):
    """Return all pieces of text in the source of modules, joined as Python joins them."""
    trees = [ast.parse(Path(module.__file__).read_text()) for module in modules]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(text for text in constants if isinstance(text, str))


@pytest.mark.parametrize(
    ("heading", "modules", "column"),
    [
        ("What `diagnose` says", (recommendation, prospects, diagnosis_report), 0),
        ("What `explain` says", (explanation, explanation_report), 0),
        ("What the guard warns of", (guard,), 1),
    ],
    ids=["diagnose", "explain", "guard"],
)
def test_what_troubleshooting_quotes_is_said(heading, modules, column):
    page = (DOCS / "troubleshooting.md").read_text()
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    rows = [line.split("|")[1:] for line in section.splitlines() if line.startswith("| ")][1:]
    quoted = [text for row in rows for text in re.findall(r"`([^`]*)`", row[column])]
    assert len(quoted) >= len(rows) >= 4
    said = texts_of(*modules)
    assert [text for text in quoted if text not in said] == []
    if modules == (guard,):
        assert [row[0].strip(" `") for row in rows] == list(guard.SYMPTOMS)


def test_the_numbers_of_the_new_pages_are_those_of_the_results():
    def read(path):
        return json.loads((ROOT / "results" / path).read_text())

    def ends(values, form):
        return f"{min(values):{form}} to {max(values):{form}}"

    concepts, faq, results = ((DOCS / f"{page}.md").read_text() for page in ("concepts", "faq", "results"))
    found = read("diagnose/countdown-base.json")
    assert f"for {found['agreement']['advantage']['by_count'] * 100:.0f} % of the rollouts" in concepts
    assert f"32 prompts of 8 rollouts is {found['entropy_stderr']:.3f} nats" in faq

    curves = read("tracking/summary.json")["countdown"]["curves"].values()
    far = {name: ends([c[name]["mean_error"][0] for c in curves], ".3f") for name in ("token", "budget", "advantage")}
    assert f"`token` stays {far['token']} nats" in concepts and f"entropy stays {far['token']} nats" in results
    assert f"`budget` {far['budget']}, and Algorithm 1 {far['advantage']}" in concepts
    assert f"the distance is {far['advantage']} on this model" in results
    figures = read("verl/tracking.json")["figures"]
    assert f"stays {ends([figures[f'seed {i}']['mean_error'] for i in range(3)], '.4f')} nats" in results

    lines = (ROOT / "results/saturation/table.md").read_text().splitlines()
    *_, row = (line.strip("| ").split(" | ") for line in lines if line.startswith("| curve | 0.6 |"))
    _, _, _, _, pass_end, mean, _, pass_mean = row
    for page in (faq, results):
        assert f"higher by {pass_mean}" in page.replace(" with the curve", "")
        assert mean.replace("-", "\N{MINUS SIGN}") in page
    assert f"the lead in pass@32 is {pass_end}" in results

    cases = read("benchmarks/step_time.json")["cases"].values()
    *usual, worst = sorted(round(case["overhead_of_keeping_all"] * 100) for case in cases)
    update = ends([case["update_time_at_half_kept"] for case in cases], ".2f")
    for page in (faq, results):
        assert f"{usual[0]} to {usual[-1]} %" in page and f"{worst} % in the worst case" in page and update in page
    faults = read("trust/faults.json")["table"]
    assert f"{sum(kind['tried'] for name, kind in faults.items() if name != 'all')} trainings" in results


def test_every_recipe_is_on_its_page():
    page = (DOCS / "recipes.md").read_text()
    recipes = ROOT / "recipes"
    assert [f for f in (*recipes.glob("*.yaml"), *recipes.glob("study/*.yaml")) if f.name not in page] == []


def test_the_api_page_has_every_public_name():
    names = re.findall(r"^<!-- ::: entrocraft\.([\w.]+) -->$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert {name.split(".")[-1] for name in names if name.split(".")[0] not in ("engines", "tasks")} >= {
        name for name in ec.__all__ if name not in ("advantages", "controllers")
    }
    assert {"advantages.available", "advantages.estimate", "controllers.available", "controllers.build"} <= set(names)


@pytest.mark.slow
def test_the_pictures_can_be_drawn(tmp_path):
    command = [sys.executable, "scripts/docs_pictures.py", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (DOCS / "pictures").iterdir()}
