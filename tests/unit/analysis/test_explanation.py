"""The attribution of entropy changes, on runs made from known gains and drifts."""

import math

import numpy as np
import pytest

from entrocraft.analysis.explanation import explain
from entrocraft.dynamics import QUADRANTS
from entrocraft.errors import InvalidValueError, MeasurementError
from entrocraft.reports.explanation import describe

SIGNS = {"positive_confident": -1, "positive_rare": 1, "negative_confident": 1, "negative_rare": -1}


def run_lines(*, gain=0.5, drift=-0.01, momentum=0.9, noise=0.0, num_steps=40, skipped=(), rates=None, seed=0):
    """Lines of a run that follows the model exactly; Adam's average written out as a sum, not as a recursion."""
    rng = np.random.default_rng(seed)
    lines, entropy, history = [], 1.0, []
    for step in range(1, num_steps + 1):
        whole = {name: SIGNS[name] * rng.uniform(0.01, 0.05) for name in QUADRANTS}
        kept = {name: value * rng.uniform(0, 1) for name, value in whole.items()}
        line = {"step": step, "entropy": entropy + noise * rng.standard_normal(), "skipped": float(step in skipped)}
        line |= {"target": 0.9, "lower": 0.8, "upper": 1.0, "direction": 0.0, "kept_fraction": 1.0}
        line |= {f"quadrants/{name}": value for name, value in whole.items()}
        rate = 1.0
        if rates is not None:
            rate = line["learning_rate_factor"] = rates[step - 1]
        lines.append(line | {f"kept_quadrants/{name}": value for name, value in kept.items()})
        if step not in skipped:
            history.append(sum(kept.values()))
            k = len(history)
            average = (1 - momentum) * sum(momentum ** (k - 1 - i) * s for i, s in enumerate(history))
            entropy += rate * (drift + gain * average / (1 - momentum**k))
    return lines


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("skipped", [(), (1, 5, 6)])
def test_gain_and_drift_of_a_run_without_noise_are_found(momentum, skipped):
    lines = run_lines(momentum=momentum, skipped=skipped)
    found = explain(lines, momentum)
    assert found.gain == pytest.approx(0.5)
    assert found.r_squared == pytest.approx(1.0)
    assert found.drift == pytest.approx([0.0 if step in skipped else -0.01 for step in range(1, 40)])
    assert found.unexplained == pytest.approx([0.0] * 39, abs=1e-9)


def test_an_update_at_a_tenth_of_the_rate_moves_entropy_a_tenth_as_far():
    rates = [1.0 if step % 3 else 0.1 for step in range(40)]
    found = explain(run_lines(rates=rates), 0.9)
    assert (found.gain, found.r_squared) == (pytest.approx(0.5), pytest.approx(1.0))
    assert found.drift == pytest.approx([-0.01 * rate for rate in rates[:-1]])
    assert found.unexplained == pytest.approx([0.0] * 39, abs=1e-9)


def test_steps_of_which_no_token_counted_are_passed_over():
    lines = run_lines()
    found = explain(lines)
    unmeasured = {"entropy": None, "direction": 0.0, "kept_fraction": 0.0, "skipped": 1.0}
    cut = [*lines[:5], unmeasured, unmeasured, *lines[5:], unmeasured]
    passed = explain([line | {"step": step} for step, line in enumerate(cut, start=1)])
    assert passed.steps == [*range(1, 6), *range(8, 42)]
    assert (passed.gain, passed.totals(), passed.r_squared) == (found.gain, found.totals(), found.r_squared)
    with pytest.raises(InvalidValueError, match="at least 8 steps is needed to explain it, got 0"):
        explain([unmeasured | {"step": step} for step in range(1, 20)])


def test_the_wrong_momentum_explains_less():
    lines = run_lines(momentum=0.9)
    assert explain(lines, 0.0).r_squared < explain(lines, 0.9).r_squared - 1e-4


def test_causes_add_up_to_the_change_measured_at_every_step_and_in_all():
    lines = run_lines(noise=0.02)
    found = explain(lines)
    assert found.total_change == pytest.approx(lines[-1]["entropy"] - lines[0]["entropy"])
    assert sum(found.totals().values()) == pytest.approx(found.total_change)
    for i, change in enumerate(found.changes):
        causes = sum(values[i] for values in found.kept.values()) + found.drift[i] + found.unexplained[i]
        assert change == pytest.approx(causes) == pytest.approx(lines[i + 1]["entropy"] - lines[i]["entropy"])


def test_each_quadrant_has_its_share_and_what_was_rejected_the_rest():
    lines = run_lines(momentum=0.0)
    found = explain(lines, momentum=0.0)  # without memory the average is the value
    for name in QUADRANTS:
        kept = [0.5 * line[f"kept_quadrants/{name}"] for line in lines[:-1]]
        rest = [0.5 * line[f"quadrants/{name}"] - k for line, k in zip(lines[:-1], kept, strict=True)]
        assert found.kept[name] == pytest.approx(kept)
        assert found.rejected[name] == pytest.approx(rest)
        assert found.rejected_totals()[name] == pytest.approx(sum(rest))


def test_momentum_spreads_an_update_over_the_next_as_adam_does():
    lines = run_lines(momentum=0.5)
    name = "positive_rare"
    first, second = (line[f"kept_quadrants/{name}"] for line in lines[:2])
    # weights 1 for the first; 0.5 / (1 - 0.25) = 2/3 for the second
    assert explain(lines, 0.5).kept[name][:2] == pytest.approx([0.5 * first, 0.5 * (first / 3 + second * 2 / 3)])


def test_steps_out_of_the_band_are_counted_with_what_was_kept_then():
    lines = run_lines(num_steps=10)
    for line, direction, kept in zip(lines, [-1, -1, 1], [0.2, 0.4, 0.5], strict=False):
        line |= {"direction": float(direction), "kept_fraction": kept}
    found = explain(lines)
    assert (found.below.num_steps, found.above.num_steps, found.above.kept_fraction) == (2, 1, 0.5)
    assert found.below.kept_fraction == pytest.approx(0.3)
    assert explain(run_lines()).below.kept_fraction is None
    assert "2 steps below the band (30% of the tokens kept then)" in describe(found)


def test_words_are_as_sure_as_the_fit():
    assert "The kept tokens explain 100% of what a straight line leaves" in describe(explain(run_lines()))
    assert "The fit is poor" in describe(explain(run_lines(gain=0.01, drift=0.0, noise=1.0)))
    assert "A straight line alone explains nearly as much" in describe(explain(run_lines(gain=1e-3, noise=1e-3)))
    against = describe(explain(run_lines(gain=-0.5)))
    assert "explain nothing here" in against and "keeping all tokens" not in against


def test_the_share_beyond_a_line_is_of_the_variance_that_the_line_leaves():
    found = explain(run_lines(noise=0.01))
    share = (found.r_squared - found.r_squared_line) / (1 - found.r_squared_line)
    assert 0 < found.r_squared_line < found.r_squared < 1
    assert found.share_beyond_line == pytest.approx(share)


def test_an_entropy_that_never_moves_is_not_explained():
    found = explain([line | {"entropy": 1.0} for line in run_lines()])
    assert math.isnan(found.r_squared) and math.isnan(found.r_squared_line)
    assert found.totals() == pytest.approx(dict.fromkeys(found.totals(), 0.0), abs=1e-9)
    assert "The kept tokens explain" not in describe(found)


def without(lines, name):
    return [{key: value for key, value in line.items() if key != name} for line in lines]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (run_lines(num_steps=7), "at least 8 steps"),
        (without(run_lines(), "quadrants/positive_rare"), "step 1 has no quadrants/positive_rare"),
        (without(run_lines(), "kept_quadrants/negative_rare"), "has no kept_quadrants/negative_rare"),
        (run_lines()[:5] + run_lines()[6:], "one line for each step"),
    ],
)
def test_runs_that_cannot_be_explained_are_refused(lines, message):
    with pytest.raises(InvalidValueError, match=message):
        explain(lines)


def test_values_that_say_nothing_are_refused():
    with pytest.raises(InvalidValueError, match="momentum must lie in"):
        explain(run_lines(), momentum=1.0)
    with pytest.raises(MeasurementError, match="not finite"):
        explain([line | {"entropy": math.nan} for line in run_lines()])
    same = [line | {f"kept_quadrants/{name}": 0.1 for name in QUADRANTS} for line in run_lines()]
    with pytest.raises(MeasurementError, match="cannot be told from the drift"):
        explain(same)
    with pytest.raises(MeasurementError, match="cannot be told from the drift"):
        explain([line | {f"kept_quadrants/{name}": 0.0 for name in QUADRANTS} for line in run_lines()])


def test_numbers_too_large_to_be_added_up_are_refused():
    lines = run_lines()
    for i, line in enumerate(lines):
        line["entropy"] = 1e308 * (-1) ** i
    with pytest.raises(MeasurementError, match="too large"):
        explain(lines)
    for i, line in enumerate(lines):  # each a number, their sum over the run none
        line |= {"entropy": 0.5 + 0.01 * i, f"kept_quadrants/{QUADRANTS[0]}": 1.7e308}
    with pytest.raises(MeasurementError, match="too large"):
        explain(lines)


def test_steps_that_say_nothing_of_what_was_kept_count_as_out_of_the_band():
    lines = run_lines()
    lines[3] |= {"direction": 1.0, "kept_fraction": None}
    lines[4] |= {"direction": 1.0, "kept_fraction": 0.25}
    found = explain(lines)
    assert (found.above.num_steps, found.above.kept_fraction) == (2, 0.25)
