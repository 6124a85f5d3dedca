"""The `entrocraft` block beside verl's real configuration: what is taken, and what is refused before Ray starts."""

import pytest
from omegaconf import open_dict

from entrocraft.engines.verl.checks import check_config, check_run
from entrocraft.engines.verl.settings import VerlSettings, optimizer_memory
from entrocraft.errors import EntrocraftError, InvalidValueError, MissingDependencyError, UnknownNameError

ACTOR = "actor_rollout_ref.actor"
STATIC = f"{ACTOR}.use_dynamic_bsz=false"
FSDP = f"{ACTOR}.fsdp_config"
FSDP2, FP32 = f"{ACTOR}.strategy=fsdp2", f"+{FSDP}.mixed_precision.param_dtype=fp32"
SDPA = "+actor_rollout_ref.model.override_config.attn_implementation=sdpa"
ALIGNED = ["+entrocraft.method=aligned", FSDP2, FP32, SDPA]


@pytest.mark.parametrize(
    ("overrides", "curve"),
    [
        ([], [1.0, 0.75, 0.5]),  # the default: from where it starts to half of it
        (["+entrocraft=0.4"], [0.4, 0.4, 0.4]),
        (["+entrocraft.schedule=0.4"], [0.4, 0.4, 0.4]),
        (['+entrocraft.schedule="linear(0.6, 0.2)"'], [0.6, 0.4, 0.2]),
        (["+entrocraft.schedule=[[0,0.6],[1,0.2]]"], [0.6, 0.4, 0.2]),
        (["+entrocraft.schedule={type: linear, start: 0.6, end: 0.2, unit: initial}"], [0.6, 0.4, 0.2]),
        (["+entrocraft={schedule: {type: cosine, start: 0.6, end: 0.2}, width: 0.1, rule: budget}"], [0.6, 0.4, 0.2]),
    ],
)
def test_a_curve_is_drawn_as_everywhere(compose, overrides, curve):
    band = VerlSettings.of(compose(*overrides)).control.band()
    assert [band.target(step, 10) for step in (0, 5, 10)] == pytest.approx(curve)


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ([], "token"),
        (["+entrocraft.visitation=true"], "budget"),
        ([f"{ACTOR}.policy_loss.loss_mode=gspo"], "budget"),
        ([f"{ACTOR}.policy_loss.loss_mode=clip_cov"], "budget"),
        (["+entrocraft.method=advantage"], "advantage"),
        (["+entrocraft.rule=advantage"], "advantage"),
    ],
)
def test_the_method_fits_the_loss(compose, overrides, method):
    assert VerlSettings.of(compose(*overrides)).control.method_name == method


@pytest.mark.parametrize(
    ("overrides", "memory"),
    [
        ([], 0.9),
        ([f"{ACTOR}.optim.betas=[0.8,0.95]"], 0.8),
        ([f"+{ACTOR}.optim.override_optimizer_config.betas=[0.7,0.9]"], 0.7),
        ([f"{ACTOR}.optim.optimizer=SGD"], 0.0),
        ([f"{ACTOR}.optim.optimizer=SGD", f"+{ACTOR}.optim.override_optimizer_config.momentum=0.6"], 0.6),
    ],
)
def test_the_optimizers_memory_is_adams_or_its_momentum(compose, overrides, memory):
    overrides = [override.replace("+actor", "++actor") for override in overrides]
    assert optimizer_memory(compose(*overrides).actor_rollout_ref.actor) == memory


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+entrocraft.method=advantage"], False),
        (["+entrocraft.method=advantage", "+entrocraft.normalize=all"], True),
        (
            ["+entrocraft.method=advantage", f"{ACTOR}.loss_agg_mode=seq-mean-token-mean", "+entrocraft.normalize=all"],
            False,
        ),
        (["+entrocraft.method=advantage", f"{ACTOR}.loss_agg_mode=token-sum"], True),
        (["+entrocraft.method=advantage", "+entrocraft.rejected=mask"], True),
        (["+entrocraft.method=advantage", "+entrocraft.rejected=mask", "+entrocraft.normalize=all"], False),
    ],
)
def test_what_the_advantages_must_make_good(compose, overrides, expected):
    assert VerlSettings.of(compose(*overrides)).needs_scaling is expected


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["+entrocraft.shedule=0.4"], UnknownNameError, "did you mean 'schedule'"),
        (['+entrocraft.schedule="linaer(0.6, 0.2)"'], EntrocraftError, "did you mean 'linear'"),
        (["+entrocraft.lower=0.5", "+entrocraft.upper=0.3"], InvalidValueError, "lower"),
        (["+entrocraft.method=aligned"], InvalidValueError, "strategy=fsdp, set it to fsdp2"),
        (["+entrocraft.method=aligned", FSDP2], InvalidValueError, "attn_implementation=flash_attention_2"),
        (["+entrocraft.method=aligned", FSDP2, SDPA], InvalidValueError, "param_dtype=bf16, set it to fp32"),
        ([*ALIGNED, f"{FSDP}.model_dtype=bf16"], InvalidValueError, "model_dtype=bf16"),
        ([*ALIGNED, f"{ACTOR}.optim.optimizer_impl=torchao.optim"], InvalidValueError, "got torchao.optim.AdamW"),
        ([*ALIGNED, f"{FSDP}.ulysses_sequence_parallel_size=2"], InvalidValueError, "ulysses_sequence_parallel_size=1"),
        ([*ALIGNED, f"{FSDP}.qat.enable=true"], InvalidValueError, "qat.enable=false"),
        ([*ALIGNED, "+entrocraft.aligned_share=0.5"], InvalidValueError, "whole_model_share=0.5"),
        (["+entrocraft.predictor=exact"], InvalidValueError, "predictor 'exact' is for the TRL engine"),
        (["+entrocraft.method=entropic", "algorithm.adv_estimator=gae"], InvalidValueError, "weighs whole rollouts"),
        (["+entrocraft.entropy_source=measured_"], UnknownNameError, "entropy_source"),
        (["algorithm.rollout_correction.bypass_mode=true"], InvalidValueError, "entropy_source=rollout"),
        (["+entrocraft.entropy_source=rollout"], InvalidValueError, "set entrocraft.method=advantage"),
        (
            [
                "+entrocraft.entropy_source=rollout",
                "+entrocraft.method=advantage",
                "actor_rollout_ref.rollout.calculate_log_probs=false",
            ],
            InvalidValueError,
            "calculate_log_probs=true",
        ),
        (
            ["+entrocraft.method=token", f"{ACTOR}.policy_loss.loss_mode=gspo"],
            InvalidValueError,
            "weighs a rollout as a whole",
        ),
        ([f"{ACTOR}.policy_loss.loss_mode=geo_mean"], InvalidValueError, "rejected=mask"),
        (
            ["+entrocraft.method=token", f"{ACTOR}.policy_loss.loss_mode=clip_cov"],
            InvalidValueError,
            "does not scale as its advantages do",
        ),
        (
            ["+entrocraft.normalize=all", f"{ACTOR}.policy_loss.loss_mode=kl_cov"],
            InvalidValueError,
            "does not scale as its advantages do",
        ),
        ([f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm"], InvalidValueError, "loss_scale_factor"),
        (["+entrocraft.normalize=all", f"{ACTOR}.use_kl_loss=true"], InvalidValueError, "use_kl_loss do not feel"),
        ([f"{ACTOR}.shuffle=true"], InvalidValueError, "mix the mini-batches"),
        (
            [f"{ACTOR}.ppo_mini_batch_size=5", "trainer.n_gpus_per_node=8"],
            InvalidValueError,
            "cannot be divided among 8 ranks",
        ),
        (
            [STATIC, f"{ACTOR}.ppo_micro_batch_size_per_gpu=3", "trainer.n_gpus_per_node=8"],
            InvalidValueError,
            "make them a multiple of 24",
        ),
        (["trainer.use_v1=false"], InvalidValueError, "trainer.use_v1"),
        (
            ["+entrocraft.estimator=w_reinforce", "algorithm.use_kl_in_reward=true", "algorithm.adv_estimator=grpo"],
            InvalidValueError,
            "use_kl_in_reward goes into the advantages",
        ),
        (
            ["+entrocraft.method=reward", "algorithm.use_kl_in_reward=true", "algorithm.adv_estimator=grpo"],
            InvalidValueError,
            "here 'reward'; set it to false, or use actor_rollout_ref.actor.use_kl_loss",
        ),
        (
            ["+entrocraft.estimator=w_reinforce", "algorithm.adv_estimator=gae"],
            InvalidValueError,
            "a critic whose values nothing uses",
        ),
        (["+entrocraft.steering=steering.yaml"], InvalidValueError, "give an absolute path"),
        (
            ["+entrocraft.run=/runs/mine"],
            InvalidValueError,
            "for TRL scripts: .*VERL_FILE_LOGGER_PATH.*entrocraft.rollouts and entrocraft.steering",
        ),
        (["++distillation.enabled=true"], InvalidValueError, "distillation learns from every rollout"),
    ],
)
def test_what_cannot_be_right_is_refused(compose, overrides, error, message):
    with pytest.raises(error, match=message):
        check_config(compose(*overrides))


def test_predictions_that_see_the_whole_model_are_taken_in_whole_precision(compose):
    assert VerlSettings.of(compose(*ALIGNED)).control.sees_whole_model
    in_fp32 = compose(*ALIGNED, f"{FSDP}.model_dtype=null")  # verl's word for it
    assert VerlSettings.of(in_fp32).control.sees_whole_model


def test_a_method_that_keeps_every_rollout_takes_any_loss(compose):
    for method in ("entropic", "none"):
        for own in (f"{ACTOR}.policy_loss.loss_mode=geo_mean", f"{ACTOR}.shuffle=true"):
            check_config(compose(f"+entrocraft.method={method}", "algorithm.adv_estimator=grpo", own))


def test_a_block_that_no_trainer_would_read_is_refused(compose):
    with pytest.raises(InvalidValueError, match="trainer_mode=entrocraft_colocate_async"):
        check_config(compose("+entrocraft.schedule=0.4", trainer_mode="colocate_async"))
    check_config(compose(trainer_mode="sync"))  # none of our business
    with pytest.raises(UnknownNameError, match="entrocraft_sync"):
        check_config(compose(trainer_mode="entrocraft_snyc"))


def test_measurements_that_are_shared_by_updates_teach_no_plant(compose):
    mode = "entrocraft_separate_async"  # by default four updates for one measurement
    assert VerlSettings.of(compose(trainer_mode=mode)).control.method_name == "predicted"
    with pytest.raises(InvalidValueError, match="parameter_sync_step=1"):
        check_config(compose("+entrocraft.method=token", trainer_mode=mode))
    alone = "trainer.v1.separate_async.parameter_sync_step=1"
    assert VerlSettings.of(compose(alone, trainer_mode=mode)).control.method_name == "token"


BONUS = ["+entrocraft.entropy_bonus=0.01", "+entrocraft.fallback=escalate"]


@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
def test_a_bonus_that_comes_and_goes_is_taken_where_the_workers_are_ours(compose, mode):
    config = compose(*BONUS, trainer_mode=f"entrocraft_{mode}")
    check_config(config)
    assert VerlSettings.of(config).needs_own_worker


def test_a_bonus_that_comes_and_goes_is_refused_where_the_workers_are_verls(compose):
    message = "sets entropy_coef, which verl's separate_async trainer cannot.*entropy_coeff"
    with pytest.raises(InvalidValueError, match=message):
        check_config(compose(*BONUS, trainer_mode="entrocraft_separate_async"))


def test_sequences_shared_by_ranks_are_counted_once(compose):
    small = [f"{ACTOR}.ppo_mini_batch_size=2", "actor_rollout_ref.rollout.n=2", "trainer.n_gpus_per_node=8"]
    with pytest.raises(InvalidValueError, match="among 8 ranks"):
        check_config(compose(*small))
    check_config(compose(*small, f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=4"))
    check_config(compose(*small, f"{ACTOR}.ulysses_sequence_parallel_size=4"))


def test_configurations_without_our_trainers_names_are_none_of_our_business(compose):
    config = compose(trainer_mode="sync")
    with open_dict(config):
        del config.trainer.v1
    check_run(config)


def test_a_trl_that_breaks_verl_is_named_before_the_workers_meet_it(compose, monkeypatch):
    monkeypatch.setattr("verl.utils.import_utils.is_trl_available", lambda: True)
    with pytest.raises(MissingDependencyError, match="pip uninstall trl"):
        check_run(compose())
    check_run(compose(trainer_mode="sync"))
    monkeypatch.setattr("verl.utils.import_utils.is_trl_available", lambda: False)
    check_run(compose())


def test_another_verl_is_refused_by_name(compose, monkeypatch):
    monkeypatch.setattr("entrocraft.engines.verl.checks.problem_with_verl", lambda: "expected verl>=0.9.0,<0.10")
    with pytest.raises(MissingDependencyError, match="expected verl"):
        check_config(compose())
    check_config(compose(trainer_mode="sync"))
