from entrocraft.errors import RewardError, RunDirectoryError
from entrocraft.training.failures import explained


def test_an_error_amid_a_run_says_how_to_go_on_and_stays_of_its_kind():
    amid = explained(RewardError("reward 'mine:f' raised on sample 1 of 4."), step=3, begun=True)
    assert isinstance(amid, RewardError)
    assert str(amid) == "reward 'mine:f' raised on sample 1 of 4. Once that is mended, go on with --resume"
    assert "go on with --resume" in str(explained(OSError(5, "Input/output error", "out"), step=3, begun=True))


def test_what_says_so_already_or_has_nothing_to_go_on_from_is_left_as_it_is():
    said = RunDirectoryError("make room, and go on with --resume")
    assert explained(said, step=3, begun=True) is said
    first = RewardError("reward 'mine:f' raised")
    assert explained(first, step=1, begun=False) is first


def test_a_file_that_torch_could_not_write_whole_is_said_without_its_own_words():
    cut_short = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4166656 vs 4166550")
    assert str(explained(cut_short, step=3, begun=True)) == (
        "step 3: what the run leaves behind cannot be written: a file of the checkpoint was cut short. Make room, and "
        "go on with --resume"
    )
