"""The widget of notebooks without a browser: what the editor says comes in, a schedule comes out."""

import subprocess
import sys

import pytest
import yaml

import entrocraft as ec
from entrocraft.app.drawing import CURVE_FIELDS, drawn
from entrocraft.app.requests import Request
from entrocraft.errors import InvalidValueError, MissingDependencyError, UnknownNameError

KNOTS = {"knots": [[0, 1.0], [0.4, 1.05], [1, 0.9]], "kind": "monotone", "unit": "initial", "width": 0.08}


def say(widget, **request):
    """Send what the browser sends when something was drawn."""
    widget.set_state({"request": request})


def test_what_is_drawn_is_a_schedule_a_band_and_yaml():
    widget = ec.draw()
    say(widget, **KNOTS)
    curve = ec.piecewise([(0, 1.0), (0.4, 1.05), (1, 0.9)], kind="monotone", unit="initial")
    assert widget.schedule == curve
    assert widget.band == ec.Band(curve, width=0.08)
    assert ec.EntropyControl(**yaml.safe_load(widget.yaml)["control"]).band() == widget.band


def test_the_answer_is_that_of_the_server():
    widget = ec.draw(steps=40)
    say(widget, **KNOTS)
    server = drawn(Request({**KNOTS, "steps": 40}, CURVE_FIELDS), {})
    assert widget.answer == {name: server[name] for name in ("step", "target", "lower", "upper")}
    assert widget.yaml == server["yaml"]


@pytest.mark.parametrize("begun", ["cosine(0.6, 0.2)", ec.cyclic(1.0, 0.8, 3.0, unit="initial"), 0.5])
def test_before_anything_is_drawn_it_is_what_it_began_with(begun):
    widget = ec.draw(begun, width=0.05)
    assert widget.band == ec.Band(begun, width=0.05)
    assert widget.answer["target"] == widget.schedule.values(100)


def test_it_begins_in_either_unit():
    assert ec.draw().schedule.unit == "initial"
    assert ec.draw(unit="nats").schedule.unit == "nats"
    assert ec.draw("linear(0.6, 0.4)", unit="nats").band.width == 0.04


def test_two_edges_are_drawn_on_their_own():
    band = ec.Band(lower=ec.linear(0.5, 0.3), upper=ec.linear(0.7, 0.4))
    widget = ec.draw(band)
    assert (widget.band, widget.schedule) == (band, None)
    assert widget.curve["lower"] == [(0.0, 0.5), (1.0, 0.3)]
    say(widget, lower=[[0, 0.5], [1, 0.2]], upper=[[0, 0.7], [1, 0.4]], kind="linear", unit="nats")
    assert widget.band == ec.Band(lower=ec.piecewise([(0, 0.5), (1, 0.2)]), upper=ec.piecewise([(0, 0.7), (1, 0.4)]))
    assert "upper: piecewise" in widget.yaml


def test_what_cannot_be_used_is_said_and_the_last_curve_stays():
    widget = ec.draw()
    say(widget, **KNOTS)
    before = widget.band
    say(widget, **KNOTS | {"width": -1})
    assert "width" in widget.problem and widget.band == before
    say(widget, **KNOTS | {"colour": "red"})
    assert "colour" in widget.problem and widget.band == before
    say(widget, **KNOTS | {"width": 0.1})
    assert widget.problem == "" and widget.band.width == 0.1


@pytest.mark.parametrize(
    ("error", "said", "arguments"),
    [
        (UnknownNameError, "unit", {"unit": "bits"}),
        (InvalidValueError, "unit: the curve is in 'nats'", {"schedule": "linear(0.6, 0.4)", "unit": "initial"}),
        (InvalidValueError, "a band has its own", {"schedule": ec.Band(0.5, width=0.1), "width": 0.2}),
        (InvalidValueError, "steps: expected a whole number", {"steps": 0}),
        (InvalidValueError, "width", {"width": -0.1}),
        (UnknownNameError, "schedule", {"schedule": "nonsense(1)"}),
    ],
)
def test_what_cannot_be_begun_with_is_refused(error, said, arguments):
    with pytest.raises(error, match=said):
        ec.draw(**arguments)


def test_without_anywidget_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "entrocraft.app.widget", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'entrocraft\[notebook\]'"):
        ec.draw()


def test_drawing_loads_no_torch():
    code = "import sys, entrocraft as ec; ec.draw().yaml; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
