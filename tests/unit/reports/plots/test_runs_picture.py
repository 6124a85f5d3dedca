"""The picture of runs: rewards and mean scores, and beside them what is still found when asked often."""

import pytest

from entrocraft.config import parse_config
from entrocraft.reports.plots import runs as picture
from entrocraft.runs import RunDirectory


@pytest.mark.parametrize("has_breadth", [True, False])
def test_pass_at_the_largest_k_is_drawn_beside_the_mean(tmp_path, monkeypatch, has_breadth):
    drawn = []
    monkeypatch.setattr(picture, "write_picture", lambda figure, file: drawn.append(figure))
    run = RunDirectory(tmp_path / "run")
    with run.opened(parse_config({}).to_dict(), resume=False):
        for step in (1, 2):
            run.append_metrics({"step": step, "entropy": 0.5, "reward": 0.1})
            for name, score in (("mean@8", 0.2), ("pass@1", 0.2), ("pass@8", 0.6))[: 3 if has_breadth else 1]:
                column = f"eval/{name}"
                run.append_metrics({"step": step, column: score, f"{column}/low": score, f"{column}/high": score})
    picture.draw_runs([run], tmp_path / "picture.png")
    _, rewards, *breadth = drawn[0].axes
    assert "run: held-out mean@8" in rewards.get_legend_handles_labels()[1]
    assert [ax.get_legend_handles_labels()[1] for ax in breadth] == [["run: held-out pass@8"]] * has_breadth
