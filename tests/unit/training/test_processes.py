"""What processes tell each other through the launcher's store, and how they fail as one."""

import signal
import warnings
from datetime import timedelta

import pytest
import torch.distributed as dist
from support.meeting import Meeting

from entrocraft.errors import InvalidValueError
from entrocraft.training import plan
from entrocraft.training import processes as module
from entrocraft.training.plan import _check_launch
from entrocraft.training.processes import (
    OtherProcessError,
    Processes,
    _warn_of_one,
    launched_processes,
    refuse_several,
)


@pytest.fixture(autouse=True)
def sigterm():
    """Put back what a process that ends takes from SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def together(count, what):
    """Have so many processes, each a thread here, do something, and return what each returned or how it ended."""
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=20))

    def run(index):
        try:
            return what(Processes(count, index, store))
        except SystemExit as ended:
            return ended.code
        except Exception as error:
            return error

    return Meeting(count).all_do(run)


def test_each_gets_what_all_have_said_in_their_order():
    def talk(processes):
        first = processes.shared(f"a{processes.index}")
        return first, processes.from_main(str(processes.index)), processes.shared()

    assert together(3, talk) == [(["a0", "a1", "a2"], "0", ["", "", ""])] * 3


def test_one_process_waits_for_nobody():
    alone = Processes()
    assert alone.is_main and alone.shared("mine") == ["mine"] and alone.from_main("mine") == "mine"
    alone.fail(2, "nobody hears it")
    alone.raise_if_failed()
    alone.leave()
    with pytest.raises(InvalidValueError, match="as it is"), alone.as_one():
        raise InvalidValueError("as it is")


def test_what_fails_in_another_process_is_said_by_the_main_one_and_ends_all_alike(capsys):
    def work(processes):
        with processes.as_one():
            if processes.index == 2:
                raise InvalidValueError("no such file here")
            processes.meet()

    assert together(3, work) == [2, 2, 2]
    assert capsys.readouterr().err == "entrocraft: error: process 2: no such file here\n"


def test_what_fails_in_the_main_process_is_raised_there_and_nowhere_else(capsys):
    def work(processes):
        with processes.as_one():
            if processes.is_main:
                raise InvalidValueError("said by the command line")
            processes.meet()

    main, *others = together(3, work)
    assert isinstance(main, InvalidValueError) and others == [2, 2]
    assert capsys.readouterr().err == ""


def test_what_all_refuse_is_raised_by_the_main_process_alone(capsys):
    def work(processes):
        with processes.as_one():
            raise InvalidValueError("the same everywhere")

    main, *others = together(3, work)
    assert isinstance(main, InvalidValueError) and others == [2, 2]
    assert capsys.readouterr().err == ""


def test_where_the_main_process_cannot_speak_another_does_once(capsys, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)

    def work(processes):
        if processes.is_main:
            return "busy for ever"
        with processes.as_one():
            raise OSError(28, "No space left on device", "out")

    assert together(3, work) == ["busy for ever", 2, 2]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "out: No space left on device" in said


def test_an_error_of_ours_is_raised_with_its_trace_and_tells_the_others_its_status(capsys):
    def work(processes):
        with processes.as_one():
            if processes.index == 1:
                raise KeyError("a mistake of ours")
            processes.meet()

    main, other = together(2, work)
    assert main == 1 and isinstance(other, KeyError)
    assert "process 1: KeyError" in capsys.readouterr().err


def test_what_follows_from_anothers_failure_is_known_as_such():
    def work(processes):
        if processes.index == 1:
            processes.fail(143, "stopped by SIGTERM amid step 3")
            return None
        while True:
            processes.raise_if_failed()

    (error, nothing) = together(2, work)
    assert isinstance(error, OtherProcessError) and (str(error), error.status) == (
        "process 1: stopped by SIGTERM amid step 3",
        143,
    )
    assert nothing is None


def test_mpi_and_a_lack_of_names_are_refused(monkeypatch):
    with pytest.raises(InvalidValueError, match="4 processes were started by MPI"):
        launched_processes({"OMPI_COMM_WORLD_SIZE": "4"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InvalidValueError, match="without RANK and MASTER_ADDR"):
        Processes.launched()
    with pytest.raises(InvalidValueError, match="this is done by one process, and 2 were launched"):
        refuse_several("this")


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_what_the_command_line_cannot_save_is_refused(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(InvalidValueError, match="trains under DDP or FSDP2, and .* was asked for"):
        _check_launch()
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "false")
    _check_launch()


def test_fsdp_is_taken_in_its_second_version_with_whole_states(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setattr(plan, "best_device", lambda: "cpu")
    with pytest.raises(InvalidValueError, match="shards nothing on the cpu"):
        _check_launch()
    monkeypatch.setattr(plan, "best_device", lambda: "cuda")
    with pytest.raises(InvalidValueError, match="under --fsdp_version 2, got 1"):
        _check_launch()
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(InvalidValueError, match="--fsdp_state_dict_type FULL_STATE_DICT, got SHARDED_STATE_DICT"):
        _check_launch()
    monkeypatch.setenv("FSDP_STATE_DICT_TYPE", "FULL_STATE_DICT")
    _check_launch()


def test_a_launcher_that_has_started_one_of_several_is_warned_of():
    started = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"}
    with pytest.warns(UserWarning, match="takes --multi_gpu"):
        _warn_of_one(started)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_one({"ACCELERATE_MIXED_PRECISION": "no"})
        _warn_of_one(started | {"RANK": "0"})
