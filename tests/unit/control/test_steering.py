import contextlib
import os
import subprocess
import sys
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.control.steering import SteeringFile, format_steering, parse_steering, write_steering
from entrocraft.errors import InvalidValueError

WIDTH = 0.04
BAND = ec.Band("linear(0.6, 0.2)", 0.1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "steering.yaml"


def polled(steering):
    """Poll where no warning is expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return steering.poll()


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("0.5", ec.Band(0.5, WIDTH)),
        ("linear(0.6, 0.2)", ec.Band("linear(0.6, 0.2)", WIDTH)),
        ("linear(1.0, 0.5, unit='initial')", ec.Band(ec.linear(1.0, 0.5, unit="initial"), WIDTH)),
        ("[[0, .6], [1, .2]]", ec.Band([[0, 0.6], [1, 0.2]], WIDTH)),
        ("type: linear\nstart: 6e-1\nend: 0.2", ec.Band("linear(0.6, 0.2)", WIDTH)),
        ("adaptive(linear(0.6, 0.2), patience=10)", ec.Band(ec.adaptive("linear(0.6, 0.2)", 10), WIDTH)),
        ("schedule: linear(0.6, 0.2)", ec.Band("linear(0.6, 0.2)", WIDTH)),
        ("schedule: linear(0.6, 0.2)  # bent at noon\nwidth: 0.1", BAND),
        ('{"schedule": {"type": "linear", "start": 0.6, "end": 0.2}, "width": 0.1}', BAND),
        ("lower: 0.5\nupper: linear(0.7, 0.6)", ec.Band(lower=0.5, upper="linear(0.7, 0.6)")),
    ],
)
def test_a_band_can_be_written_in_many_ways(text, band):
    assert parse_steering(text, WIDTH) == band


BAD = {
    "": "empty file",
    "# only a comment": "empty file",
    "linaer(0.6, 0.2)": "did you mean 'linear'",
    "linear(0.6": "not a schedule",
    "linear(0.6, 0.2, unit='bits')": "schedule unit",
    "a: [b": "not YAML",
    "2026-13-45": "not a schedule",
    "!!float ''": "not YAML",
    "!!python/object/apply:os.system ['true']": "not YAML",
    "[" * 5000: "not YAML",
    "__import__('os').system('true')": "not a schedule",
    "true": "expected a number",
    "2026-01-01": "not a schedule",
    "schedule: 0.5\nwidht: 0.1": "did you mean 'width'",
    "1: 2": "band key",
    "width: 0.1": "a band is either",
    "schedule: 0.5\nwidth: -1": "width must be finite",
    "schedule: 0.5\nlower: 0.5\nupper: 0.6": "a band is either",
    "lower: 1.0\nupper: 0.0": "lower must not exceed upper",
    "lower: 0.5": "a band is either",
    "lower: adaptive(0.5)\nupper: 0.6": "one pace",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=[text[:20] for text in BAD])
def test_what_describes_no_band_is_refused(text, message):
    with pytest.raises(InvalidValueError, match=message):
        parse_steering(text, WIDTH)


@given(st.text(max_size=40))
def test_no_text_can_do_worse_than_be_refused(text):
    with contextlib.suppress(InvalidValueError):
        assert isinstance(parse_steering(text, WIDTH), ec.Band)


numbers = st.floats(1e-12, 1e12)


@given(numbers, numbers, st.floats(0.0, 10.0), st.sampled_from(["nats", "initial"]))
def test_a_band_survives_being_written(a, b, width, unit):
    knots = ec.piecewise([(0.0, a), (0.3, b)], "monotone", unit=unit)
    for band in (
        ec.Band(ec.exponential(a, b, unit=unit), width),
        ec.Band(ec.adaptive(ec.join([knots, ec.constant(a, unit=unit)], at=[0.5]), patience=7), width),
        ec.Band(lower=ec.constant(min(a, b), unit=unit), upper=ec.constant(max(a, b), unit=unit)),
    ):
        assert parse_steering(format_steering(band), WIDTH) == band


def test_a_file_is_taken_once_and_again_when_it_changes(file):
    steering = SteeringFile(file, WIDTH)
    assert polled(steering) is None
    write_steering(file, BAND)
    assert polled(steering) == BAND
    assert polled(steering) is None
    file.write_text("0.3")
    assert polled(steering) == ec.Band(0.3, WIDTH)
    assert (steering.accepted, steering.refused) == (2, 0)


def test_a_change_that_keeps_size_and_time_is_seen(file):
    file.write_text("0.3")
    steering = SteeringFile(file, WIDTH)
    assert polled(steering) == ec.Band(0.3, WIDTH)
    time = file.stat().st_mtime_ns
    file.write_text("0.4")
    os.utime(file, ns=(time, time))
    assert polled(steering) == ec.Band(0.4, WIDTH)


def test_a_file_that_is_there_at_the_start_is_taken(file):
    write_steering(file, BAND)
    assert polled(SteeringFile(file, WIDTH)) == BAND


def test_a_file_that_goes_away_changes_nothing(file):
    write_steering(file, BAND)
    steering = SteeringFile(str(file), WIDTH)
    polled(steering)
    file.unlink()
    assert polled(steering) is None
    write_steering(file, BAND)
    assert polled(steering) is None  # the same as before
    assert (steering.accepted, steering.refused) == (1, 0)


@pytest.mark.parametrize("content", [b"linaer(0.6, 0.2)", b"\xff\xfe0.5", b"\x00", b""])
def test_a_bad_file_is_warned_about_once_and_counted(file, content):
    steering = SteeringFile(file, WIDTH)
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"steering\.yaml: .*The curve stays as it was"):
        assert steering.poll() is None
    assert polled(steering) is None
    assert (steering.accepted, steering.refused) == (0, 1)
    file.write_text("0.5")
    assert polled(steering) == ec.Band(0.5, WIDTH)
    file.write_bytes(content)
    with pytest.warns(UserWarning):
        steering.poll()
    assert (steering.accepted, steering.refused) == (1, 2)


def test_what_cannot_be_read_stops_nothing(file):
    file.mkdir()
    steering = SteeringFile(file, WIDTH)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert steering.poll() is None
    assert polled(steering) is None
    assert steering.refused == 1


def test_writing_leaves_nothing_else_behind(file, monkeypatch):
    write_steering(file, BAND)
    assert list(file.parent.iterdir()) == [file]
    before = file.read_text()

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_steering(file, ec.Band(0.5, 0.1))
    with pytest.raises(InvalidValueError, match="expected a Band"):
        write_steering(file, "linear(0.6, 0.2)")
    assert list(file.parent.iterdir()) == [file] and file.read_text() == before


def test_a_width_that_makes_no_sense_is_refused_at_once(file):
    with pytest.raises(InvalidValueError, match="steering: width"):
        SteeringFile(file, width=-1.0)


def test_steering_needs_no_configuration():
    code = "import sys, entrocraft.control.steering; print('pydantic' in sys.modules, 'transformers' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]


WIDE_IN_MULTIPLES = dict(width=0.1, unit="initial", initial_entropy=0.5)


@pytest.mark.parametrize(
    ("text", "known", "width"),
    [
        ("0.5", WIDE_IN_MULTIPLES, 0.05),
        ("schedule: linear(0.6, 0.2)", WIDE_IN_MULTIPLES, 0.05),
        ("linear(1.0, 0.5, unit='initial')", WIDE_IN_MULTIPLES, 0.1),
        ("linear(1.0, 0.5, unit='initial')", dict(width=0.1, unit="nats", initial_entropy=0.5), 0.2),
        ("{schedule: 0.5, width: 0.3}", WIDE_IN_MULTIPLES, 0.3),
    ],
)
def test_the_band_keeps_its_width_in_nats_unless_asked(text, known, width):
    assert parse_steering(text, **known).width == pytest.approx(width)


def test_a_curve_in_another_unit_waits_for_the_initial_entropy(file):
    steering = SteeringFile(file, 0.1, "initial")
    file.write_text("0.5")
    assert polled(steering) is None and steering.refused == 0
    steering.initial_entropy = 0.6
    assert polled(steering).width == pytest.approx(0.06)
    with pytest.raises(InvalidValueError, match="say the width, too"):
        parse_steering("0.5", 0.1, "initial")


def test_a_file_without_end_stops_nothing(file):
    steering = SteeringFile(file, WIDTH)
    os.mkfifo(file)
    with pytest.warns(UserWarning, match="a pipe or a device"):
        assert steering.poll() is None
    file.unlink()
    file.write_text("x" * 100_000)
    with pytest.warns(UserWarning, match="65,536 bytes at most"):
        assert steering.poll() is None
    file.write_text("a: &a [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join(['*a'] * 9)}]\n" for i in range(9)))
    with pytest.warns(UserWarning):
        assert steering.poll() is None
    assert steering.refused == 3
