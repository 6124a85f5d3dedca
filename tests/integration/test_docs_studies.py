"""docs/studies.md: its files are studies, and its keys are those of the code."""

import re
from pathlib import Path

import pytest
import yaml

from entrocraft.study import StudyConfig, cells_of, load_study
from entrocraft.study.settings import parse_study

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text()
SHOWN = [yaml.safe_load(code) for code in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("data", SHOWN, ids=lambda data: data["title"])
def test_every_study_shown_can_be_made(data):
    assert cells_of(parse_study(data))


def test_the_first_study_shown_names_every_key_but_those_of_phases_and_tasks():
    assert StudyConfig.model_fields.keys() - SHOWN[0].keys() == {"phases", "tasks"}


def test_an_arm_of_phases_does_in_each_what_it_says():
    cells = {cell.arm: cell for cell in cells_of(parse_study(SHOWN[1]))}
    opened, alone = cells["open in A"], cells["B alone"]
    assert [run.resolved().control is None for run in opened.runs] == [False, True]
    assert [run.phase for run in alone.runs] == ["B"]


@pytest.mark.parametrize("file", sorted((ROOT / "recipes" / "study").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_study_among_the_recipes_can_be_read(file):
    study = load_study(file)
    assert cells_of(study)
    assert study.about, "what is asked, and what would refute it, is written before the runs"
