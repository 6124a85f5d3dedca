"""The picture of what the arms of a study came to."""

import pytest

from entrocraft.reports.plots import outcomes
from entrocraft.reports.plots.outcomes import Outcome


@pytest.fixture
def drawn(monkeypatch):
    """Return the figure that a call draws."""
    figures = []
    monkeypatch.setattr(outcomes, "write_picture", lambda figure, file: figures.append(figure))

    def draw(*args):
        outcomes.draw_outcomes(*args, None)
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
