from pathlib import Path

import pytest

import entrocraft as ec
from entrocraft.config import RunConfig, load_config, parse_config
from entrocraft.control import EntropyControl
from entrocraft.errors import InvalidValueError, UnknownNameError

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_and_survives_its_own_dump(recipe):
    config = load_config(recipe)
    assert parse_config(config.to_dict()) == config


def test_an_empty_file_is_all_defaults(write):
    assert load_config(write("")) == RunConfig()


def test_overrides_win_and_are_yaml(write):
    path = write("train: {steps: 10}\ncontrol: {schedule: 0.5}")
    config = load_config(
        path, ["train.steps=20", "control.schedule=linear(0.6, 0.2)", "eval.k=[1, 2]", "train.learning_rate=1e-4"]
    )
    assert config.train.steps == 20
    assert config.control.band().schedule == ec.linear(0.6, 0.2)
    assert config.eval.k == (1, 2)
    assert config.train.learning_rate == 1e-4
    assert load_config(path, ["control=null"]).control is None


def test_a_curve_can_be_written_in_place_of_the_control_section(write):
    assert load_config(write("control: linear(0.6, 0.2)")).control == EntropyControl(schedule="linear(0.6, 0.2)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {steps: 3}", "unknown key 'trian', did you mean 'train'"),
        ("train: {step: 3}", "unknown key 'train.step', did you mean 'steps'"),
        ("control: {widht: 0.1}", "did you mean 'width'"),
        ("train: {steps: many}", "train.steps: .*got 'many'"),
        ("train: {steps: 0}", "train.steps: .*greater than or equal to 1, got 0"),
        ("train: {steps: 2.5}", "train.steps"),
        ("train: {steps: true}", "train.steps"),
        ("train: {learning_rate: .nan}", "train.learning_rate"),
        ("train: {rollouts_per_prompt: 1}", "train.rollouts_per_prompt"),
        ("train: {algorithm: ppo}", "'grpo' or 'rloo', got 'ppo'"),
        ("control: {lower: 0.6, upper: 0.5}", "lower must not exceed upper"),
        ("control: {schedule: -0.5}", "control: constant: value must be finite and at least 0"),
        ("control: {schedule: .nan}", "control: constant"),
        ("control: {schedule: 'linear(0.6'}", "control: not a schedule"),
        ("control: {rule: advantages}", "did you mean 'advantage'"),
        ("control: {rejected: keep}", "unknown rejected mode 'keep'"),
        ("control: {estimator: grpoo}", "did you mean 'grpo'"),
        ("control: {schedule: 0.5, lower: 0.4, upper: 0.6}", "a band is either"),
        ("eval: {num_samples: 4, k: [8]}", "k must be at most num_samples"),
        ("- 1", "expected keys and values, got list"),
        ("a: [1", "is not YAML"),
        ("train: {steps: 1}\nseed: 1\ntrain: {seed: 2}", "key 'train' is given twice"),
        ("train: {lora: {rank: 16}}", "unknown key 'train.lora.rank'. Known here: alpha, dropout, r, target_modules"),
        ("train: {lora: {alhpa: 16}}", "unknown key 'train.lora.alhpa', did you mean 'alpha'"),
        ("train: {lora: 16}", "train.lora"),
        ("train: {steps: 1000000000}", "train.steps: .*1000000"),
        ("train: {steps: 1000000, prompts_per_step: 1000}", "steps x prompts_per_step must be at most"),
        ("task: {num_problems: 1000000000000}", "task.num_problems"),
        ("{1: 2}", "config"),
    ],
)
def test_mistakes_are_refused_with_the_key_and_a_hint(write, text, message):
    with pytest.raises((InvalidValueError, UnknownNameError), match=message):
        load_config(write(text))


@pytest.mark.parametrize(
    ("text", "ks"),
    [
        ("{}", (1, 8, 32)),
        ("eval: {num_samples: 64}", (1, 8, 32)),
        ("eval: {num_samples: 31}", (1, 8)),
        ("eval: {num_samples: 1}", (1,)),
        ("eval: {num_samples: 4, k: [3, 4]}", (3, 4)),
    ],
)
def test_fewer_samples_have_fewer_of_the_usual_k(write, text, ks):
    assert load_config(write(text)).eval.k == ks


@pytest.mark.parametrize("override", ["train.steps", "=3", "train..steps=3", "seed.x=1", "train.steps=[1"])
def test_overrides_that_make_no_sense_are_refused(write, override):
    with pytest.raises(InvalidValueError, match="such as train.steps=100|not YAML|not a section"):
        load_config(write("seed: 1"), [override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["control=null", "control.rule=token"],
        ["control.rule=token", "control=null"],
        ["control=0.5", "control.width=0.1"],
        ["train.lora=null", "train.lora.r=4"],
        ["train.steps=1", "train.steps=2"],
        ["train.trl.beta=0.1", "train.trl={max_grad_norm: 1.0}"],
        ["train.trl={beta: 0.1}", "train.trl.beta=0.2"],
        ["train.trl={a: 3}", "train.trl.a.b=0.2"],
    ],
)
def test_an_override_that_would_undo_another_is_refused(write, overrides):
    with pytest.raises(InvalidValueError, match="the second would undo the first"):
        load_config(write(""), overrides)


def test_overrides_may_add_to_each_other(write):
    config = load_config(
        write("control: null"), ["train.trl={beta: 0.1}", "train.trl.max_grad_norm=1.0", "control.width=0.1"]
    )
    assert config.train.trl == {"beta": 0.1, "max_grad_norm": 1.0} and config.control.width == 0.1


def test_a_task_is_named_in_one_place():
    with pytest.raises(InvalidValueError, match="task.options.name"):
        parse_config({"task": {"options": {"name": "x"}}}).task.build()


def test_numbers_may_be_written_as_scientists_do(write):
    path = write("train: {learning_rate: 1e-4, trl: {beta: 1e-3}}\ncontrol: {rule: reward, reward_baseline: 5e-1}")
    config = load_config(path)
    assert (config.train.learning_rate, config.train.trl["beta"], config.control.options) == (
        1e-4,
        1e-3,
        {"reward_baseline": 0.5},
    )


def test_a_schedule_object_survives_the_dump():
    config = RunConfig(control=EntropyControl(schedule=ec.linear(0.6, 0.2)))
    assert parse_config(config.to_dict()).control.band() == config.control.band()


def test_a_missing_file_is_refused():
    with pytest.raises(InvalidValueError, match="cannot read nowhere.yaml"):
        load_config(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.5,
        "linear(0.6, 0.2)",
        [[0, 0.6], [1, 0.2]],
        ec.linear(0.6, 0.2),
        {"type": "linear", "start": 0.6, "end": 0.2},
        {"schedule": 0.5, "width": 0.1},
        ec.Band(0.5, width=0.1),
        ec.Band(lower=0.4, upper=0.6),
        EntropyControl(rule="advantage"),
    ],
)
def test_control_can_be_given_in_many_ways(value):
    assert isinstance(EntropyControl.of(value).build(), ec.Controller)


def test_control_refuses_what_it_does_not_know():
    with pytest.raises(UnknownNameError, match="did you mean 'rule'"):
        EntropyControl.of({"rul": "advantage"})
    with pytest.raises(InvalidValueError):
        EntropyControl.of(object())


def test_the_default_curve_needs_no_tuning_to_the_model():
    band = EntropyControl().band()
    assert band.unit == "initial"
    assert band.target(0, 10) == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: {options: {where: {1: 2}}}", "task.options.where: expected text as a key, got 1; quote it"),
        ("train: {trl: {yes: 2}}", "train.trl: expected text as a key, got True"),
        ("control: {aggregation: null}", "unknown aggregation mode 'None'"),
    ],
)
def test_what_would_be_another_setting_once_it_is_kept_is_refused(write, text, message):
    with pytest.raises(InvalidValueError, match=message):
        load_config(write(text))


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"model": "\udc80"}, "config: model"),
        ({"task": {"options": {"train": ["a", "\ud800b"]}}}, "config: task.options.train"),
        ({"train": {"trl": {"x\udc80": 1}}}, "config: train.trl"),
    ],
)
def test_half_a_character_is_refused_where_it_stands(data, place):
    with pytest.raises(InvalidValueError, match=f"^{place} is no Unicode text"):
        parse_config(data)
