import pytest

from entrocraft.app.curves import MOST_KNOTS, columns_of, drawing_from, knots_in
from entrocraft.app.drawing import CURVE_FIELDS, drawn
from entrocraft.app.families import families
from entrocraft.app.recipes import recipes_from
from entrocraft.app.requests import Request
from entrocraft.app.shapes import as_text, knots_of, scaled
from entrocraft.config import parse_config
from entrocraft.errors import EntrocraftError
from entrocraft.schedules import Band, adaptive, constant, join, linear, piecewise, schedule_from
from entrocraft.yaml_text import read_yaml

SCHEDULES = [
    *(family["text"] for family in families()),
    "constant(0.5)",
    "piecewise([(0, 0.6), (0.5, 0.3)], kind='monotone')",
    "piecewise([(0, 0.6), (1, 0.3)], kind='cosine')",
    "adaptive(cosine(0.6, 0.3), patience=5, speed=3)",
    "join([cyclic(0.3, 0.5, 2), exponential(0.5, 0.1)], at=[0.25])",
    "polynomial(0.6, 0.3, 0.5)",
]


def request_of(**fields):
    return Request(fields, CURVE_FIELDS)


def band_of(**fields):
    return drawing_from(request_of(**fields)).band


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_schedule_as_text_is_the_same_schedule(text):
    schedule = schedule_from(text)
    assert schedule_from(as_text(schedule)) == schedule


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_schedule_as_python_is_the_same_schedule(text):
    import entrocraft as ec

    schedule = schedule_from(text)
    assert eval(as_text(schedule, "ec."), {"ec": ec}) == schedule


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_scaled_schedule_is_scaled_everywhere(text):
    schedule = schedule_from(text)
    twice = scaled(schedule, 2.0, "nats")
    assert twice.unit == "nats"
    for place in (0.0, 0.1, 0.34, 0.5, 0.9, 1.0):
        assert twice.at(place) == pytest.approx(2.0 * schedule.at(place))


@pytest.mark.parametrize("text", SCHEDULES)
def test_knots_lie_on_the_curve_and_make_it_where_they_say_so(text):
    schedule = schedule_from(text)
    knots, kind, exact = knots_of(schedule)
    assert all(schedule.at(at) == pytest.approx(value) for at, value in knots)
    through = piecewise(knots, kind)
    if exact:
        assert [through.at(i / 50) for i in range(51)] == pytest.approx([schedule.at(i / 50) for i in range(51)])
    else:
        assert [through.at(i / 50) for i in range(51)] != pytest.approx([schedule.at(i / 50) for i in range(51)])


def test_a_warmup_is_three_knots():
    schedule = schedule_from("warmup(linear(0.8, 0.4), start=0.2, fraction=0.25)")
    assert knots_of(schedule) == ([(0.0, 0.2), (0.25, 0.8), (1.0, 0.4)], "linear", True)


def test_a_join_that_jumps_is_no_line_through_its_ends():
    assert knots_of(join([constant(0.6), constant(0.3)], at=[0.5]))[2] is False


def test_columns_are_the_bands_own_values_at_whole_steps():
    columns = columns_of(Band(linear(0.6, 0.2), width=0.1), steps=4, points=300)
    assert columns["step"] == [0, 1, 2, 3, 4]
    assert columns["target"] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2])
    assert columns["lower"] == pytest.approx([0.55, 0.45, 0.35, 0.25, 0.15])
    assert columns["upper"] == pytest.approx([0.65, 0.55, 0.45, 0.35, 0.25])


def test_few_points_of_many_steps_keep_both_ends():
    assert columns_of(Band(0.5, width=0.1), steps=1000, points=5)["step"] == [0, 250, 500, 750, 1000]
    assert columns_of(Band(0.5, width=0.1), steps=1, points=2000)["step"] == [0, 1]


def test_knots_are_taken_as_they_were_drawn():
    band = band_of(knots=[[0, 1.0], [0.5, 0.8], [1, 0.6]], kind="monotone", unit="initial", width=0.05)
    assert band == Band(piecewise([(0, 1.0), (0.5, 0.8), (1, 0.6)], "monotone", unit="initial"), width=0.05)


def test_text_in_another_unit_is_converted_and_the_width_is_in_the_asked_one():
    band = band_of(text="linear(1.0, 0.5, unit='initial')", unit="nats", initial=0.6, width=0.05)
    assert band.unit == "nats" and band.width == 0.05
    assert [band.target(step, 2) for step in (0, 1, 2)] == pytest.approx([0.6, 0.45, 0.3])
    back = band_of(text="linear(0.6, 0.3)", unit="initial", initial=0.6, width=0.1)
    assert [back.target(step, 2) for step in (0, 1, 2)] == pytest.approx([1.0, 0.75, 0.5])


@pytest.mark.parametrize(
    "text",
    [
        "control:\n  schedule: linear(1.0, 0.5, unit='initial')\n  width: 0.1\n",
        "schedule: {type: linear, start: 1.0, end: 0.5, unit: initial}\nwidth: 0.1\n",
        "model: some/model\ncontrol: {method: token, schedule: \"linear(1.0, 0.5, unit='initial')\", width: 0.1}",
    ],
)
def test_yaml_brings_its_own_width(text):
    assert band_of(yaml=text, width=0.7) == Band(linear(1.0, 0.5, unit="initial"), width=0.1)
    in_nats = band_of(yaml=text, unit="nats", initial=0.5)
    assert in_nats == Band(linear(0.5, 0.25), width=0.05)


def test_yaml_without_a_width_takes_that_of_the_page():
    assert band_of(yaml="linear(0.6, 0.3)", width=0.07).width == 0.07
    assert band_of(yaml="control: 0.5", width=0.07) == Band(0.5, width=0.07)


def test_edges_are_a_curve_of_their_own():
    band = band_of(lower=[[0, 0.4], [1, 0.2]], upper=[[0, 0.6], [1, 0.3]], unit="nats")
    assert band(0, 2) == (0.4, 0.6) and band.target(1, 2) == pytest.approx(0.375)
    shown = knots_in(band)
    assert shown["knots"] is None and shown["width"] is None and shown["exact"]
    assert shown["lower_knots"] == [(0.0, 0.4), (1.0, 0.2)] and shown["upper_knots"] == [(0.0, 0.6), (1.0, 0.3)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "got none"),
        ({"text": "0.5", "knots": [[0, 0.5]]}, "got knots, text"),
        ({"lower": [[0, 0.4]]}, "upper: expected knots"),
        ({"lower": [[0, 0.6]], "upper": [[0, 0.4]]}, "lower must not exceed upper"),
        ({"text": "linaer(0.6, 0.2)"}, "did you mean 'linear'"),
        ({"text": "__import__('os')"}, "schedule"),
        ({"text": 5}, "expected text"),
        ({"text": "x" * 20_001}, "20,000 characters"),
        ({"knots": "0.5"}, "expected knots"),
        ({"knots": [[0, 0.5]] * (MOST_KNOTS + 1)}, "64 knots at most"),
        ({"knots": [[0, 0.5], [0, 0.4]]}, "must start at 0, increase"),
        ({"knots": [[0, -0.5]]}, "at least 0"),
        ({"knots": [[0, None]]}, "must be a number"),
        ({"knots": [[0, 0.5]], "kind": "wavy"}, "unknown kind"),
        ({"knots": [[0, 0.5]], "unit": "bits"}, "unknown unit"),
        ({"knots": [[0, 0.5]], "width": -1}, "width must be"),
        ({"knots": [[0, 0.5]], "width": True}, "width must be a number"),
        ({"knots": [[0, 0.5]], "steps": 0}, "steps: expected a whole number from 1"),
        ({"knots": [[0, 0.5]], "steps": 10**6}, "to 100,000"),
        ({"knots": [[0, 0.5]], "points": 1.5}, "points: expected a whole number"),
        ({"text": "linear(1, 0.5, unit='initial')", "unit": "nats"}, "say initial"),
        ({"text": "linear(1, 0.5, unit='initial')", "unit": "nats", "initial": 0}, "initial must be more than 0"),
        ({"yaml": "a: ["}, "not YAML"),
        ({"yaml": "control: {method: token}"}, "says no curve"),
        ({"yaml": "{schedule: 0.5, lower: 0.4, upper: 0.6}"}, "either Band"),
    ],
)
def test_what_is_no_curve_is_refused_in_the_librarys_words(fields, message):
    with pytest.raises(EntrocraftError, match=message):
        band_of(**fields)


def test_a_field_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(EntrocraftError, match="did you mean 'knots'"):
        request_of(knot=[[0, 0.5]])


def test_a_curve_that_is_nested_too_deep_is_refused():
    text = "0.5"
    for _ in range(250):
        text = f"warmup({text},0.5)"
    with pytest.raises(EntrocraftError):
        drawn(request_of(text=text), {})


def test_the_same_curve_as_yaml_python_and_command():
    import entrocraft as ec

    recipes = recipes_from([])
    answer = drawn(
        request_of(
            knots=[[0, 1.0], [1, 0.6]],
            unit="initial",
            width=0.06,
            steps=90,
            recipe="countdown",
            settings={"method": "budget", "method_options": {"min_kept": 0.2}, "seed": 3, "steps": 50},
        ),
        recipes,
    )
    control = parse_config(read_yaml(answer["yaml"])).control
    assert control.band() == Band(piecewise([(0, 1.0), (1, 0.6)], unit="initial"), width=0.06)
    assert control.method == {"name": "budget", "min_kept": 0.2}
    script = {}
    exec(answer["python"], script)
    assert script["control"].band() == control.band() and script["control"].method == control.method
    assert isinstance(script["control"], ec.EntropyControl)
    assert answer["command"].startswith("entrocraft train ") and answer["command"].endswith("train.steps=50 seed=3")


def test_every_family_is_a_picture_and_a_curve():
    found = families()
    assert len(found) == 8
    for family in found:
        assert len(family["points"]) == 24 and family["points"][0][0] == 0.0 and family["points"][-1][0] == 1.0
        assert schedule_from(family["text"]).unit == family["unit"] == "initial"


def test_an_adaptive_curve_keeps_its_clock():
    schedule = adaptive(linear(0.6, 0.3), patience=7, speed=3.0)
    assert as_text(schedule) == "adaptive(linear(0.6, 0.3), patience=7, speed=3.0)"
    assert scaled(schedule, 0.5, "initial").patience == 7
