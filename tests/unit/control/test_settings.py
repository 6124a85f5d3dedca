"""Settings of entropy control: a method and its options however they are written, and what is refused."""

import json
import subprocess
import sys

import pytest

from entrocraft import Band, Decision, Method, Schedule, linear
from entrocraft.control import EntropyControl
from entrocraft.control.capabilities import Capabilities, default_method
from entrocraft.control.methods import METHODS
from entrocraft.control.methods.budget import Budget
from entrocraft.control.signals import SIGNALS
from entrocraft.errors import InvalidValueError, UnknownNameError


class Half(Method):
    """Keeps every second rollout."""

    def __init__(self, start: int = 0):
        self.start = start

    def decide(self, batch, goal):
        keep = (batch.advantages == batch.advantages) & False
        keep[self.start :: 2] = True
        return Decision.keeping(batch, keep)


class NoMethod:
    """Has a `decide`, and is no method."""

    def decide(self, batch, goal):
        return None


@pytest.mark.parametrize(
    "settings",
    [
        {"method": {"name": "budget", "min_kept": 0.2, "visitation": True}},
        {"method": "budget", "min_kept": 0.2, "visitation": True},
        {"rule": "budget", "min_kept": 0.2, "visitation": True},
        {"method": "rejection", "rule": "budget", "min_kept": 0.2, "visitation": True},
        {"method": {"name": "budget", "min_kept": 0.2}, "visitation": True},
        {"min_kept": 0.2, "visitation": True},  # better with it than the default
    ],
)
def test_a_method_and_its_options_may_be_written_in_many_ways(settings):
    method = EntropyControl(**settings).new_method()
    assert type(method) is Budget and method.min_kept == 0.2 and "visitation" in method.needs


@pytest.mark.parametrize("method", [Half, {"name": Half, "start": 1}, f"{__name__}:Half", {"name": f"{__name__}:Half"}])
def test_a_method_of_ones_own_is_found_and_survives_the_dump(method, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Half.__module__])
    control = EntropyControl(method=method)
    again = EntropyControl.of(json.loads(json.dumps(control.to_dict())))
    for each in (control, again):
        assert isinstance(each.new_method(), Half) and each.method_name == f"{__name__}:Half"
        assert each.new_method().start == (1 if isinstance(method, dict) and "start" in method else 0)
    assert control.build().name == f"{__name__}:Half"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"method": "entropic", "min_kept": 7.0}, UnknownNameError, "option of method 'entropic' 'min_kept'"),
        ({"method": "entropic", "normalize": "foo"}, UnknownNameError, "option of method 'entropic' 'normalize'"),
        ({"method": "entropic", "rule": "token"}, InvalidValueError, "rule is the old name of method"),
        ({"method": {"name": "token", "min_kep": 0.2}}, UnknownNameError, "did you mean 'min_kept'"),
        ({"method": {"name": "token", "min_kept": "many"}}, InvalidValueError, "min_kept: .*number"),
        ({"method": {"name": "token", "min_kept": 0.2}, "min_kept": 0.3}, InvalidValueError, "given twice"),
        ({"method": "tokens"}, UnknownNameError, "did you mean 'token'"),
        ({"method": 3}, InvalidValueError, "a name, an import path or a class, got 3"),
        ({"method": {"min_kept": 0.2, "reward_baseline": 0.5}}, UnknownNameError, "option of method 'token'"),
        ({"method": "advantage", "min_kept": 0.2}, InvalidValueError, "min_kept is for fallback='escalate'"),
        ({"method": "advantage", "predictor": "exact"}, InvalidValueError, "is for methods that predict"),
        ({"method": "entropic", "rejected": "mask"}, InvalidValueError, "is for methods that leave something out"),
        ({"method": "aligned", "predictor": "exact"}, InvalidValueError, "brings its own predictor"),
        ({"method": "aligned", "visitation": True}, InvalidValueError, "sees visitation already"),
        ({"predictor": "aligned", "method": "budget", "visitation": True}, InvalidValueError, "visitation already"),
        ({"predictor": "rarity", "method": "budget", "visitation": True}, InvalidValueError, "all contexts alike"),
        ({"aligned_share": 0.5}, InvalidValueError, "are for predictor 'whole_model'"),
        ({"predictor": "aligned", "aligned_share": 2.0}, InvalidValueError, "whole_model_share"),
        ({"predictor": "aligned", "aligned_blocks": 0}, InvalidValueError, "whole_model_blocks"),
        ({"predictor": "aligned", "aligned_blocks": 1, "whole_model_blocks": 2}, InvalidValueError, "old name"),
        ({"predictor": "estimates"}, UnknownNameError, "did you mean 'estimate'"),
        ({"guard": "warm"}, UnknownNameError, "did you mean 'warn'"),
        ({"rejected": "drops"}, UnknownNameError, "did you mean 'drop'"),
        ({"method": f"{__name__}:NoMethod"}, InvalidValueError, "expected a class derived from entrocraft.Method"),
        ({"method": f"{__name__}:Halve"}, InvalidValueError, "did you mean 'Half'"),
        ({"method": "no_such_module_at_all:Half"}, InvalidValueError, "no_such_module_at_all"),
        ({"estimator": {"name": "w_reinforce", "positive_wait": 0.2}}, UnknownNameError, "'positive_weight'"),
        ({"estimator": "grop"}, UnknownNameError, "did you mean 'grpo'"),
    ],
)
def test_what_does_not_apply_is_refused_in_one_line(settings, error, message, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Half.__module__])
    with pytest.raises(error, match=message) as caught:
        EntropyControl(**settings)
    assert "\n" not in str(caught.value)


def test_needs_and_turns_that_nobody_knows_are_refused_with_the_nearest_name():
    class Needy(Half):
        needs = frozenset({"changes"})

    class Turning(Half):
        turns = frozenset({"entropy_coeff"})

    with pytest.raises(UnknownNameError, match="did you mean 'change'"):
        EntropyControl(method=Needy)
    with pytest.raises(UnknownNameError, match="did you mean 'entropy_coef'"):
        EntropyControl(method=Turning)


def test_a_preset_is_a_method_with_a_setting():
    control = EntropyControl(method="aligned", aligned_blocks=2)
    assert (control.method, control.predictor, control.whole_model_blocks) == ("predicted", "whole_model", 2)
    assert EntropyControl(rule="aligned") == EntropyControl(method="predicted", predictor="whole_model")


def test_settings_say_what_was_given_and_no_more():
    assert (
        repr(EntropyControl(rule="token", min_kept=0.2)) == "EntropyControl(method={'name': 'token', 'min_kept': 0.2})"
    )
    dumped = EntropyControl(schedule=linear(0.6, 0.2), method="none").to_dict()
    assert dumped == {
        "schedule": {"type": "linear", "start": 0.6, "end": 0.2},
        "method": "none",
        "aggregation": "token_mean",
    }


WRITTEN_BY_0_1 = {
    "schedule": {"type": "linear", "start": 0.6, "end": 0.2},
    "method": "rejection",
    "rule": "advantage",
    "normalize": "all",
    "reward_baseline": 0.0,
    "visitation": False,
    "min_kept": 0.1,
    "fallback": "skip",
    "entropy_bonus": 0.0,
    "rejected": "mask",
    "predictor": "estimate",
    "aligned_share": 1.0,
    "aggregation": "token_mean",
}


def test_the_settings_that_version_0_1_wrote_in_full_are_read():
    control = EntropyControl.of(WRITTEN_BY_0_1)
    assert control == EntropyControl(
        schedule=WRITTEN_BY_0_1["schedule"], method="advantage", normalize="all", rejected="mask"
    )
    entropic = EntropyControl.of(
        {**WRITTEN_BY_0_1, "method": "entropic", "rule": None, "normalize": "kept", "rejected": "drop"}
    )
    assert entropic.method == "entropic" and entropic.band() == Band(linear(0.6, 0.2), width=0.04)
    assert EntropyControl.of({**WRITTEN_BY_0_1, "rule": "token", "min_kept": 0.3, "normalize": "kept"}).options == {
        "min_kept": 0.3
    }


def test_a_band_of_a_schedule_of_ones_own_is_taken_as_it_is():
    class Sawtooth(Schedule):
        def at(self, progress):
            return 0.3 + 0.1 * (progress * 4 % 1)

    band = Band(Sawtooth(), width=0.02)
    assert EntropyControl.of(band).band().target(1, 10) == band.target(1, 10)
    assert EntropyControl.of(Band(lower=0.3, upper=Sawtooth())).band()(0, 10) == (0.3, 0.3)


ALL = frozenset(
    {"rollouts", "tokens", "advantages", "surrogate", "entropy_coef", "clip_low", "clip_high", "temperature"}
)


def engine(without=(), blind_to=()):
    why_not = {"tokens": "its loss weighs whole rollouts"}
    carries, offers = ALL - set(without), frozenset(SIGNALS) - set(blind_to)
    return Capabilities(engine="the test's engine", carries=carries, offers=offers, why_not=why_not)


def test_an_engine_refuses_what_it_cannot_do_by_name_with_the_reason():
    with pytest.raises(InvalidValueError, match="'token' sets tokens, which the test's engine cannot: its loss weighs"):
        engine(without=["tokens"]).check(METHODS["token"](), "token")
    with pytest.raises(
        InvalidValueError, match="'entropy_bonus' sets entropy_coef, .* choose a method without, of .*token"
    ):
        engine(without=["entropy_coef"]).check(METHODS["entropy_bonus"](), "entropy_bonus")
    with pytest.raises(InvalidValueError, match="'predicted' needs change"):
        engine(blind_to=["change"]).check(METHODS["predicted"](), "predicted")
    bonus = EntropyControl(method="predicted", fallback="escalate", entropy_bonus=0.1).new_method()
    with pytest.raises(InvalidValueError, match="sets entropy_coef"):
        engine(without=["entropy_coef"]).check(bonus, "predicted")
    engine().check(bonus, "predicted")


@pytest.mark.parametrize(
    ("able", "options", "expected"),
    [
        (None, (), "token"),
        (engine(), (), "token"),
        (engine(without=["tokens"]), (), "budget"),
        (engine(), ("visitation",), "budget"),
        (engine(blind_to=["fresh_entropy"]), (), "predicted"),
        # A person is told what to change, where another method would not do what was asked for.
        (engine(blind_to=["change"]), (), "token"),
    ],
)
def test_the_default_method_is_decided_in_one_place(able, options, expected):
    assert default_method(able, options) == expected
    assert EntropyControl(**dict.fromkeys(options, True)).settled(able).method_name == expected


def test_settings_that_name_no_method_need_no_torch():
    code = (
        "import sys; from entrocraft.config import parse_config; "
        "parse_config({'control': 'linear(0.6, 0.2)'}); print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
