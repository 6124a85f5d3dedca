"""Rollouts on file: what is written, how large it grows, what a resumed run forgets."""

import json
import math

import pytest

from entrocraft.runs.rollouts import TEXT_BYTES, RolloutFile, RolloutText, rewind_rollouts

COLUMNS = {
    "group": [0, 0, 1, 1, 2, 2],
    "reward": [1.0, 0.0, math.nan, 0.5, 0.25, 1 / 3],
    "advantage": [1.0, -1.0, 0.0, 0.0, 1e-9, -2.5],
    "change": None,
    "tokens": [3, 4, 5, 6, 7, 0],
    "kept_tokens": [3, 0, 5, 6, 7, 0],
}


def texts(rows):
    return [
        RolloutText(f"prompt {row // 2}", f"completion {row}", ["completion", f" {row}"], [-0.25, 1 / 3], [True, False])
        for row in rows
    ]


def lines_of(file):
    return [json.loads(line) for line in file.path.read_text().splitlines()]


def test_a_line_holds_a_value_per_rollout_and_null_for_what_is_no_number(tmp_path):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    file.append(1, COLUMNS, texts)
    (line,) = lines_of(file)
    assert line["step"] == 1 and line["group"] == COLUMNS["group"] and line["change"] is None
    assert line["reward"] == [1, 0, None, 0.5, 0.25, 0.333333]
    assert line["advantage"] == [1, -1, 0, 0, 1e-9, -2.5]
    assert line["kept_tokens"] == [3, 0, 5, 6, 7, 0]


def test_texts_are_those_of_other_prompts_at_each_step(tmp_path):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    for step in (1, 2, 3):
        file.append(step, COLUMNS, texts)
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)  # of another process, which goes on
    file.append(4, COLUMNS, texts)
    shown = [[text["row"] for text in line["texts"]] for line in lines_of(file)]
    assert shown == [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 4, 5], [0, 1, 2, 3]]  # prompts 0 1, 2 0, 1 2
    assert lines_of(file)[0]["texts"][2] == {
        "row": 2,
        "prompt": "prompt 1",
        "completion": "completion 2",
        "tokens": ["completion", " 2"],
        "changes": [-0.25, 0.333],
        "kept": "10",
    }


def test_tokens_of_which_nothing_was_predicted_say_whether_they_were_kept(tmp_path):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    file.append(1, COLUMNS, lambda rows: [RolloutText("p", "ab", ["a", "b"], None, [False, True]) for _ in rows])
    file.append(2, COLUMNS, lambda rows: [RolloutText("p", "a", ["a"], [math.nan], [True]) for _ in rows])
    none, nan = (line["texts"][0] for line in lines_of(file))
    assert none["changes"] is None and none["kept"] == "01" and nan["changes"] == [None]


@pytest.mark.parametrize(
    ("token", "count"), [("xyz", TEXT_BYTES // 3), ("äö", TEXT_BYTES // 4), ("\ud83d", TEXT_BYTES)]
)
def test_tokens_are_cut_where_a_text_is(tmp_path, token, count):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    long = RolloutText("", token * 5000, [token] * 5000, [1e-9] * 5000, [True] * 5000)
    file.append(1, COLUMNS, lambda rows: [long for _ in rows])
    written = lines_of(file)[0]["texts"][0]
    assert len(written["tokens"]) == len(written["changes"]) == len(written["kept"]) == count
    assert written["completion"].startswith("".join(written["tokens"]).encode(errors="replace").decode())


def test_only_texts_at_hand_are_asked_for(tmp_path):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    asked = []
    file.append(1, COLUMNS, lambda rows: asked.extend(rows) or texts(rows), num_texts=2)
    assert asked == [0, 1]


@pytest.mark.parametrize("text", ["x" * 9000, "ä" * 5000, "half an emoji \ud83d", "NUL \x00"])
def test_a_text_is_cut_and_always_readable(tmp_path, text):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=10)
    file.append(1, COLUMNS, lambda rows: [RolloutText(text, text) for _ in rows])
    written = lines_of(file)[0]["texts"][0]["completion"]
    assert len(written.encode()) <= TEXT_BYTES + len(" ...")


def test_the_file_stays_within_its_limit_and_spreads_over_the_run(tmp_path):
    file = RolloutFile(tmp_path / "rollouts.jsonl", total_steps=1000, limit_bytes=30_000)
    for step in range(1, 1001):
        if file.wants(step):
            file.append(step, COLUMNS, texts)
    steps = [line["step"] for line in lines_of(file)]
    assert file.path.stat().st_size <= 30_000
    assert steps[:4] == [1, 2, 3, 4]  # the beginning whole
    halves = [sum(step <= 500 for step in steps), sum(step > 500 for step in steps)]
    assert min(halves) > 0.7 * max(halves) and steps[-1] > 950


def test_a_file_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    file = RolloutFile(tmp_path / "folder", total_steps=10)
    with pytest.warns(UserWarning, match="folder cannot be written .* the run goes on"):
        file.append(1, COLUMNS, texts)
    assert not file.wants(2)


def test_a_resumed_run_forgets_what_it_makes_again_and_a_torn_line(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    file = RolloutFile(path, total_steps=10)
    for step in (1, 2, 3, 4):
        file.append(step, COLUMNS, texts)
    with path.open("a") as torn:
        torn.write('{"step": 2, "gro')
    rewind_rollouts(path, 2)
    assert [line["step"] for line in lines_of(file)] == [1, 2]
    rewind_rollouts(path, 0)
    assert path.read_text() == ""
    rewind_rollouts(tmp_path / "none.jsonl", 3)
