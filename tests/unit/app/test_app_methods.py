import json
import re
from pathlib import Path

from entrocraft.app.methods import TABLE, follows, made_anew, methods, options_of

ROOT = Path(__file__).parents[3]


def test_the_table_is_what_the_methods_say():
    assert json.loads(TABLE.read_text("utf-8")) == made_anew(), "run python -m entrocraft.app.methods"


def test_every_option_is_explained():
    assert [
        (each["name"], option["name"]) for each in methods() for option in each["options"] if not option["summary"]
    ] == []


def test_methods_without_a_target_are_those_that_the_documentation_says_have_none():
    rows = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\|([^|]*)\|", (ROOT / "docs" / "control.md").read_text(), re.MULTILINE)
    said = {name for name, when in rows if "no target" in when} | {"none"}
    assert len(said) > 5
    assert {each["name"] for each in methods() if not each["has_target"]} == said


def test_some_methods_follow_the_curve_when_told_so():
    assert follows("token", {}) and follows("my_package.mine:Method", {})
    assert not follows("clip_b", {}) and follows("clip_b", {"follow": True})
    assert "follow" in options_of("clip_b")


def test_of_the_strategies_of_one_method_the_curve_is_followed_by_one():
    assert follows("flexible_clip", {}) and follows("flexible_clip", {"strategy": "curve"})
    assert not any(follows("flexible_clip", {"strategy": strategy}) for strategy in ("id", "did", "od"))
    assert follows("my_package.mine:Method", {"strategy": "od"})
