"""What docs/trl.md and docs/verl.md say is refused, is refused: a check for each row of their tables."""

import re
from pathlib import Path

import pytest
from trl import GRPOConfig, RLOOConfig

import entrocraft as ec
from entrocraft import Decision, Method
from entrocraft.engines.trl.checks import checked_control
from entrocraft.errors import InvalidValueError

DOCS = Path(__file__).parents[2] / "docs"


class Turning(Method):
    """Turns whatever its option says."""

    def __init__(self, knob: str):
        self.turns = frozenset({knob})

    def decide(self, batch, goal):
        return Decision.everything(batch)


def turning(knob):
    return {"name": f"{__name__}:Turning", "knob": knob}


def rows_of(page):
    """Return the first cells of the table of what is refused."""
    (section,) = re.findall(
        r"^## What is refused, and why\n(.*?)^## ", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return re.findall(r"^\| (.+?) \| [^|]+ \|$", section, re.MULTILINE)


# ---- TRL -----------------------------------------------------------------------------------------

SEQUENCE = {"importance_sampling_level": "sequence"}
REFUSED_BY_TRL = {
    "methods that set tokens": [
        *(({"method": name}, RLOOConfig, {}) for name in ("token", "clip_cov", "entropic_released")),
        *(({"method": name}, GRPOConfig, SEQUENCE) for name in ("token", "clip_cov", "entropic_released")),
    ],
    "`top_entropy_quantile`": [
        ({"method": "token", "rejected": "mask"}, GRPOConfig, {"top_entropy_quantile": 0.2}),
        ({"method": "budget"}, GRPOConfig, {"top_entropy_quantile": 0.2}),
    ],
    "`use_adaptive_entropy`": [({"method": "budget"}, GRPOConfig, {"use_adaptive_entropy": True})],
    "methods that set `entropy_coef`": [
        ({"method": "entropy_bonus"}, RLOOConfig, {}),
        ({"method": "budget", "fallback": "escalate", "entropy_bonus": 0.01}, RLOOConfig, {}),
        ({"method": "entropy_bonus"}, GRPOConfig, {"use_adaptive_entropy": True}),
    ],
    "methods that set `clip_low`, `clip_high` or": [
        ({"method": turning(name)}, GRPOConfig, {"loss_type": loss})
        for name in ("clip_low", "clip_high", "surrogate")
        for loss in ("cispo", "sapo", "vespo")
    ],
    "methods that set `surrogate`": [
        ({"method": "kl_cov"}, RLOOConfig, {}),
        *(
            ({"method": name}, GRPOConfig, changes)
            for name in ("kl_cov", "ce_gppo", "bapo", "flexible_clip", "siren")
            for changes in (
                SEQUENCE,
                {"top_entropy_quantile": 0.2},
                {"delta": 4.0},
                {"off_policy_mask_threshold": 0.1},
                {"off_policy_mask_threshold": 0.0},
            )
        ),
    ],
    "methods that set `temperature`": [  # and with a rollout_func, which is no argument of these
        ({"method": method}, config_class, changes)
        for method in ("adaptive_temperature", turning("temperature"))
        for config_class in (GRPOConfig, RLOOConfig)
        for changes in ({"torch_compile": True}, {"generation_kwargs": {"temperature": 0.5}})
    ],
    '`predictor="whole_model"`': [
        ({"method": "predicted", "predictor": "whole_model"}, GRPOConfig, {"optim": "adafactor"})
    ],
    "`estimator`, or a method that sets advantages by rewards": [
        *(({"method": name}, RLOOConfig, {"beta": 0.1}) for name in ("reward", "entropic_port", "ds_grpo", "ucpo")),
        ({"method": "budget", "estimator": "nsr"}, RLOOConfig, {"beta": 0.0, "reward_clip_range": (-1.0, 1.0)}),
    ],
}

TRL_ELSEWHERE = ["methods that set `learning_rate`"]  # test_learning_rate_trl.py


def trl_args(config_class, changes):
    return config_class(output_dir="out", use_cpu=True, bf16=False, report_to="none", **changes)


@pytest.mark.parametrize("row", REFUSED_BY_TRL)
def test_trl_refuses(row):
    assert sum(cell.startswith(row) for cell in rows_of("trl.md")) == 1
    for settings, config_class, changes in REFUSED_BY_TRL[row]:
        args = trl_args(config_class, {"beta": 0.0} | changes)
        with pytest.raises(InvalidValueError):
            checked_control(ec.EntropyControl(**settings), args)


def test_every_row_of_trl_is_checked_and_the_method_chosen_fits():
    assert len(rows_of("trl.md")) == len(REFUSED_BY_TRL) + len(TRL_ELSEWHERE)
    for config_class, changes in ((RLOOConfig, {}), (GRPOConfig, SEQUENCE)):
        control = ec.EntropyControl(rejected="mask")
        assert checked_control(control, trl_args(config_class, changes)).method_name == "budget"
    for method in ("entropy_bonus", "kl_cov"):  # Liger's kernels are of layers: the loss is TRL's own
        assert checked_control(ec.EntropyControl(method=method), trl_args(GRPOConfig, {"use_liger_kernel": True}))
    args = trl_args(GRPOConfig, {"use_adaptive_entropy": True, "top_entropy_quantile": 0.2})
    assert checked_control(ec.EntropyControl(method="budget", rejected="mask"), args)


# ---- verl ----------------------------------------------------------------------------------------

ACTOR = "actor_rollout_ref.actor"
LOSS = f"{ACTOR}.policy_loss.loss_mode"
KL = f"{ACTOR}.use_kl_loss=true"
WHOLE_MODEL = [
    "+entrocraft={method: predicted, predictor: whole_model}",
    f"{ACTOR}.strategy=fsdp2",
    f"+{ACTOR}.fsdp_config.mixed_precision.param_dtype=fp32",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
]
SEPARATE = "trainer.v1.trainer_mode=entrocraft_separate_async"
ROLLOUT = "+entrocraft.entropy_source=rollout"
BYPASS = "algorithm.rollout_correction.bypass_mode=true"


def method(name):
    return f"+entrocraft.method={name}"


def turns(knob):
    return f'+entrocraft.method={{name: "{__name__}:Turning", knob: {knob}}}'


REFUSED_BY_VERL = {
    "`predictor=exact`": [["+entrocraft.predictor=exact"]],
    "`predictor=whole_model`, but with FSDP2": [
        *([*WHOLE_MODEL[:left_out], *WHOLE_MODEL[left_out + 1 :]] for left_out in (1, 2, 3)),
        [*WHOLE_MODEL, f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=2"],
        [*WHOLE_MODEL, f"{ACTOR}.fsdp_config.qat.enable=true"],
        [*WHOLE_MODEL, f"{ACTOR}.optim.optimizer_impl=torchao.optim"],
        [*WHOLE_MODEL, "+entrocraft.whole_model_share=0.5"],
    ],
    "`predictor=whole_model` under `separate_async`": [
        [*WHOLE_MODEL, SEPARATE],
        [method("entropy_bonus"), SEPARATE],
        [turns("clip_low"), SEPARATE],
        [turns("clip_high"), SEPARATE],
        ["+entrocraft={method: predicted, fallback: escalate, entropy_bonus: 0.01}", SEPARATE],
    ],
    "methods that set `clip_low` or": [
        [turns(knob), f"{LOSS}={loss}"] for knob in ("clip_low", "clip_high") for loss in ("sapo", "kl_cov")
    ],
    "methods that set `surrogate`": [
        [method(name), *setting]
        for name in ("kl_cov", "ce_gppo", "bapo", "flexible_clip", "siren")
        for setting in ([f"{LOSS}=gspo"], [f"{LOSS}=clip_cov"], [SEPARATE])
    ],
    "methods that set `temperature`": [[turns("temperature")], [method("adaptive_temperature")]],
    "methods that set tokens (`token`": [
        [method(name), f"{LOSS}={loss}"]
        for name in ("token", "clip_cov", "entropic_released")
        for loss in ("gspo", "geo_mean")
    ],
    "methods that set tokens with `clip_cov`": [
        [method("token"), f"{LOSS}={loss}"] for loss in ("clip_cov", "kl_cov", "dro", "mine")
    ],
    "the same losses with `normalize=all`": [
        ["+entrocraft={method: advantage, normalize: all}", f"{LOSS}=clip_cov"],
        ["+entrocraft={method: advantage, rejected: mask}", f"{LOSS}=clip_cov"],
    ],
    "methods that set advantages": [[method(name), "algorithm.adv_estimator=gae"] for name in ("reward", "entropic")],
    "dropping with `geo_mean`": [[method("advantage"), f"{LOSS}={loss}"] for loss in ("geo_mean", "mine")],
    "dropping with `seq-mean-token-sum-norm`": [[f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm"]],
    "dropping with `normalize=all`, `token-mean`": [
        ["+entrocraft={method: budget, normalize: all}", KL],
        [method("clip_cov"), KL],
        [method("entropic_released"), f"{ACTOR}.entropy_coeff=0.01"],
    ],
    "dropping with `actor.shuffle`": [
        [f"{ACTOR}.shuffle=true"],
        [f"{ACTOR}.ppo_mini_batch_size=5", "trainer.n_gpus_per_node=8"],
    ],
    "dropping with virtual pipeline stages": [[f"+{ACTOR}.megatron.virtual_pipeline_model_parallel_size=2"]],
    "dropping with distillation": [["++distillation.enabled=true"]],
    "`bypass_mode`": [[BYPASS]],
    "methods that need `change`": [
        [ROLLOUT],
        [ROLLOUT, method("predicted")],
        [ROLLOUT, method("advantage"), "actor_rollout_ref.rollout.calculate_log_probs=false"],
    ],
    "methods that need `fresh_entropy`": [
        *([method(name), SEPARATE] for name in ("token", "budget")),
        ["+entrocraft={method: predicted, visitation: true}", SEPARATE],
    ],
    "`estimator`": [
        ["+entrocraft.estimator=nsr", "algorithm.use_kl_in_reward=true"],
        ["+entrocraft.estimator=nsr", "algorithm.adv_estimator=gae"],
    ],
    "methods that make advantages of rewards": [
        [method(name), "algorithm.use_kl_in_reward=true"] for name in ("reward", "entropic_port", "ds_grpo", "ucpo")
    ],
    "methods that set `learning_rate`": [
        [method("learning_rate"), SEPARATE],
        [method("learning_rate"), f"{ACTOR}.strategy=megatron"],
    ],
    "a relative path in `steering`": [["+entrocraft.steering=steering.yaml"]],
    "`run`": [["+entrocraft.run=/runs/mine"]],
    "an `entrocraft` block": [["+entrocraft=0.4", "trainer.v1.trainer_mode=sync"]],
    "`trainer.use_v1=false`": [["trainer.use_v1=false"]],
}
ELSEWHERE = ["another verl than 0.9"]  # tests/verl/test_verl_settings.py


def composed(overrides):
    from hydra import compose, initialize_config_module

    ours = ["trainer.v1.trainer_mode=entrocraft_sync", "algorithm.adv_estimator=grpo"]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=[*ours, *overrides])


@pytest.mark.slow
@pytest.mark.parametrize("row", REFUSED_BY_VERL)
def test_verl_refuses(row):
    from entrocraft.engines.verl.checks import check_config

    assert sum(cell.startswith(row) for cell in rows_of("verl.md")) == 1
    for overrides in REFUSED_BY_VERL[row]:
        with pytest.raises(InvalidValueError):
            check_config(composed(overrides))


def test_every_row_of_verl_is_checked():
    rows = rows_of("verl.md")
    assert len(rows) == len(REFUSED_BY_VERL) + len(ELSEWHERE)
    assert all(any(row.startswith(known) for row in rows) for known in ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        WHOLE_MODEL,
        [method("entropy_bonus"), "trainer.v1.trainer_mode=entrocraft_colocate_async"],
        [turns("clip_high"), f"{LOSS}=gspo"],
        [f"{LOSS}=gspo"],
        [method("clip_cov"), "+entrocraft.rejected=mask", KL],
        ["+entrocraft={method: advantage, rejected: mask, normalize: all}", f"{LOSS}=geo_mean"],
        [ROLLOUT, BYPASS, method("advantage")],
        [method("token"), SEPARATE, "trainer.v1.separate_async.parameter_sync_step=1"],
        [SEPARATE],
    ],
    ids=str,
)
def test_what_the_page_says_to_take_instead_is_taken(overrides):
    from entrocraft.engines.verl.checks import check_config

    check_config(composed(overrides))


def test_the_blocks_of_the_page_are_read():
    from entrocraft.engines.verl.settings import VerlSettings

    text = (DOCS / "verl.md").read_text()
    overrides = re.findall(r"^'(\+entrocraft.*)'", text, re.MULTILINE)
    assert len(overrides) == 6
    for override in overrides:
        assert VerlSettings.of(composed([override])).control
