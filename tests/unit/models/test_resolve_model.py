import json
from pathlib import Path

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.models import context_length, load_model, load_tokenizer, resolve_model


@pytest.mark.parametrize("name", ["a" * 5_000, "b" * 5_000 + ".gguf"])
def test_a_name_that_no_path_can_have_is_refused_in_a_line(name):
    with pytest.raises(InvalidValueError, match="File name too long") as caught:
        resolve_model(name)
    assert len(str(caught.value)) < 400


def test_so_is_one_that_an_adapter_names_as_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "1:30:00" * 3_000}))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(InvalidValueError, match="File name too long"):
        load_model(str(tmp_path))


def test_a_model_may_be_named_by_a_path(tmp_path):
    assert resolve_model(Path("countdown-base")) == resolve_model("countdown-base")
    load_model("countdown-base").save_pretrained(tmp_path)
    load_tokenizer("countdown-base").save_pretrained(tmp_path)
    assert load_model(tmp_path).name_or_path == str(tmp_path)  # as text, which an adapter's configuration can hold
    assert len(load_tokenizer(tmp_path)) == len(load_tokenizer("countdown-base"))
    assert context_length(tmp_path) == context_length("countdown-base")
    with pytest.raises(InvalidValueError, match="model 'nowhere' is not there"):
        load_model(Path("nowhere"))


def test_a_folder_that_is_not_there_is_named_where_the_hub_has_no_such_model_either(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # what a laptop without a network sees
    with pytest.raises(InvalidValueError, match="No folder here has that name; `entrocraft list models` says"):
        load_tokenizer("models/misspelt")
    with pytest.raises(InvalidValueError, match="No folder here has that name; `entrocraft list models` says"):
        load_model("models/misspelt")
