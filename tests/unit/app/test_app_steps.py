import pytest
from support.page import rollout_line, step_line

from entrocraft.app.errors import NotFoundError
from entrocraft.app.recorded import RecordedRun
from entrocraft.app.steps import groups_of, step_of, verdict


@pytest.mark.parametrize(
    ("tokens", "kept", "word"), [(4, 4, "kept"), (5, 2, "in part"), (5, 0, "left out"), (0, 0, "left out")]
)
def test_a_verdict_says_what_the_update_used(tokens, kept, word):
    assert verdict(tokens, kept) == word


def test_a_step_shows_its_rollouts_by_prompt(make_run):
    lines = [
        step_line(step, **{"quadrants/positive_rare": 0.5, "kept_quadrants/positive_rare": 0.25}) for step in (1, 2)
    ]
    found = step_of(RecordedRun(make_run(lines=lines, rollouts=[rollout_line(2)]).path), 2)
    assert found["metrics"]["entropy"] == 0.6
    assert {"name": "positive_rare", "all": 0.5, "kept": 0.25} in found["quadrants"]
    assert {"name": "negative_rare", "all": None, "kept": None} in found["quadrants"]
    assert found["rollouts"]["kept"] == [3, 3, 4, 2] and found["rollouts"]["change"] == [0, 0, -0.02, 0.01]
    (group,) = found["groups"]
    assert (group["group"], group["prompt"], group["right"], group["of"]) == (1, "1,2=3:", 1, 2)
    right, wrong = group["rollouts"]
    assert right == {
        "index": 2,
        "text": "1+2",
        "reward": 1,
        "advantage": 0.7,
        "change": -0.02,
        "tokens": 4,
        "kept": 4,
        "verdict": "kept",
        "token_texts": None,
        "token_changes": None,
        "token_kept": None,
    }
    assert (wrong["index"], wrong["text"], wrong["verdict"]) == (3, "2-1", "in part")
    assert found["sentence"] == (
        "Entropy was 0.600 nats per token, 0.100 above its target; the update learnt from 75% of the tokens. "
        "Of 4 rollouts: 3 kept, 1 in part, 0 left out."
    )


def test_a_step_shows_what_each_token_does_where_that_was_recorded(make_run):
    line = rollout_line(1)
    line["texts"][0] |= {"tokens": ["1", "+", "2"], "changes": [-0.012, None, 3e-5], "kept": "101"}
    line["texts"][1] |= {"tokens": ["2", "-1"], "changes": None, "kept": "01"}
    (group,) = step_of(RecordedRun(make_run(rollouts=[line]).path), 1)["groups"]
    known = [
        [rollout[name] for name in ("token_texts", "token_changes", "token_kept")] for rollout in group["rollouts"]
    ]
    assert known == [[["1", "+", "2"], [-0.012, None, 3e-5], [1, 0, 1]], [["2", "-1"], None, [0, 1]]]
    (streamed,) = groups_of(line, tokens=False)
    assert streamed["rollouts"][0] == group["rollouts"][0] | dict.fromkeys(
        ("token_texts", "token_changes", "token_kept")
    )


def test_a_step_without_rollouts_is_shown_all_the_same(make_run):
    line = step_line(1, target=None, kept_token_fraction=None)
    found = step_of(RecordedRun(make_run(lines=[line]).path), 1)
    assert found["rollouts"] is None and found["groups"] == [] and found["pages"] == 1
    assert found["sentence"].endswith("nothing controlled it. No rollouts were recorded of it.")


def test_rollouts_without_a_prediction_or_rewards_are_shown(make_run):
    line = rollout_line(1) | {"change": None, "reward": None}
    found = step_of(RecordedRun(make_run(rollouts=[line]).path), 1)
    assert found["rollouts"]["change"] is None and found["groups"][0]["right"] == 0


def test_many_prompts_come_page_by_page(make_run):
    texts = [{"row": row, "prompt": f"p{row}", "completion": ""} for row in range(45)]
    columns = {name: [1] * 45 for name in ("reward", "advantage", "change", "tokens", "kept_tokens")}
    run = RecordedRun(make_run(rollouts=[{"step": 1, "group": [*range(45)], "texts": texts} | columns]).path)
    assert [group["prompt"] for group in step_of(run, 1, page=2)["groups"]] == ["p40", "p41", "p42", "p43", "p44"]
    assert step_of(run, 1)["pages"] == 3 and len(step_of(run, 1)["groups"]) == 20
    with pytest.raises(NotFoundError, match="no page 3"):
        step_of(run, 1, page=3)


def test_a_step_that_is_not_there_is_said_with_the_last(make_run):
    with pytest.raises(NotFoundError, match="there is no step 9; the last is 4"):
        step_of(RecordedRun(make_run().path), 9)
