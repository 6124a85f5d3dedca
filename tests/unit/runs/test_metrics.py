"""The table of columns: it covers what is written, and the page and the files agree with it."""

import json
from pathlib import Path

import pytest
import torch

import entrocraft as ec
from entrocraft import dynamics
from entrocraft.control import EntropyControl
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.reports.metrics_page import metrics_page
from entrocraft.runs.metrics import COLUMNS, OLD_NAMES, QUADRANTS, REQUIRED, column_of, measure_of

ROOT = Path(__file__).parents[3]
RECORDED = sorted(ROOT.glob("results/demo/*/metrics.jsonl")) + sorted(ROOT.glob("results/smollm2/**/metrics.jsonl"))


def names_without_a_column(metrics):
    return sorted(name for name in metrics if column_of(name) is None)


def test_every_step_has_what_was_promised():
    promised = "step entropy target lower upper direction kept_fraction reward tokens seconds"
    assert list(REQUIRED) == promised.split()


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
def test_every_recorded_column_is_in_the_table(file):
    recorded = {name for line in file.read_text().splitlines() for name in json.loads(line)}
    assert {"step", "entropy"} <= recorded and not names_without_a_column(recorded)


def test_there_are_recorded_runs():
    assert len(RECORDED) >= 2


def test_the_page_says_what_the_table_says():
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_page(), "python -m entrocraft.reports.metrics_page"


def test_every_row_can_be_read_alone():
    for name, column in COLUMNS.items():
        assert column.name == name and column.writer
        assert column.meaning[0].isupper() or column.meaning.startswith("EntroPIC")
        assert column.meaning.endswith("."), name
    assert all(new in COLUMNS and old not in COLUMNS for old, new in OLD_NAMES.items())


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("entropy", "entropy"),
        ("gain_0", "gain_<term>"),
        ("effect_12", "effect_<term>"),
        ("fallback_skip", "fallback_<stage>"),
        ("guard_out_of_reach", "guard_<symptom>"),
        ("guard_offset", "guard_offset"),
        ("quadrants/positive_rare", "quadrants/<quadrant>"),
        ("kept_quadrants/negative_rare", "kept_quadrants/<quadrant>"),
        ("eval/pass@8", "eval/<measure>"),
        ("eval/mean@32/low", "eval/<measure>/<edge>"),
        ("restlessness", "process_noise_scale"),
    ],
)
def test_a_name_finds_its_column(name, column):
    assert column_of(name) is COLUMNS[column]


@pytest.mark.parametrize(
    "name", ["", "entropyy", "gain_", "gain_x", "quadrants/positive", "eval/a/b/c", "gain_<term>x"]
)
def test_what_is_no_column_finds_none(name):
    assert column_of(name) is None


def test_scores_are_told_from_their_intervals():
    assert (measure_of("eval/pass@8"), measure_of("eval/pass@8/high"), measure_of("reward")) == ("pass@8", None, None)


def test_the_quadrants_are_those_of_the_theory():
    assert QUADRANTS == dynamics.QUADRANTS


def batch_stats(step, entropy):
    return ec.BatchStats(
        step=step,
        total_steps=100,
        entropy=entropy,
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.5]),
        rewards=torch.tensor([1.0, -1.0, 1.0, -1.0]),
        groups=torch.tensor([0, 0, 1, 1]),
        num_tokens=torch.tensor([3.0, 4.0, 5.0, 6.0]),
        predicted_change=torch.tensor([0.2, -0.1, 0.3, -0.4]),
        entropy_stderr=0.01,
    )


@pytest.mark.parametrize("rule", ["advantage", "reward", "predicted", "aligned", "probabilistic", "budget"])
@pytest.mark.parametrize("schedule", ["linear(0.6, 0.4)", "adaptive(linear(0.6, 0.4), patience=2)"])
def test_controllers_log_no_column_that_is_not_in_the_table(rule, schedule):
    controller = ec.RejectionController(ec.Band(schedule, width=0.04), rule=rule)
    for step, entropy in enumerate((0.5, 0.3, 0.8), start=1):
        assert not names_without_a_column(controller.decide(batch_stats(step, entropy)).metrics)


@pytest.mark.parametrize("name", ec.controllers.available())
def test_what_engines_log_of_any_method_is_in_the_table(name, tmp_path):
    control = EntropyControl(schedule=0.5, method=name, steering=str(tmp_path / "steering.yaml"))
    decider = Decider(control.build(), control, OneRank(), by_rollout=False)
    entropy_BT = torch.tensor([[0.3, 0.6], [0.9, 0.2], [0.4, 0.1], [0.7, 0.5]])
    advantages_B = torch.tensor([1.0, -1.0, 0.5, -0.5])
    rollouts = Rollouts(
        stats=TokenStats(-entropy_BT, entropy_BT), advantages=advantages_B, mask_BT=torch.ones_like(entropy_BT)
    )
    groups = torch.tensor([0, 0, 1, 1])
    update = decider.decide(rollouts, step=1, total_steps=9, groups=groups, rewards=advantages_B.double())
    assert "quadrants/positive_rare" in update.decision.metrics
    assert not names_without_a_column(update.decision.metrics)
