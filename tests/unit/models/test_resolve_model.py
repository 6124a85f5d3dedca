import json

import pytest

from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model, resolve_model


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
