import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from entrocraft.errors import InvalidValueError
from entrocraft.models.fitting import check_fit

_CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 8}
_CONFIG |= {"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}


def folder_with(tmp_path, **changes):
    (tmp_path / "config.json").write_text(json.dumps(_CONFIG | changes))
    save_file({"a": np.zeros(500, np.float32), "b": np.zeros(500, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_model_of_about_the_size_of_its_weights_fits(tmp_path):
    check_fit("m", folder_with(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [{"num_hidden_layers": 10**9}, {"hidden_size": 10**5}, {"vocab_size": 10**12}, {"intermediate_size": 10**15}],
    ids=str,
)
def test_a_far_larger_one_is_refused_before_it_takes_memory(tmp_path, changes):
    with pytest.raises(InvalidValueError, match="describes a model of"):
        check_fit("m", folder_with(tmp_path, **changes))


def test_weights_in_several_files_count_together(tmp_path):
    folder = folder_with(tmp_path)
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    check_fit("m", folder)
    folder_config = _CONFIG | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(folder_config))
    with pytest.raises(InvalidValueError, match="3 layers, and the files hold 2 tensors"):
        check_fit("m", folder)


def test_a_folder_without_weights_is_left_to_whoever_reads_them(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(_CONFIG))
    check_fit("m", tmp_path)
