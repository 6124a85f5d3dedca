import json
import shutil
from pathlib import Path

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.models import load_tokenizer, resolve_model
from entrocraft.models.tokenizer_files import check_tokenizer_files

_LONG = {"content": "{" * 40_000}


def embedded_with(tmp_path, file, change):
    """Return a copy of the embedded model's folder in which one file of JSON is changed."""
    folder = shutil.copytree(resolve_model("countdown-base"), tmp_path / "model")
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def test_the_embedded_tokenizer_is_as_it_should_be():
    check_tokenizer_files("m", Path(resolve_model("countdown-base")))


@pytest.mark.parametrize("index", [2_000, 2**31, 10**20])
def test_an_id_far_beyond_the_tokens_is_refused_before_its_table_takes_memory(tmp_path, index):
    folder = embedded_with(tmp_path, "tokenizer.json", lambda content: content["model"]["vocab"].update({"=": index}))
    with pytest.raises(InvalidValueError, match=rf"tokenizer.json holds 2\d tokens, .* the id {index}"):
        load_tokenizer(str(folder))


def test_an_added_token_with_such_an_id_is_refused(tmp_path):
    added = {"id": 2**31, "content": "<new>", "special": True}
    folder = embedded_with(tmp_path, "tokenizer.json", lambda content: content["added_tokens"].append(added))
    with pytest.raises(InvalidValueError, match="the id 2147483648"):
        load_tokenizer(str(folder))


def test_some_ids_may_be_left_out(tmp_path):
    folder = embedded_with(tmp_path, "tokenizer.json", lambda content: content["model"]["vocab"].update({"=": 1_000}))
    assert load_tokenizer(str(folder)).convert_tokens_to_ids("=") == 1_000


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer.json", lambda content: content["added_tokens"][0].update(content="{" * 40_000)),
        ("tokenizer_config.json", lambda content: content.update(pad_token="{" * 40_000)),
        ("tokenizer_config.json", lambda content: content.update(pad_token=_LONG)),
        ("tokenizer_config.json", lambda content: content.update(extra_special_tokens=["{" * 40_000])),
        ("tokenizer_config.json", lambda content: content.update(added_tokens_decoder={"0": _LONG})),
    ],
)
def test_a_special_token_of_absurd_length_is_refused_before_it_takes_minutes(tmp_path, file, change):
    with pytest.raises(InvalidValueError, match=f"{file} holds a special token of 40,000 characters"):
        load_tokenizer(str(embedded_with(tmp_path, file, change)))


def test_what_is_no_json_is_left_to_the_reader(tmp_path):
    folder = shutil.copytree(resolve_model("countdown-base"), tmp_path / "model")
    for text in ("{", "[" * 100_000, "[]", '{"model": 3, "added_tokens": {"a": 1}}'):
        (folder / "tokenizer.json").write_text(text)
        check_tokenizer_files("m", folder)
