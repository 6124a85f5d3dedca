"""docs/extending.md: each block of code on the page runs, and does what the page says."""

import json
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from support.commands import run_command
from trl import GRPOConfig, RLOOConfig

import entrocraft as ec
from entrocraft.config import load_config
from entrocraft.control.decision import TURNABLE
from entrocraft.control.signals import SIGNALS
from entrocraft.control.surrogate import MiniBatch
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank
from entrocraft.engines.rollouts import Rollouts
from entrocraft.engines.tokens import TokenStats
from entrocraft.engines.trl.checks import checked_control
from entrocraft.engines.trl.settings import capabilities as capabilities_of_trl
from entrocraft.errors import InvalidValueError, UnknownNameError
from entrocraft.runs import RunDirectory

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FILES = {code.split("\n")[0][2:]: code for _, code in BLOCKS if re.match(r"# [\w.]+\.(py|yaml)\n", code)}
SCRIPTS = [code for language, code in BLOCKS if language == "python" and code not in FILES.values()]
COMMANDS = [code for language, code in BLOCKS if not language]
MODULES = [name.removesuffix(".py") for name in FILES if name.endswith(".py")]

B, T = 16, 6
GROUPS = torch.arange(B) // 4
ADVANTAGES = torch.randn(B, generator=torch.Generator().manual_seed(1))
ABOVE, INSIDE, BELOW = "constant(0.2)", "constant(0.6)", "constant(1.0)"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder that holds the page's files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, code in FILES.items():
        Path(name).write_text(code)
    (table,) = [code for language, code in BLOCKS if language == "csv"]
    Path("sums.csv").write_text(table)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def sampled():
    """Return a small random batch whose entropy is 0.6 on average."""
    generator = torch.Generator().manual_seed(0)
    log_probs_BT = torch.rand(B, T, generator=generator).clamp(min=0.01).log()
    entropy_BT = 0.6 + 0.2 * torch.randn(B, T, generator=generator)
    mask_BT = torch.ones(B, T)
    mask_BT[::3, -2:] = 0.0
    return TokenStats(log_probs_BT, entropy_BT), mask_BT


class Run:
    """A run of a method on one small batch again and again, through the engines' own decider."""

    def __init__(self, method, schedule):
        self.control = ec.EntropyControl(schedule=schedule, width=0.1, method=method)
        self.controller, self.step = self.control.build(), 0
        self._decider = Decider(self.controller, self.control, OneRank(), by_rollout=False)

    def decided(self):
        """Return the next update."""
        self.step += 1
        stats, mask_BT = sampled()
        rollouts = Rollouts(stats=stats, advantages=ADVANTAGES, mask_BT=mask_BT)
        return self._decider.decide(rollouts, step=self.step, total_steps=10, groups=GROUPS)


def table_under(heading):
    """Return the rows of the tables under a heading, by their first cell, without its quotes."""
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.split("\n") if line[:1] == "|"]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


# ---- all blocks ----------------------------------------------------------------------------------


def test_no_block_is_left_out():
    assert list(FILES) == [
        *("mine.py", "half.yaml", "gentle.py", "bonus.py", "soft_clip.py", "sawtooth.py", "estimators.py"),
        *("estimated.yaml", "rewards.py", "sums.yaml", "squares.py", "loop.py"),
    ]
    assert len(FILES) + len(SCRIPTS) + len(COMMANDS) + 1 == len(BLOCKS)


@pytest.mark.parametrize("code", SCRIPTS, ids=range(len(SCRIPTS)))
def test_scripts_run(code):
    exec(code, {"__name__": "__main__"})


# ---- methods -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "side"), [(ABOVE, 1), (INSIDE, 0), (BELOW, -1)])
def test_half_leaves_out_half_of_what_pushes_away(schedule, side):
    run = Run({"name": "mine:Half", "start": 2}, schedule)
    assert run.decided().keep_B.all()  # before it starts
    left_out = (~run.decided().keep_B).nonzero().flatten()
    away = (side * ADVANTAGES < 0).nonzero().flatten()
    assert torch.equal(left_out, away[::2])
    assert len(FILES["mine.py"].splitlines()) <= 25


@pytest.mark.parametrize(("schedule", "side"), [(ABOVE, 1), (INSIDE, 0), (BELOW, -1)])
def test_gentle_weighs_down_the_tokens_that_push_away(schedule, side):
    update = Run({"name": "gentle:Gentle", "weight": 0.25}, schedule).decided()
    stats, mask_BT = sampled()
    away_BT = side * ADVANTAGES[:, None] * (-stats.log_probs_BT - stats.entropy_BT) > 0
    expected = ADVANTAGES[:, None] * torch.where(away_BT, 0.25, 1.0)
    actual = update.advantages if side else update.advantages[:, None].expand(B, T)
    torch.testing.assert_close(actual * mask_BT, expected * mask_BT)
    assert update.keep_B.all() and update.changes_nothing is (side == 0)
    share = (away_BT * mask_BT).sum() / mask_BT.sum()
    assert update.decision.metrics["weighed_down_fraction"] == pytest.approx(float(share))


def test_bonus_adds_up_what_is_missing_and_goes_on_where_it_was():
    run = Run({"name": "bonus:Bonus", "gain": 0.02}, BELOW)
    entropy = run.decided().decision.metrics["entropy"]
    second = run.decided()
    assert second.decision.turned == {"entropy_coef": pytest.approx(2 * 0.02 * (1.0 - entropy))}
    assert torch.equal(second.advantages, ADVANTAGES)
    resumed = Run({"name": "bonus:Bonus", "gain": 0.02}, BELOW)
    resumed.controller.load_state_dict(json.loads(json.dumps(run.controller.state_dict())))
    assert resumed.decided().decision.turned == run.decided().decision.turned


def test_soft_clip_weighs_by_how_far_the_ratio_has_gone():
    (stats, mask_BT), method = sampled(), ec.EntropyControl(method="soft_clip:SoftClip").new_method()
    columns = {"entropy_BT": stats.entropy_BT, "mask_BT": mask_BT, "advantages_BT": torch.ones(B, T)}
    for ratio, factor in ((1.0, 1.0), (1.2, 0.402), (1 / 1.2, 0.402)):
        seen = MiniBatch(
            log_probs_BT=stats.log_probs_BT + math.log(ratio), old_log_probs_BT=stats.log_probs_BT, **columns
        )
        asked = method.surrogate(
            seen, ec.Decision.everything(ec.Batch(step=1, entropy=0.6, advantages=ADVANTAGES)), sum
        )
        assert asked.advantages_BT[mask_BT.bool()].tolist() == pytest.approx([factor] * int(mask_BT.sum()), abs=1e-3)
    with pytest.raises(InvalidValueError, match="'soft_clip:SoftClip' sets surrogate, which TRL's RLOOTrainer cannot"):
        args = {"output_dir": "out", "use_cpu": True, "bf16": False, "report_to": "none"}
        checked_control(ec.EntropyControl(method="soft_clip:SoftClip"), RLOOConfig(**args))


def test_a_method_is_refused_where_it_cannot_be_carried_out():
    args = {"output_dir": "out", "use_cpu": True, "bf16": False, "report_to": "none"}
    bonus = ec.EntropyControl(method="bonus:Bonus")
    assert checked_control(bonus, GRPOConfig(**args)) is bonus
    with pytest.raises(InvalidValueError, match="'bonus:Bonus' sets entropy_coef, which TRL's RLOOTrainer cannot"):
        checked_control(bonus, RLOOConfig(**args))
    with pytest.raises(InvalidValueError, match="'gentle:Gentle' sets tokens"):
        checked_control(ec.EntropyControl(method="gentle:Gentle"), RLOOConfig(**args))
    with pytest.raises(UnknownNameError, match="did you mean 'start'"):
        ec.EntropyControl(method={"name": "mine:Half", "strat": 1})


def test_the_three_ways_to_name_a_method_in_a_script_are_one():
    (code,) = [code for code in SCRIPTS if "as_mapping" in code]
    names = {}
    exec(code, names)
    controls = [ec.EntropyControl.of(names[name]) for name in ("as_settings", "as_mapping", "as_class")]
    assert [control.method_name for control in controls] == ["mine:Half"] * 3
    assert [control.options for control in controls] == [{"start": 1}, {}, {}]


def test_the_commands_of_verl_name_the_method():
    from hydra import compose, initialize_config_module

    from entrocraft.engines.verl.checks import checked_settings

    (commands,) = COMMANDS
    methods = []
    for line in commands.replace("\\\n", "").strip().split("\n"):
        command = shlex.split(line)
        assert command[:4] == ["python", "-m", "verl.trainer.main_ppo", "..."]
        with initialize_config_module("verl.trainer.config", version_base=None):
            settings = checked_settings(compose("ppo_trainer", overrides=command[4:]))
        methods.append((type(settings.method).__name__, settings.control.method))
    assert methods == [("Half", "mine:Half"), ("Half", {"name": "mine:Half", "start": 1})]


@pytest.mark.slow
def test_a_method_trains_from_the_command_line():
    small = ["train.steps=2", "train.save_every=2", "eval={num_problems: 2, num_samples: 2, k: [1]}"]
    result = run_command("train", "half.yaml", *small)
    assert result.exit_code == 0, result.output
    run = RunDirectory(Path("runs/half"))
    assert run.config()["control"]["method"] == {"name": "mine:Half", "start": 1}
    lines = run.step_metrics()
    assert len(lines) == 2 and all(line["direction"] == 1.0 for line in lines)  # the curve falls faster than entropy
    assert all(0.5 <= line["kept_fraction"] < 1.0 for line in lines)


@pytest.mark.slow
def test_a_method_trains_in_verls_command(folder, tmp_path_factory, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "verl"))
    from launch import make_assets, run_verl

    (commands,) = COMMANDS
    overrides = shlex.split(commands.replace("\\\n", "").strip().split("\n")[1])[4:]
    assets = make_assets(tmp_path_factory.mktemp("verl"))
    run = run_verl(assets, folder, *overrides, "+entrocraft.schedule=0.3", steps=2)
    assert run.status == 0, run.text[-3000:]
    assert all(0.5 <= kept < 1.0 for kept in run.column("entrocraft/kept_fraction"))


# ---- the tables ----------------------------------------------------------------------------------


def test_signals_are_those_of_the_library():
    rows = {name: cells for name, cells in table_under("Signals").items() if name in SIGNALS}
    assert rows.keys() == SIGNALS.keys()
    for name, (meaning, of_rollout, of_token) in rows.items():
        signal = SIGNALS[name]
        assert meaning == signal.meaning
        assert of_rollout == (f"`batch.{signal.batch_field}`" if signal.batch_field else "")
        assert of_token == (f"`tokens.{signal.token_field}`" if signal.token_field else "")


def test_what_engines_carry_and_offer_is_what_they_say():
    from hydra import compose, initialize_config_module

    from entrocraft.engines.verl.settings import capabilities as capabilities_of_verl

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=["algorithm.adv_estimator=grpo"])
    args = {"output_dir": "out", "use_cpu": True, "bf16": False, "report_to": "none"}
    engines = [
        *(capabilities_of_trl(config_class(**args)) for config_class in (GRPOConfig, RLOOConfig)),
        *(capabilities_of_verl(config, mode, False) for mode in ("sync", "separate_async")),
    ]
    rows = table_under("What each engine carries")
    assert rows.keys() == TURNABLE | SIGNALS.keys()
    for name, cells in rows.items():
        for cell, engine in zip(cells[-4:], engines, strict=True):
            is_able = name in (engine.carries if name in TURNABLE else engine.offers)
            assert cell.split(",")[0] == ("yes" if is_able else "no"), f"{name} on {engine.engine}"
            assert is_able or engine.why_not[name]


# ---- schedules, estimators, rewards, tasks, engines ----------------------------------------------


def test_a_curve_of_ones_own_is_followed():
    from sawtooth import Sawtooth

    saw = Sawtooth(0.75, 0.25, num_teeth=2)
    assert saw.values(8) == [0.75, 0.625, 0.5, 0.375, 0.75, 0.625, 0.5, 0.375, 0.25]
    targets = [line.decision.metrics["target"] for line in _decisions(Run("advantage", saw), 10)]
    assert targets == pytest.approx(saw.values(10)[1:])


def _decisions(run, number):
    return [run.decided() for _ in range(number)]


def test_an_estimator_of_ones_own_is_taken(folder):
    rewards_PG = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    estimated = ec.advantages.estimate("estimators:above_median", rewards_PG, scale=0.5)
    assert estimated.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.0, -0.5]]
    control = load_config(folder / "estimated.yaml").control
    assert control.estimator == {"name": "estimators:above_median", "scale": 0.5}
    assert run_command("train", "estimated.yaml", "--dry-run").exit_code == 0
    result = run_command("train", "estimated.yaml", "--dry-run", "control.estimator.scal=0.5")
    assert result.exit_code == 2 and "did you mean 'scale'" in result.output


def test_a_reward_of_ones_own_scores(folder):
    from rewards import short

    assert short(["3", "1+2=3", "4"], answer=["3", "3", "3"]) == [1.0, 0.5, 0.0]
    result = run_command("train", "sums.yaml", "--dry-run")
    assert result.exit_code == 0 and "3 prompts x 4 rollouts" in result.output


def test_a_task_of_ones_own_keeps_its_splits_apart():
    from squares import Squares

    task = Squares()
    train, test = ({problem["prompt"] for problem in task.problems(split, 100)} for split in ("train", "test"))
    assert not train & test and task.problems("train", 5) == task.problems("train", 5)
    assert task.reward(["81", "18"], prompt=["9*9="] * 2, answer=["81"] * 2) == [1.0, 0.0]


def test_a_loop_of_ones_own_decides_as_engines_do():
    import loop

    assert loop.control.method_name == "token"
    update = loop.update
    assert update.decision.metrics["direction"] == 1.0 and update.decision.turned == {}
    assert update.keep_B.any() and 0 < update.decision.metrics["kept_token_fraction"] < 1
    with pytest.raises(InvalidValueError, match="my loop cannot: its loss has no entropy bonus"):
        loop.able.check(ec.EntropyControl(method="entropy_bonus").new_method(), "entropy_bonus")
