"""Recipes for verl compose with verl's real configuration; what they would run is what the paper describes."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hydra import compose, initialize_config_module

from entrocraft.cli import main
from entrocraft.engines.verl import recipes
from entrocraft.engines.verl.recipes import composed, hydra_overrides, read_recipe, start
from entrocraft.engines.verl.settings import VerlSettings
from entrocraft.errors import InvalidValueError, MissingDependencyError

PAPER = Path(__file__).parents[2] / "recipes/paper"
RECIPES = sorted(path for path in PAPER.glob("*.yaml") if path.stem != "base")


@pytest.fixture(autouse=True)
def places(monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("MODELS", "Qwen")


def of(name, *overrides):
    return composed([*hydra_overrides(read_recipe(PAPER / f"{name}.yaml")), *overrides])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_paper_composes(path):
    config = composed(hydra_overrides(read_recipe(path)))
    assert config.trainer.experiment_name == path.stem
    assert config.data.train_batch_size == 1024 and config.actor_rollout_ref.rollout.n == 8
    assert config.actor_rollout_ref.actor.optim.lr == 1e-6
    controlled = any(word in path.stem for word in ("linear", "cosine", "constant", "w-reinforce", "entropic"))
    assert config.trainer.v1.trainer_mode == ("entrocraft_sync" if controlled else "sync")


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("qwen3-4b-grpo-linear", (0.6, 0.7), (0.4, 0.5)),
        ("qwen3-4b-gspo-linear", (0.6, 0.7), (0.2, 0.3)),
        ("qwen3-14b-grpo-cosine", (0.4, 0.5), (0.1, 0.2)),
        ("llama-3.1-8b-grpo-cosine", (0.9, 1.0), (0.1, 0.2)),
        ("qwen3-4b-grpo-constant", (0.6, 0.7), (0.6, 0.7)),
        ("qwen3-8b-grpo-linear", (0.6, 0.7), (0.4, 0.5)),
        ("long-grpo-cosine", (0.6, 0.7), (0.1, 0.2)),
        ("long-grpo-linear", (0.6, 0.7), (0.1, 0.2)),
        ("long-grpo-constant", (0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_the_bands_are_the_papers(name, start, end):
    band = VerlSettings.of(of(name)).control.band()
    assert band(0, 100) == pytest.approx(start) and band(100, 100) == pytest.approx(end)


def test_the_baselines_differ_in_what_they_are_named_for():
    assert of("qwen3-4b-grpo-clip-higher").actor_rollout_ref.actor.clip_ratio_high == 0.28
    assert of("qwen3-4b-grpo-entropy-loss-0.003").actor_rollout_ref.actor.entropy_coeff == 0.003
    assert of("qwen3-4b-grpo-clip-cov").actor_rollout_ref.actor.policy_loss.loss_mode == "clip_cov"
    assert VerlSettings.of(of("qwen3-4b-w-reinforce")).control.estimator == "w_reinforce"
    entropic = VerlSettings.of(of("qwen3-4b-entropic")).control
    assert entropic.method == "entropic" and entropic.band().target(50, 100) == 0.5
    authors = VerlSettings.of(of("qwen3-4b-grpo-linear-authors-code"))
    assert (authors.control.method_name, authors.method.normalize, authors.control.rejected) == (
        "reward",
        "all",
        "mask",
    )


def test_a_key_that_verl_does_not_know_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data.trian_batch_size: 8")
    with pytest.raises(InvalidValueError, match="trian_batch_size"):
        composed(hydra_overrides(read_recipe(path)))


def test_what_verl_refuses_is_refused_before_it_runs():
    with pytest.raises(InvalidValueError, match="must be divisible"):
        of(
            "qwen3-4b-grpo",
            "actor_rollout_ref.actor.use_dynamic_bsz=false",
            "data.train_batch_size=1023",
            "actor_rollout_ref.rollout.n=3",
        )


def test_a_place_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("DATA")
    with pytest.raises(InvalidValueError, match="'DATA' not found"):
        of("qwen3-4b-grpo")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "expected keys and values"), ("a: [", "is not YAML"), ("base: mine.yaml", "is its own base")],
)
def test_a_recipe_that_cannot_be_read_says_why(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=message):
        read_recipe(path)
    with pytest.raises(InvalidValueError, match="cannot read"):
        read_recipe(tmp_path / "not_there.yaml")


def test_values_reach_hydra_as_they_are_written(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('trainer.experiment_name: a "quoted" name, (1)\ntrainer.logger: [console]\ndata.seed: null')
    overrides = hydra_overrides(read_recipe(path))
    config = composed(["algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.use_dynamic_bsz=true", *overrides])
    assert config.trainer.experiment_name == 'a "quoted" name, (1)'
    assert config.trainer.logger == ["console"] and config.data.seed is None


@pytest.mark.parametrize(
    "text", ["C:\\\\", 'a\\"b', "two\\\\\\\\", "line\nbreak", "it's (1), [2] {3}", "", "null", "1.0"]
)
def test_text_stays_the_same_text(text):
    overrides = hydra_overrides({"trainer": {"experiment_name": text}, "algorithm": {"adv_estimator": "grpo"}})
    with initialize_config_module("verl.trainer.config", version_base=None):
        assert compose("ppo_trainer", overrides=overrides).trainer.experiment_name == text


def test_a_key_that_hydra_would_read_otherwise_is_refused():
    with pytest.raises(InvalidValueError, match="a key of letters"):
        hydra_overrides({"entrocraft": {"schedule": {"a:b": 1}}})


@pytest.mark.parametrize(
    ("base", "own"), [("entrocraft: 0.4", "entrocraft.rule: budget"), ("a: 1", "a.b: 2"), ("a: 1", "a: {b: 2}")]
)
def test_a_base_that_cannot_be_extended_is_said_so(tmp_path, base, own):
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "mine.yaml").write_text(f"base: base.yaml\n{own}")
    with pytest.raises(InvalidValueError, match="in the base, so nothing can be put into it"):
        read_recipe(tmp_path / "mine.yaml")


def test_a_command_that_verl_would_not_find_our_trainers_in_is_not_started(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setattr("os.execv", lambda *args: pytest.fail("started"))
    with pytest.raises(InvalidValueError, match="VERL_USE_EXTERNAL_PLUGINS=none"):
        start([])
    started = []
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "other, Entrocraft")  # as verl itself reads it
    monkeypatch.setattr("os.execv", lambda *args: started.append(args))
    start([])
    assert started


def test_another_verl_is_named_before_its_keys_are_asked_for(monkeypatch):
    monkeypatch.setattr(recipes, "problem_with_verl", lambda: "expected verl>=0.9.0,<0.10, got verl 0.8.0")
    with pytest.raises(MissingDependencyError, match="got verl 0.8.0"):
        composed(["no.such.key=1"])


KEY = "reward.custom_reward_function"


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("/nowhere.py", "score", "there is no such file"),
        ("pkg://no.such.module", "score", "there is no module 'no.such.module'"),
        ("pkg://entrocraft.engines.verl.tasks", "scores", "name=scores is not in .*compute_score"),
        ("broken.py", "score", "cannot be read"),
        ("good.py", "scroe", "name=scroe is not in good.py; it has score"),
    ],
)
def test_a_reward_function_that_is_not_there_is_refused_before_ray(tmp_path, monkeypatch, path, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def score(:")
    (tmp_path / "good.py").write_text("raise SystemExit('read, not run')\ndef score(*a, **k): return 0.0")
    with pytest.raises(InvalidValueError, match=message):
        of("qwen3-4b-grpo-linear", f"{KEY}.path={path}", f"{KEY}.name={name}")


@pytest.mark.parametrize(
    "source", ["def score(*a): ...", "from math import sqrt as score", "from x import *", "score = 1"]
)
def test_a_reward_function_that_may_be_there_is_not_run_to_see(tmp_path, source):
    (tmp_path / "mine.py").write_text(f"raise SystemExit\n{source}")
    config = of("qwen3-4b-grpo-linear", f"{KEY}.path=file://{tmp_path}/mine.py", f"{KEY}.name=score")
    assert config.reward.custom_reward_function.name == "score"


def test_a_dry_run_shows_the_curve_and_the_command():
    recipe = str(PAPER / "qwen3-4b-grpo-linear.yaml")
    result = CliRunner().invoke(main, ["verl", "train", recipe, "trainer.nnodes=2", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "0.6500" in result.output and "0.4500" in result.output and "on 16 GPUs" in result.output
    assert "python -m verl.trainer.main_ppo" in result.output and "trainer.nnodes=2" in result.output
    result = CliRunner().invoke(main, ["verl", "train", recipe, "data.sed=1", "--dry-run"])
    assert result.exit_code == 2 and "'sed' is not in struct" in result.output
