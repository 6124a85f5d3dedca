import json
import multiprocessing

import pytest
from filelock import FileLock
from support.checkpoints import write_checkpoint

from entrocraft.config import parse_config, resolved
from entrocraft.errors import InvalidValueError, RunDirectoryError
from entrocraft.reports.run import entropy_section
from entrocraft.runs import RunDirectory, model_path_of
from entrocraft.runs.tracking import summarise_tracking

CONFIG = {"seed": 0, "train": {"steps": 10}}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def begin(run, config=CONFIG, resume=False):
    with run.opened(config, resume=resume):
        pass


def checkpoint(run, step, whole=True):
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}" if whole else '{"global')
    return folder


def test_a_new_run_leaves_its_configuration(run):
    begin(run)
    assert run.config() == CONFIG


def test_a_directory_that_holds_a_run_is_refused_unless_resumed(run):
    begin(run)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        begin(run)
    begin(run, resume=True)


def test_a_resumed_run_must_be_the_same_run(run):
    begin(run)
    with pytest.raises(RunDirectoryError, match=r"begun with train\.steps=10, now 20"):
        begin(run, {"seed": 0, "train": {"steps": 20}}, resume=True)


def test_what_is_no_run_is_left_untouched(run):
    run.path.mkdir()
    (run.path / "thesis.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="not empty"):
        begin(run)
    assert [child.name for child in run.path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="is a file"):
        begin(RunDirectory(run.path / "thesis.tex"))
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        run.config()


def _hold(path, held, release):
    with FileLock(path):
        held.set()
        release.wait(30)


def test_a_folder_that_was_there_stays_when_a_run_cannot_begin(run):
    run.path.mkdir()
    for raised in (ValueError, OSError, RunDirectoryError):
        with pytest.raises(raised), run.opened(CONFIG, resume=False):
            run.append_metrics({"step": 0, "eval/mean@2": 0.1})
            write_checkpoint(run, 1)
            (run.path / "notes.txt").write_text("written by a person meanwhile")
            raise raised
        assert [child.name for child in run.path.iterdir()] == ["notes.txt"]
        (run.path / "notes.txt").unlink()
    with pytest.raises(ValueError), RunDirectory(run.path / "a" / "b").opened(CONFIG, resume=False):
        raise ValueError
    assert not [*run.path.iterdir()]


def test_a_run_that_made_a_step_stays_whatever_happens(run):
    with pytest.raises(ValueError), run.opened(CONFIG, resume=False):
        run.append_metrics({"step": 1, "entropy": 0.1})
        raise ValueError
    assert run.exists and run.last_step() == 1


@pytest.mark.parametrize("text", ["", "[]", "3", '"train"', '{"train": 3}', "{", "\x00", "[" * 100000])
def test_a_configuration_of_another_shape_is_no_run(run, text):
    begin(run)
    run.config_file.write_text(text)
    assert not run.exists
    with pytest.raises(RunDirectoryError, match="is not a run directory: its config.json"):
        run.config()
    with pytest.raises(RunDirectoryError, match="not"):
        begin(run, resume=True)


def test_a_directory_in_use_by_another_process_is_refused(run):
    run.path.mkdir()
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(run.path / ".lock", held, release))
    process.start()
    assert held.wait(60)
    try:
        with pytest.raises(RunDirectoryError, match="in use by another process"):
            begin(run)
        assert not run.exists
    finally:
        release.set()
        process.join()
    begin(run)


def test_the_newest_whole_checkpoint_counts(run):
    assert run.last_checkpoint() is None
    checkpoint(run, 5)
    newest = checkpoint(run, 10)
    checkpoint(run, 15, whole=False)
    (run.checkpoints / "checkpoint-20").mkdir()
    (run.checkpoints / "checkpoint-x").mkdir()
    assert run.last_checkpoint() == (10, newest)


def test_rewinding_forgets_later_steps_and_half_lines(run):
    begin(run)
    for step in range(1, 6):
        run.append_metrics({"step": step, "entropy": 0.5})
    run.append_metrics({"step": 4, "eval/mean@2": 0.1})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 6, "entr')
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4, 5, 4]
    run.rewind_to(4)
    assert [line["step"] for line in run.step_metrics()] == [1, 2, 3, 4]
    assert run.eval_metrics() == [{"step": 4, "eval/mean@2": 0.1}]
    assert all(json.loads(line) for line in run.metrics_file.read_text().splitlines())


def test_a_run_stands_for_its_newest_checkpoint(run):
    assert model_path_of("org/model") == "org/model"
    begin(run)
    with pytest.raises(InvalidValueError, match="no checkpoint yet"):
        model_path_of(str(run.path))
    folder = write_checkpoint(run, 3)
    assert model_path_of(str(run.path)) == str(folder)


def test_tracking_is_summarised_over_the_last_four_fifths():
    line = {"target": 0.4, "lower": 0.38, "upper": 0.42, "kept_fraction": 0.5}
    lines = [line | {"entropy": 0.9}] * 2 + [line | {"entropy": 0.41}] * 6 + [line | {"entropy": 0.5}] * 2
    summary = summarise_tracking(lines)
    assert summary.num_steps == 8
    assert summary.mean_error == pytest.approx((6 * 0.01 + 2 * 0.1) / 8)
    assert summary.p95_error == pytest.approx(0.1)
    assert summary.in_band == 6 / 8
    assert summary.kept_fraction == 0.5
    assert summarise_tracking([{"entropy": 0.5, "target": None}]) is None
    assert summarise_tracking([]) is None


@pytest.mark.parametrize(
    ("entropy", "standard_error", "verdict"),
    [
        (0.41, 0.05, "The curve was followed: on average entropy stayed within the band."),
        (0.44, 0.05, "as closely as steps of this size can tell"),
        (0.44, 0.03, "followed loosely: entropy ran above it"),
        (0.35, 0.001, "The curve was not followed: entropy ran below it. Try another method"),
        (0.35, 0.001, "a lower learning rate"),
        (0.45, 0.001, "a higher learning rate"),
        (0.35, 0.03, "followed loosely: entropy ran below it"),
    ],
)
def test_the_verdict_on_a_curve_knows_how_well_entropy_is_read(entropy, standard_error, verdict):
    line = {"target": 0.4, "lower": 0.38, "upper": 0.42, "kept_fraction": 0.5, "entropy": entropy}
    section = entropy_section([line | {"entropy_stderr": standard_error}] * 10)
    assert verdict in section
    assert f"| standard error of one step's entropy | {standard_error:.4f} nats |" in section
    assert "learning rate, all" not in section
    assert "standard error" not in entropy_section([line] * 10)


def test_the_report_says_at_which_rate_was_learnt_where_the_method_turns_it():
    line = {"target": 0.4, "lower": 0.38, "upper": 0.42, "kept_fraction": 1.0, "entropy": 0.4}
    section = entropy_section([line | {"learning_rate_factor": factor} for factor in (0.1, 0.2, 0.6)])
    assert "| factor on the learning rate, all steps | 0.30 (0.10 to 0.60) |" in section


def test_a_run_of_version_0_1_may_be_gone_on_with(tmp_path):
    control = {"schedule": {"type": "linear", "start": 0.6, "end": 0.2}, "rule": "token"}
    config = parse_config({"control": control, "train": {"steps": 7}}).to_dict()
    # As version 0.1 wrote it: every option of every method, at its default.
    silent = {"normalize": "kept", "reward_baseline": 0.0, "visitation": False, "min_kept": 0.1, "fallback": "skip"}
    silent |= {"entropy_bonus": 0.0, "rejected": "drop", "predictor": "estimate", "aligned_share": 1.0}
    old = {"method": "rejection", "aggregation": "token_mean", **control, **silent}
    (tmp_path / "config.json").write_text(json.dumps(config | {"control": old}))
    run = RunDirectory(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"was begun with control\."):
        run.refuse_unless_usable(config, resume=True)
    run.refuse_unless_usable(config, resume=True, read=resolved)
    with pytest.raises(RunDirectoryError, match="train.steps=7, now 9"):
        run.refuse_unless_usable(config | {"train": config["train"] | {"steps": 9}}, resume=True, read=resolved)


def test_what_a_process_left_that_was_killed_while_it_wrote_is_no_obstacle_and_goes(run):
    run.path.mkdir()
    (run.path / ".lock").touch()
    left = run.path / f".{'0' * 32}.json"  # the configuration itself, before it took its place
    left.write_text('{"train": ')
    with run.opened(CONFIG, resume=False):
        assert not left.exists()
    left.write_text("half of a later file")
    with run.opened(CONFIG, resume=True):
        assert not left.exists()


def test_a_run_that_has_lost_its_configuration_is_told_from_what_is_no_run(run):
    begin(run)
    run.append_metrics({"step": 1, "entropy": 0.5})
    run.config_file.unlink()
    with pytest.raises(RunDirectoryError, match="config.json is missing.*put it back"):
        begin(run, resume=True)
