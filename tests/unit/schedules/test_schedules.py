import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

import entrocraft as ec
from entrocraft.errors import InvalidValueError, UnknownNameError

values = st.floats(0.0, 5.0)
positive = st.floats(0.01, 5.0)
progress = st.floats(0.0, 1.0)


@st.composite
def knot_lists(draw, min_size=1):
    times = draw(st.lists(st.integers(1, 99), min_size=min_size - 1, max_size=6, unique=True))
    return [(t / 100, draw(values)) for t in [0, *sorted(times)]]


@st.composite
def schedules(draw):
    a, b = draw(positive), draw(positive)
    return draw(
        st.sampled_from(
            [
                ec.constant(a),
                ec.linear(a, b),
                ec.cosine(a, b),
                ec.exponential(a, b),
                ec.polynomial(a, b, power=draw(st.floats(0.5, 4.0))),
                ec.cyclic(a, b, num_cycles=draw(st.integers(1, 5))),
                ec.piecewise(draw(knot_lists()), draw(st.sampled_from(["linear", "cosine", "step", "monotone"]))),
                ec.join([ec.linear(a, b), ec.constant(b)], at=[draw(st.floats(0.1, 0.9))]),
                ec.warmup(ec.cosine(a, b), start=b, fraction=draw(st.floats(0.1, 0.9))),
                ec.linear(a, b, unit="initial"),
            ]
        )
    )


def test_values_of_the_papers_schedules():
    # PAPER 5: bound(t) = b0 + (b1 - b0) t/T, and progress (1 - cos(pi t/T)) / 2.
    assert ec.linear(0.6, 0.4)(25, 100) == pytest.approx(0.55)
    assert ec.cosine(0.6, 0.1)(25, 100) == pytest.approx(0.6 - 0.5 * 0.5 * (1 - math.sqrt(0.5)))
    assert ec.exponential(0.8, 0.2)(50, 100) == pytest.approx(0.4)
    assert ec.polynomial(0.6, 0.2, power=3)(50, 100) == pytest.approx(0.2 + 0.4 * 0.125)
    assert ec.cyclic(0.3, 0.5, num_cycles=2).values(4) == pytest.approx([0.3, 0.5, 0.3, 0.5, 0.3])
    assert ec.steps([(0, 0.6), (0.25, 0.4), (0.75, 0.2)]).values(4) == [0.6, 0.4, 0.4, 0.2, 0.2]
    assert ec.piecewise([(0.0, 0.6), (0.5, 0.2)], kind="cosine")(25, 100) == pytest.approx(0.4)


@given(st.floats(0.01, 5.0), st.floats(0.01, 5.0))
def test_transitions_begin_at_start_and_end_at_end_exactly(a, b):
    for shape in (ec.linear, ec.cosine, ec.exponential, ec.polynomial):
        assert shape(a, b)(0, 10) == pytest.approx(a, rel=1e-12)
        assert shape(a, b)(10, 10) == pytest.approx(b, rel=1e-12)


@given(schedules(), st.integers(1, 50))
def test_the_last_value_holds_after_the_end(schedule, total):
    assert schedule(total + 7, total) == schedule(total, total)


@given(schedules(), progress)
def test_values_stay_finite_and_never_negative(schedule, p):
    assert math.isfinite(schedule.at(p)) and schedule.at(p) >= -1e-12


@given(schedules(), progress)
def test_a_schedule_survives_serialisation(schedule, p):
    again = ec.schedule_from(schedule.to_dict())
    assert again == schedule
    assert again.at(p) == schedule.at(p)


@given(knot_lists(min_size=2), progress)
def test_monotone_interpolation_agrees_with_scipys_pchip(knots, p):
    times, heights = zip(*knots, strict=True)
    if len(times) < 2 or p > times[-1]:
        return
    assert ec.piecewise(knots, kind="monotone").at(p) == pytest.approx(
        float(PchipInterpolator(times, heights)(p)), abs=1e-9
    )


@given(knot_lists(min_size=2), progress)
def test_monotone_interpolation_never_overshoots_its_knots(knots, p):
    heights = [value for _, value in knots]
    assert min(heights) - 1e-9 <= ec.piecewise(knots, kind="monotone").at(p) <= max(heights) + 1e-9


def test_join_restarts_each_childs_clock():
    joined = ec.join([ec.linear(0.6, 0.2), ec.linear(1.0, 0.0)], at=[0.5])
    assert joined.values(4) == pytest.approx([0.6, 0.4, 1.0, 0.5, 0.0])


@given(values, values, st.floats(0.05, 0.95))
def test_warmup_is_continuous_where_it_ends(start, first, fraction):
    schedule = ec.warmup(ec.linear(first, 0.1), start=start, fraction=fraction)
    assert schedule.at(fraction - 1e-9) == pytest.approx(schedule.at(fraction), abs=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        "linear(0.6, 0.2)",
        "linear(start=0.6, end=0.2)",
        " linear( 0.6,0.2 ) ",
        {"type": "linear", "start": 0.6, "end": 0.2},
        ec.linear(0.6, 0.2),
    ],
)
def test_one_schedule_can_be_written_in_many_ways(spec):
    assert ec.schedule_from(spec) == ec.linear(0.6, 0.2)


def test_numbers_knots_and_nested_text_are_understood():
    assert ec.schedule_from(0.5) == ec.schedule_from("0.5") == ec.constant(0.5)
    assert ec.schedule_from([[0, 0.6], [1, 0.2]]) == ec.piecewise([(0.0, 0.6), (1.0, 0.2)])
    assert ec.schedule_from("join([constant(0.6), linear(0.6, 0.2)], at=[0.5])") == ec.join(
        [ec.constant(0.6), ec.linear(0.6, 0.2)], at=[0.5]
    )
    assert ec.schedule_from("linear(1.0, 0.5, unit='initial')").unit == "initial"


@pytest.mark.parametrize(
    "spec",
    [
        "linear(0.6",
        "linear",
        "linear(0.6, 0.2).at(0)",
        "__import__('os').system('true')",
        "linear(0.6, open('x'))",
        "0.6 if True else 0.2",
        "'0.5'",
        "",
        None,
        True,
        {"start": 0.6},
        {"type": "linear", "start": 0.6},
        {"type": "linear", "start": 0.6, "end": 0.2, "power": 2},
        {"type": "linear", "start": -0.1, "end": 0.2},
        {"type": "linear", "start": float("nan"), "end": 0.2},
        {"type": "linear", "start": "0.6", "end": 0.2},
        {"type": "linear", "start": 0.6, "end": 0.2, "unit": "bits"},
        {"type": "exponential", "start": 0.6, "end": 0.0},
        {"type": "polynomial", "start": 0.6, "end": 0.2, "power": 0},
        [[0, 0.6], [0.5]],
        [[0.1, 0.6], [1, 0.2]],
        [[0, 0.6], [0.5, 0.2], [0.5, 0.1]],
        [[0, 0.6], [1.5, 0.2]],
        [],
        "join([constant(0.6), linear(0.6, 0.2)], at=[])",
        "join([constant(0.6), linear(0.6, 0.2)], at=[1.0])",
        "join([constant(0.6), linear(1, 0.2, unit='initial')], at=[0.5])",
        "piecewise([[0, 0.6]], kind='cubic')",
    ],
)
def test_what_is_no_schedule_is_refused(spec):
    with pytest.raises((InvalidValueError, UnknownNameError)):
        ec.schedule_from(spec)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        ec.schedule_from("linaer(0.6, 0.2)")


@pytest.mark.parametrize(
    ("step", "total"),
    [(-1, 10), (1, 0), (float("nan"), 10), (1, float("inf")), ("5", 10), (None, 10), (10**400, 10), (5, 10**400)],
)
def test_steps_that_make_no_sense_are_refused(step, total):
    with pytest.raises(InvalidValueError):
        ec.linear(0.6, 0.2)(step, total)


@pytest.mark.parametrize("length", [0, -3, 1.5, "10", True])
def test_a_run_has_a_whole_number_of_steps(length):
    for values in (ec.linear(0.6, 0.2).values, ec.Band(0.5, width=0.1).values, ec.Band(0.5, width=0.1).targets):
        with pytest.raises(InvalidValueError, match="total_steps must be a whole number of at least 1"):
            values(length)


@pytest.mark.parametrize("scalar", [np.float32, np.float64, torch.tensor])
def test_scalars_of_numpy_and_torch_are_numbers_and_what_comes_out_is_pythons_own(scalar):
    # 0.5, 0.25 and 2 are the same in float32.
    value = ec.linear(scalar(0.5), scalar(0.25))(scalar(50.0), scalar(100.0))
    assert value == 0.375 and type(value) is float
    assert ec.schedule_from(scalar(0.5)) == ec.constant(0.5)
    assert ec.Band(scalar(0.5), width=scalar(0.25)) == ec.Band(0.5, width=0.25)
    assert json.loads(json.dumps(ec.polynomial(0.5, 0.25, power=scalar(2.0)).to_dict()))["power"] == 2.0


def test_what_join_joins_are_lists():
    assert ec.join((ec.constant(0.6), 0.4), at=np.array([0.5]))(75, 100) == 0.4
    for schedules, at in (([0.6, 0.4], 0.5), ([0.6, 0.4], None), (None, [0.5]), ("0.6", [])):
        with pytest.raises(InvalidValueError, match="is a list, as in join"):
            ec.join(schedules, at=at)


def test_a_band_is_a_centre_line_and_a_width_or_two_lines():
    assert ec.Band(ec.linear(0.6, 0.2), width=0.1)(50, 100) == pytest.approx((0.35, 0.45))
    edges = ec.Band(lower=ec.linear(0.6, 0.1), upper=ec.linear(0.7, 0.2))
    assert edges(50, 100) == pytest.approx((0.35, 0.45))
    assert edges.target(50, 100) == pytest.approx(0.4)
    assert edges.values(4)[2] == edges(2, 4) and len(edges.values(4)) == 5


@pytest.mark.parametrize("band", [ec.Band("linear(0.6, 0.2)", 0.1), ec.Band(lower=0.5, upper="linear(0.6, 0.5)")])
def test_a_band_survives_serialisation(band):
    assert ec.Band.from_dict(band.to_dict()) == band


def test_the_edges_of_a_band_may_touch_but_not_cross():
    assert ec.Band(lower=0.5, upper=0.5)(0, 1) == (0.5, 0.5)
    assert ec.Band(ec.constant(0.5), width=0.0)(0, 1) == (0.5, 0.5)
    with pytest.raises(InvalidValueError, match="lower must not exceed upper"):
        ec.Band(lower=1.0, upper=0.0)  # the default of the authors' code
    with pytest.raises(InvalidValueError, match="at 5.% of the run"):
        ec.Band(lower=0.5, upper=ec.linear(0.6, 0.4))


def test_edges_that_are_one_line_written_in_two_ways_touch():
    line = ec.linear(0.6, 0.2)
    halves = ec.join([ec.linear(0.6, 0.4), ec.linear(0.4, 0.2)], at=[0.5])  # apart by rounding
    for lower, upper in ((line, halves), (halves, line)):
        band = ec.Band(lower=lower, upper=upper)
        assert all(low <= high and high - low < 1e-15 for low, high in band.values(997))


def test_edges_that_cross_where_nobody_looked_are_refused_when_they_are_asked_for():
    # 2,000 waves: at each of the 2,001 places that are looked at when the band is made, the wave begins anew.
    band = ec.Band(lower=ec.cyclic(0.1, 0.9, num_cycles=2000), upper=0.5)
    with pytest.raises(InvalidValueError, match="lower must not exceed upper, got lower 0.9 above upper 0.5"):
        band(1, 4000)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"schedule": 0.5},
        {"width": 0.1},
        {"lower": 0.5},
        {"schedule": 0.5, "width": 0.1, "upper": 0.6},
        {"schedule": 0.5, "width": -0.1},
        {"schedule": 0.5, "width": float("nan")},
        {"lower": 0.5, "upper": ec.constant(1.0, unit="initial")},
    ],
)
def test_what_is_no_band_is_refused(arguments):
    with pytest.raises(InvalidValueError):
        ec.Band(**arguments)


def test_no_factor_between_the_ends_is_too_large_for_an_exponential():
    curve = ec.exponential(1e-300, 1e300)
    assert curve(1, 2) == pytest.approx(1.0) and curve(2, 2) == pytest.approx(1e300)


def test_cycles_that_no_run_has_steps_for_are_refused():
    with pytest.raises(InvalidValueError, match="at most 1,000,000"):
        ec.cyclic(0.6, 0.5, num_cycles=1e308)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("piecewise([[0, 1.7e308], [1, 0.6]], kind='monotone')", "at most 1e.300"),
        ("piecewise([[0, 1], [5e-324, 0.5], [1, 0.2]], kind='monotone')", "at least 1e-07 apart"),
    ],
)
def test_a_monotone_curve_that_would_be_no_number_is_refused(spec, message):
    with pytest.raises(InvalidValueError, match=message):
        ec.schedule_from(spec)


def test_the_largest_numbers_and_the_nearest_knots_give_a_curve_of_numbers():
    curve = ec.piecewise([(0, 1e300), (1e-7, 0.0), (0.5, 1e300), (0.5 + 2e-7, 5e-324)], kind="monotone")
    assert all(math.isfinite(value) and value >= 0 for value in curve.values(1000))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", ["cosine(0inf5, 0.8)", "linear(0.6, 0.2, unit='i\\itial')"])
def test_python_says_nothing_of_its_own_about_what_is_refused(spec):
    with pytest.raises(ValueError):
        ec.schedule_from(spec)
