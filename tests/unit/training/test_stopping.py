import os
import signal

import pytest

from entrocraft.training.stopping import StoppedAtOnceError, StopSignals


def test_the_first_signal_is_remembered_and_the_second_stops_at_once(capfd):
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM and "stopping after this step" in capfd.readouterr().err
        with pytest.raises(StoppedAtOnceError):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM


def test_what_comes_when_the_run_has_ended_changes_nothing(capfd):
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.settle()
        capfd.readouterr()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM and not capfd.readouterr().err
