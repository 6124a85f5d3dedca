"""docs/hosts.md: each block of code on the page runs, and does what the page says."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LOOP, SETTINGS = BLOCKS[:2]


def mean_distance(code, capsys):
    """Return how far entropy was from its target over steps 21 to 100."""
    exec(code, {})
    rows = [[float(number) for number in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 100
    return sum(abs(entropy - target) for entropy, target in rows[20:]) / 80


@pytest.mark.parametrize("seed", range(3))
def test_the_loop_follows_its_curve_and_without_control_it_does_not(seed, capsys):
    code = LOOP.replace("manual_seed(0)", f"manual_seed({seed})")
    plain = code.replace('"linear(2.3, 1.6)"', '{"schedule": "linear(2.3, 1.6)", "method": "none"}')
    assert plain != code
    assert mean_distance(code, capsys) < 0.0125 and 0.085 < mean_distance(plain, capsys) < 0.165


def test_the_loop_is_as_short_as_promised():
    assert sum(bool(line.strip()) for line in LOOP.splitlines()) <= 23  # 20 and the imports


def test_the_settings_of_a_loop_are_checked_before_a_model_loads():
    names = {}
    exec(SETTINGS, names)
    assert names["loop"].settled("linear(0.6, 0.2)").method_name == "token"
