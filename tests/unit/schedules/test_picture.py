"""The picture of a curve that notebooks show."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

import entrocraft as ec
from entrocraft.schedules.picture import svg_of_curve

SVG = "{http://www.w3.org/2000/svg}"


def parsed(curve):
    """Return the picture, its curve as points, and how a value is found from a height, by the labels of the axis."""
    picture = ElementTree.fromstring(curve._repr_svg_())
    (line,) = picture.iter(f"{SVG}polyline")
    (axis,) = picture.iter(f"{SVG}path")
    top, bottom = (float(part.strip("MVH").split(",")[-1]) for part in axis.get("d").split()[:2])
    labels = [text.text for text in picture.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    highest, lowest = (float(label) for label in labels if label[0].isdigit())

    def value_at(y):
        return lowest + (bottom - y) / (bottom - top) * (highest - lowest)

    return picture, points_of(line), value_at


def points_of(shape):
    return [tuple(float(number) for number in point.split(",")) for point in shape.get("points").split()]


@pytest.mark.parametrize("curve", [ec.linear(0.6, 0.2), ec.cosine(0.2, 0.6), ec.constant(0.5), ec.constant(0.0)])
def test_the_points_of_a_curve_lie_where_its_values_say(curve):
    _, points, value_at = parsed(curve)
    values = curve.values()
    assert [value_at(y) for _, y in points] == pytest.approx(values, abs=1e-3)
    distances = [b[0] - a[0] for a, b in pairwise(points)]
    assert distances == pytest.approx([distances[0]] * (len(values) - 1), abs=0.02)


def test_a_band_is_a_polygon_along_its_upper_edge_and_back_along_the_lower():
    band = ec.Band(lower=ec.linear(0.6, 0.1), upper=ec.linear(0.7, 0.2))
    picture, points, value_at = parsed(band)
    (polygon,) = picture.iter(f"{SVG}polygon")
    corners = points_of(polygon)
    upper, lower = corners[: len(points)], corners[len(points) :][::-1]
    assert [value_at(y) for _, y in lower] == pytest.approx([low for low, _ in band.values()], abs=5e-3)
    assert [value_at(y) for _, y in upper] == pytest.approx([high for _, high in band.values()], abs=5e-3)
    assert [x for x, _ in lower] == [x for x, _ in upper] == [x for x, _ in points]


def test_the_axis_names_the_lowest_and_the_highest_value_and_the_unit():
    picture, _, _ = parsed(ec.Band(ec.linear(0.6, 0.2, unit="initial"), width=0.1))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"0.65", "0.15", "multiples of the entropy at the first step"} <= set(texts)


def test_text_is_escaped():
    from entrocraft.schedules.picture import svg_of_curve

    picture = ElementTree.fromstring(svg_of_curve([0.0, 1.0], title="a < b & <script>", unit='"nats"'))
    assert "a < b & <script>" in [text.text for text in picture.iter(f"{SVG}text")]
    assert not list(picture.iter(f"{SVG}script"))


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e300])
def test_one_value_of_any_size_can_be_drawn(value):
    picture = svg_of_curve([value, value], title="one", unit="nats")
    assert "nan" not in picture and "inf" not in picture
