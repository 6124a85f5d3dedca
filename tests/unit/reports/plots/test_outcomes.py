"""The picture of what the arms of a study came to."""

import pytest

from entrocraft.reports.plots import outcomes
from entrocraft.reports.plots.outcomes import Outcome, draw_frontiers, draw_tradeoff


@pytest.fixture
def drawn(monkeypatch):
    """Return the figure that a call draws."""
    figures = []
    monkeypatch.setattr(outcomes, "write_picture", lambda figure, file: figures.append(figure))

    def draw(*args, how=outcomes.draw_outcomes):
        how(*args, None)
        return figures[-1]

    return draw


def points(ax, marker):
    """Return what is drawn with a marker: numbers, and the row they are in."""
    return [(list(line.get_xdata()), line.get_ydata()[0]) for line in ax.lines if line.get_marker() == marker]


def test_each_seed_is_a_dot_beside_the_mean_in_the_row_of_its_arm(drawn):
    figure = drawn({"mean@32": {"grpo": Outcome([0.2, 0.4], 0.3, None), "token": Outcome([0.5], 0.5, None)}}, "grpo")
    (ax,) = figure.axes
    assert points(ax, ".") == [([0.2, 0.4], 0), ([0.5], 1)]
    assert points(ax, "o") == [([0.3], 0), ([0.5], 1)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["grpo", "token"]
    assert ax.yaxis_inverted()  # the first arm at the top


def test_an_interval_is_drawn_where_there_is_one(drawn):
    arms = {"grpo": Outcome([0.2], 0.2, None), "token": Outcome([0.1, 0.2, 0.3], 0.2, (0.1, 0.3))}
    (ax,) = drawn({"mean@32": arms}, "grpo").axes
    lines = [(list(line.get_xdata()), line.get_ydata()[0]) for line in ax.lines if line.get_linestyle() == "-"]
    assert lines == [([0.1, 0.3], 1)]


def test_a_line_stands_at_the_baseline_of_each_panel_that_has_one(drawn):
    scores = {"grpo": Outcome([0.2], 0.2, None), "token": Outcome([0.3], 0.3, None)}
    panels = {"mean@32": scores, "distance from the curve": {"token": Outcome([0.01], 0.01, None)}}
    scored, tracked = drawn(panels, "grpo").axes
    assert [line.get_xdata()[0] for line in scored.lines if line.get_linestyle() == "--"] == [0.2]
    assert [line for line in tracked.lines if line.get_linestyle() == "--"] == []
    assert points(tracked, "o") == [([0.01], 1)]  # in the same row as in the first panel


def test_a_tradeoff_names_the_baseline_and_what_it_is_told_to_and_shows_intervals(drawn):
    mean = {
        "grpo": Outcome([0.1, 0.2, 0.3], 0.2, (0.1, 0.3)),
        "token": Outcome([0.3], 0.3, None),
        "worse": Outcome([0.1], 0.1, None),
        "no breadth": Outcome([0.9], 0.9, None),
    }
    breadth = {
        "grpo": Outcome([0.5], 0.5, None),
        "token": Outcome([0.6], 0.6, None),
        "worse": Outcome([0.2], 0.2, None),
    }
    (ax,) = drawn(mean, breadth, ("mean@32", "pass@32"), "grpo", {"token"}, how=draw_tradeoff).axes
    assert {text.get_text() for text in ax.texts} == {"grpo", "token"}
    assert sorted(points(ax, "o")) == [([0.1], 0.2), ([0.2], 0.5), ([0.3], 0.6)]
    spans = [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines if line.get_linestyle() == "-"]
    assert spans == [([0.1, 0.3], [0.5, 0.5])]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean@32", "pass@32")


def test_a_frontier_is_a_line_an_arm_with_a_dot_a_temperature_and_only_some_have_names(drawn):
    frontiers = {"worse": [(0.1, 0.2)], "token": [(0.25, 0.8)], "grpo": [(0.3, 0.5), (0.2, 0.7)]}
    (ax,) = drawn(frontiers, ("mean@32", "pass@32"), "grpo", {"token"}, how=draw_frontiers).axes
    lines = [list(zip(*line.get_data(), strict=True)) for line in ax.lines]
    assert lines == [[(0.2, 0.7), (0.3, 0.5)], [(0.25, 0.8)], [(0.1, 0.2)]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["grpo", "token"]
