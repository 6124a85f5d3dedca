from support.checkpoints import write_checkpoint

from entrocraft.runs import RunDirectory
from entrocraft.training.callbacks import settle_checkpoint


def test_what_follows_from_a_checkpoint_may_be_done_again_and_by_another_process(tmp_path):
    run = RunDirectory(tmp_path)
    folders = [write_checkpoint(run, step) for step in (2, 4, 6)]
    (folders[2] / "entrocraft.json").write_text('{"counts": {"steps": 6}}')
    run.controller_file.write_text("of step 4, since a process was killed in between")
    for _ in range(2):
        settle_checkpoint(run, 6, keep=2)
        assert run.controller_file.read_text() == '{"counts": {"steps": 6}}'
        assert sorted(each.name for each in run.checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-6"]
