import pytest

from entrocraft.config import carried_from, load_config, parse_config
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.models.carried import carried_over
from entrocraft.runs import RunDirectory
from entrocraft.tasks import build

SAID = {"chat_template_kwargs": {"enable_thinking": False}, "repetition_penalty": 1.1, "min_p": 0.05, "top_k": 20}


def test_what_changes_prompts_or_sampling_is_carried_to_evaluation():
    assert carried_over(SAID | {"beta": 0.1, "use_liger_kernel": True}) == SAID
    assert carried_over({}) == {} == carried_over({"chat_template_kwargs": {}})
    config = parse_config({"train": {"trl": SAID}})
    sampling = config.eval.sampling(build("countdown"), config.train.carried_over())
    assert sampling.chat_template_kwargs == {"enable_thinking": False}
    assert (sampling.repetition_penalty, sampling.min_p, sampling.top_k) == (1.1, 0.05, 20)
    # What the section `eval` says goes first.
    config = parse_config({"train": {"trl": SAID}, "eval": {"top_k": 3}})
    assert config.eval.sampling(build("countdown"), config.train.carried_over()).top_k == 3


@pytest.mark.parametrize(
    ("trl", "message"),
    [
        ({"generation_kwargs": {"stop_strings": ["."]}}, "train.trl.generation_kwargs.stop_strings cannot be used"),
        ({"generation_kwargs": {"stop": ["."]}, "use_vllm": True}, "generation_kwargs.stop cannot be used"),
        ({"generation_kwargs": {"temperature": 2.0}}, "it is train.temperature"),
        ({"generation_kwargs": {"nonsense": 2.0}}, "unknown setting in train.trl.generation_kwargs 'nonsense'"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 3}, "use_vllm": True}, "cannot be used with use_vllm"),
        ({"generation_kwargs": 3}, "must be keys and values, got 3"),
        ({"chat_template_kwargs": [1]}, "must be keys and values"),
        ({"vllm_structured_outputs_regex": "a+"}, "vllm_structured_outputs_regex cannot be used"),
        ({"top_p": 7}, "train.trl.top_p: .*got 1.0 and 7"),
        ({"top_k": "x"}, "train.trl.top_k"),
        ({"min_p": 2}, "train.trl.min_p"),
        ({"repetition_penalty": 0}, "train.trl.repetition_penalty"),
    ],
)
def test_what_cannot_be_carried_is_refused(trl, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        parse_config({"train": {"trl": trl}})


def a_run(folder, trl):
    run = RunDirectory(folder)
    with run.opened(parse_config({"train": {"trl": trl}}).to_dict(), resume=False):
        pass
    return str(folder)


def test_models_are_asked_as_the_runs_among_them_were_trained(tmp_path):
    plain, said, other = (a_run(tmp_path / name, trl) for name, trl in (("a", {}), ("b", SAID), ("c", {"top_k": 2})))
    assert carried_from([said], None) == SAID == carried_from(["countdown-base", said], "countdown")
    assert carried_from([plain], None) == {} == carried_from(["countdown-base"], "countdown")
    with pytest.raises(InvalidValueError, match="evaluate them apart"):
        carried_from([said, other], None)
    (tmp_path / "own.yaml").write_text("train: {trl: {top_k: 2}}\ntask: {name: countdown}")
    assert carried_from(["countdown-base"], str(tmp_path / "own.yaml")) == {"top_k": 2}
    assert load_config(tmp_path / "own.yaml").train.carried_over() == {"top_k": 2}
