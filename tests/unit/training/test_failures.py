import pytest

from entrocraft.errors import InvalidValueError, MeasurementError, RewardError, RunDirectoryError
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


@pytest.mark.parametrize(
    "said",
    [
        "probability tensor contains either `inf`, `nan` or element < 0",
        "invalid multinomial distribution (sum of probabilities <= 0)",
    ],
)
def test_a_policy_that_has_diverged_is_said_to_have(said):
    found = explained(RuntimeError(said), step=7, begun=True)
    assert isinstance(found, MeasurementError)
    assert str(found).startswith(f"step 7: the policy has diverged, its probabilities are no numbers any more ({said})")
    assert "Lower train.learning_rate" in str(found)


def test_whatever_the_set_up_of_a_run_raises_is_one_line_on_its_settings():
    class UsageError(Exception):
        """As wandb raises it where nobody has logged in."""

    found = explained(UsageError("api_key not configured (no-tty).\nCall wandb.login"), step=1, begun=False)
    assert isinstance(found, InvalidValueError) and "\n" not in str(found)
    assert "cannot begin with these settings: UsageError: api_key not configured" in str(found)
    assert explained(UsageError("a mistake of ours"), step=3, begun=True) is None


def test_a_process_that_is_gone_is_said_so_in_one_line_at_any_step():
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:19847. GLHF!")
    for begun in (False, True):
        said = str(explained(lost, step=5, begun=begun))
        assert said.startswith("step 5: lost touch with another process of the run (") and "launcher" in said
        assert said.endswith("go on with --resume")
    late = RuntimeError("[gloo/transport/tcp/buffer.cc:72] Timed out waiting 1800000ms for recv operation to complete")
    assert "Timed out waiting 1800000ms" in str(explained(late, step=5, begun=True))
    assert "train.trl.ddp_timeout" in str(explained(late, step=5, begun=True))
    assert explained(RuntimeError("shapes differ"), step=5, begun=True) is None
