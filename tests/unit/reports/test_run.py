import pytest

from entrocraft.config import parse_config
from entrocraft.reports.plots.style import Figure, write_picture
from entrocraft.reports.run import entropy_section, write_report
from entrocraft.runs import RunDirectory
from entrocraft.runs.tracking import summarise_tracking


def test_reports_and_pictures_cope_with_what_was_not_measured(tmp_path):
    run = RunDirectory(tmp_path / "run")
    line = {"entropy": 0.5, "target": 0.4, "lower": 0.3, "upper": 0.5, "kept_fraction": 0.5, "reward": 0.1}
    with run.opened(parse_config({}).to_dict(), resume=False):
        for step, missing in enumerate([{}, {"entropy"}, {"target"}, {"lower"}, {"reward"}, {"kept_fraction"}, {}], 1):
            run.append_metrics({"step": step, "seconds": None} | line | dict.fromkeys(missing))
        run.append_metrics({"step": 8, "entropy": 0.5})  # columns that are not there at all
        run.append_metrics({"step": 8, "eval/pass@8": 0.5})
        run.append_metrics({"step": 8, "eval/mean@4": float("nan"), "eval/mean@4/low": 0.1, "eval/mean@4/high": 0.2})
    write_report(run)
    assert "| 8 | 0.500 | - |" in run.report_file.read_text() and run.curve_file.exists()
    assert summarise_tracking(run.step_metrics()).num_steps == 3


def test_a_run_of_which_nothing_was_measured_is_reported(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.opened(parse_config({}).to_dict(), resume=False):
        run.append_metrics({"step": 1, "entropy": None})
    write_report(run)
    assert "1 of 150 steps" in run.report_file.read_text() and not run.curve_file.exists()


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(self, file, **options):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_picture(Figure(), tmp_path / "new" / "curve.png")
    assert error.value.filename == str(tmp_path / "new" / "curve.png") and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("edge", ["target", "lower", "upper"])
def test_a_last_step_without_an_edge_of_its_band_is_left_out_of_the_verdict(edge):
    line = {"entropy": 1.0, "target": 0.5, "lower": 0.4, "upper": 0.6, "kept_fraction": 0.5}
    assert "entropy ran above it" in entropy_section([line] * 9 + [line | {edge: None}])
