"""A model is what its file says, whole and finite, or it is refused by name."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model
from entrocraft.models.weights import digest_of_model

EMBEDDED = files("entrocraft") / "assets" / "countdown-base"


@pytest.fixture
def saved(tmp_path):
    """The embedded model in a folder, with its weights changed."""

    def save(change):
        folder = tmp_path / "model"
        shutil.copytree(str(EMBEDDED), folder)
        weights = load_file(folder / "model.safetensors")
        save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    return save


def test_the_whole_model_loads_its_tied_weights_aside(saved):
    folder = saved(lambda weights: weights)
    model = load_model(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight  # in the file once, or not at all


def test_a_file_that_is_written_anew_leaves_a_loaded_model_as_it_is(saved):
    folder = saved(lambda weights: weights)
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)  # as training would
    learnt = [parameter.clone() for parameter in model.parameters()]
    file = Path(folder, "model.safetensors")
    file.write_bytes(file.read_bytes())  # in its place, as cp does
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), learnt, strict=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_weights_that_are_missing_are_named(saved):
    folder = saved(lambda weights: {name: weights[name] for name in sorted(weights)[::2]})
    with pytest.raises(
        InvalidValueError, match=r"the file lacks model\.layers\.0.* and \d+ more: they would be random"
    ):
        load_model(folder)


def test_weights_that_are_left_over_are_named(saved):
    folder = saved(lambda weights: weights | {"model.layers.9.extra.weight": torch.ones(2, 2)})
    with pytest.raises(InvalidValueError, match=r"the file also holds model\.layers\.9\.extra\.weight: "):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(saved, value):
    def break_one(weights):
        weights["model.norm.weight"][3] = value
        return weights

    with pytest.raises(InvalidValueError, match=r"NaN or infinite numbers are in model\.norm\.weight: .* diverged"):
        load_model(saved(break_one))


@pytest.fixture
def adapter(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(load_model("countdown-base"), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_that_lacks_weights_is_refused(adapter):
    load_model(str(adapter))
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: weights[name] for name in sorted(weights)[1:]}, adapter / "adapter_model.safetensors")
    with pytest.raises(InvalidValueError, match=r"the adapter's file lacks .*lora_A"):
        load_model(str(adapter))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (None, "names no base model"),
        ("", "names no base model"),
        (3, "names no base model"),
        ("itself", "names itself"),
    ],
)
def test_an_adapter_without_a_base_is_refused(adapter, base, message):
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(adapter) if base == "itself" else base
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidValueError, match=message):
        load_model(str(adapter))


def test_weights_of_another_shape_are_named_with_both(saved):
    folder = saved(lambda weights: weights | {"model.norm.weight": torch.zeros(3, 3)})
    with pytest.raises(InvalidValueError, match=r"of other shapes .* are model\.norm\.weight \(3 x 3, not \d+\)"):
        load_model(folder)


@pytest.mark.parametrize("place", [0, 10**7, 2 * 10**7 - 1])
def test_a_model_is_told_from_another_in_its_place_wherever_they_differ(tmp_path, place):
    weights, other = tmp_path / "model.safetensors", tmp_path / "model.gguf"
    data = bytearray(2 * 10**7)  # more than is read in full
    weights.write_bytes(data)
    before = digest_of_model(str(tmp_path))
    assert digest_of_model(str(tmp_path)) == before
    around = slice(max(0, place - 7000), place + 7000)  # more than lies between two parts
    data[around] = b"\1" * len(data[around])
    weights.write_bytes(data)
    assert digest_of_model(str(tmp_path)) != before
    weights.write_bytes(bytes(len(data)))
    assert digest_of_model(str(tmp_path)) == before
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert digest_of_model(str(tmp_path)) != before
    other.write_bytes(data)
    assert digest_of_model(str(other)) not in (None, before)


def test_what_is_no_file_here_has_no_digest(tmp_path):
    assert digest_of_model("org/model") is None and digest_of_model(str(EMBEDDED)) is not None
