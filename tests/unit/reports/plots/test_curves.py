"""The picture of a schedule or a band."""

import subprocess
import sys

import pytest

import entrocraft as ec


def test_a_schedule_is_drawn_with_what_was_measured():
    axes = ec.plot(ec.linear(0.6, 0.2), 10, observed=[0.5, 0.4])
    target, measured = axes.get_lines()
    assert list(target.get_ydata()) == ec.linear(0.6, 0.2).values(10)
    assert list(measured.get_xdata()) == [1, 2]
    assert axes.get_ylabel() == "entropy (nats per token)"


def test_a_band_is_filled_around_its_target():
    band = ec.Band(lower=ec.linear(0.6, 0.1), upper=ec.linear(0.7, 0.2))
    axes = ec.plot(band, 10)
    (filled,) = axes.collections
    corners = filled.get_paths()[0].vertices
    for step, (lower, upper) in enumerate(band.values(10)):
        assert {lower, upper} <= {y for x, y in corners if x == step}
    assert list(axes.get_lines()[0].get_ydata()) == band.targets(10)


def test_what_schedule_from_takes_can_be_drawn_on_axes_of_ones_own():
    axes = ec.plot(0.5, 10)
    assert ec.plot("linear(1.0, 0.5, unit='initial')", 10, ax=axes) is axes
    assert len(axes.get_lines()) == 2
    assert axes.get_ylabel() == "entropy (multiples of the entropy at the first step)"
    with pytest.raises(ec.EntrocraftError, match="did you mean 'linear'"):
        ec.plot("linaer(1, 2)")


def test_without_matplotlib_the_package_to_install_is_named():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import entrocraft as ec\n"
        "from entrocraft.errors import MissingDependencyError\n"
        "try: ec.plot(0.5)\n"
        "except MissingDependencyError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'entrocraft[plots]'" in said
