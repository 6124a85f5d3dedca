import os
import zipfile

import pytest
from support.checkpoints import write_checkpoint

from entrocraft.errors import InvalidValueError, RunDirectoryError
from entrocraft.runs import RunDirectory, model_path_of
from entrocraft.runs.checkpoints import Checkpoint, checkpoints_in, rotate

NEEDED = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "entrocraft.json", "config.json"]


@pytest.fixture
def run(tmp_path):
    """Return a run with checkpoints of step 4 and 8, and metrics to step 8."""
    run = RunDirectory(tmp_path / "run")
    with run.opened({"train": {"steps": 8}}, resume=False):
        for step in range(1, 9):
            run.append_metrics({"step": step, "entropy": 0.5})
    for step in (4, 8):
        write_checkpoint(run, step)
    return run


def newest(run):
    return run.checkpoints / "checkpoint-8"


def test_a_whole_checkpoint_is_resumed_from(run):
    assert run.checkpoint_to_resume(controlled=True).step == 8
    assert run.checkpoint_to_resume(controlled=True, step=4).step == 4
    assert run.checkpoint_to_resume(controlled=True, step=0) is None


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_is_named_with_the_newest_whole_checkpoint(run, name):
    (newest(run) / name).unlink()
    before = run.metrics_file.read_bytes()
    with pytest.raises(RunDirectoryError, match=rf"{name} is missing; .* step 4.*--resume-from 4"):
        run.checkpoint_to_resume(controlled=True)
    assert run.metrics_file.read_bytes() == before


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_what_was_cut_short_is_named(run, name, share):
    file = newest(run) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunDirectoryError, match=rf"{name}.*--resume-from 4"):
        run.checkpoint_to_resume(controlled=True)


def test_changed_bytes_in_the_middle_of_an_archive_are_found(run):
    file = newest(run) / "optimizer.pt"
    with zipfile.ZipFile(file) as archive:
        part = next(part for part in archive.infolist() if part.filename.endswith("data.pkl"))
    content = bytearray(file.read_bytes())
    content[content.index(b"\x80\x02", part.header_offset) + 5] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(RunDirectoryError, match="optimizer.pt is damaged"):
        run.checkpoint_to_resume(controlled=True)


def test_the_state_of_control_is_needed_only_under_control(run):
    (newest(run) / "entrocraft.json").unlink()
    assert run.checkpoint_to_resume(controlled=False).step == 8


def test_shards_are_all_looked_for(run):
    folder = newest(run)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(str(index).replace("'", '"'))
    with pytest.raises(RunDirectoryError, match="model-00002-of-00002.safetensors is missing"):
        run.checkpoint_to_resume(controlled=True)


def test_an_adapter_needs_its_own_weights(run):
    folder = newest(run)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="adapter_model.safetensors is missing"):
        run.checkpoint_to_resume(controlled=True)


def test_without_another_whole_checkpoint_one_may_begin_again(run):
    for step in (4, 8):
        (run.checkpoints / f"checkpoint-{step}" / "optimizer.pt").unlink()
    with pytest.raises(RunDirectoryError, match="no earlier checkpoint is whole.*--resume-from 0"):
        run.checkpoint_to_resume(controlled=True)


def test_a_checkpoint_that_is_not_there_is_refused(run):
    with pytest.raises(RunDirectoryError, match=r"no checkpoint of step 5; there are: 4, 8"):
        run.checkpoint_to_resume(controlled=True, step=5)


def test_one_that_was_not_written_to_its_end_is_passed_over(run):
    (newest(run) / "trainer_state.json").write_text('{"glob')
    assert run.checkpoint_to_resume(controlled=True).step == 4


def test_metrics_that_end_before_the_checkpoint_are_refused(run):
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join(lines[:6]))
    with pytest.raises(RunDirectoryError, match="ends at step 6, before the checkpoint of step 8"):
        run.checkpoint_to_resume(controlled=True)
    assert run.checkpoint_to_resume(controlled=True, step=8).step == 8


def test_going_back_forgets_the_checkpoints_after_it(run):
    run.rewind_to(4)
    assert [each.step for each in checkpoints_in(run.checkpoints)] == [4] and run.last_step() == 4


def test_checkpoints_go_by_number_not_by_time(run):
    write_checkpoint(run, 12)
    os.utime(run.checkpoints / "checkpoint-12", (1, 1))  # the clock was set back
    rotate(run.checkpoints, 2, newest=12)
    assert [each.step for each in checkpoints_in(run.checkpoints)] == [8, 12]
    rotate(run.checkpoints, 1, newest=12)
    assert [each.step for each in checkpoints_in(run.checkpoints)] == [12]


def test_torn_checkpoints_do_not_push_whole_ones_out(run):
    (newest(run) / "trainer_state.json").unlink()
    write_checkpoint(run, 12)
    rotate(run.checkpoints, 2, newest=12)
    assert [each.step for each in checkpoints_in(run.checkpoints)] == [4, 12]


@pytest.mark.parametrize("keep", [None, 0])
def test_without_a_limit_all_stay(run, keep):
    rotate(run.checkpoints, keep, newest=8)
    assert len(checkpoints_in(run.checkpoints)) == 2


def test_a_model_of_before_the_last_metrics_is_warned_of(run):
    run.append_metrics({"step": 9, "entropy": 0.5})
    with pytest.warns(UserWarning, match="checkpoint is of step 8, and the metrics go to step 9"):
        assert model_path_of(str(run.path)) == str(newest(run))


def test_weights_that_are_gone_are_refused_for_evaluation(run):
    (newest(run) / "model.safetensors").unlink()
    with pytest.raises(InvalidValueError, match="model.safetensors is missing"):
        model_path_of(str(run.path))


def test_random_numbers_of_every_rank_are_wanted(run):
    one, folder = checkpoints_in(run.checkpoints)[-1], newest(run)
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    assert one.damage(controlled=True) == one.missing() == []  # on one process, whoever saved it
    assert one.missing(ranks=2) == ["rng_state_1.pth"]
    assert one.damage(controlled=True, ranks=2) == ["rng_state_1.pth is missing"]
    (folder / "scheduler.pt").unlink()
    assert one.missing(ranks=2) == ["scheduler.pt", "rng_state_1.pth"]


def test_a_checkpoint_that_somebody_else_finds_unsound_is_refused_and_a_sound_one_named(run):
    def unsound(folder):
        return ["NaN is in weight"] if folder == newest(run) else []

    with pytest.raises(RunDirectoryError, match="NaN is in weight.*--resume-from 4"):
        run.checkpoint_to_resume(controlled=True, unsound=unsound)
    assert run.checkpoint_to_resume(controlled=True, unsound=unsound, step=4).step == 4


def test_pipes_in_the_place_of_its_files_are_damage_and_not_waited_for(tmp_path):
    names = ("trainer_state.json", "config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
    for name in names:
        os.mkfifo(tmp_path / name)
    assert Checkpoint(1, tmp_path).damage(controlled=False) == [f"{name} cannot be read" for name in names]


def test_an_adapter_without_its_configuration_is_told_from_a_whole_model(run):
    folder = newest(run)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")
    assert not checkpoints_in(run.checkpoints)[-1].damage_of_weights()
    (folder / "adapter_config.json").unlink()
    assert checkpoints_in(run.checkpoints)[-1].damage_of_weights() == ["adapter_config.json is missing"]


def test_a_checkpoint_tells_how_many_processes_wrote_it(run):
    one, folder = checkpoints_in(run.checkpoints)[-1], newest(run)
    assert one.num_ranks == 1
    for rank in range(12):
        (folder / f"rng_state_{rank}.pth").write_bytes(b"")
    assert one.num_ranks == 12
    for rank in range(1, 12):
        (folder / f"rng_state_{rank}.pth").unlink()
    assert one.num_ranks == 2  # one process by itself numbers none: another's are lost
