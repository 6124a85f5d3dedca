"""A trainer whose passes give log-probabilities and no entropies, as Unsloth's do: where entropies come from then."""

import warnings

import pytest
import torch
from support.trainers import train_logs
from trl import GRPOTrainer

from entrocraft.engines.trl import with_entropy_control
from entrocraft.errors import InvalidValueError

CURVE = {"schedule": "linear(1.4, 0.6, unit='initial')", "width": 0.02}
SEVERAL = {"num_iterations": 2}  # TRL then scores the batch itself, before the first update


class LikeUnsloth(GRPOTrainer):
    """Its passes return no entropies, whoever asks; its loss has a way of its own."""

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        log_probs, entropies, aux_loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return log_probs, entropies if torch.is_grad_enabled() else None, aux_loss


class LikeUnslothWithVllm(LikeUnsloth):
    """What samples is not transformers, so that nothing can be recorded."""

    def _generate_single_turn(self, *args, **kwargs):
        self._scorer._record.clear()
        result = super()._generate_single_turn(*args, **kwargs)
        self._scorer._record.clear()
        return result


def trained(make_trainer, trainer_class, config=None, **control):
    """Return the log lines of a run, the warnings about entropies, and what was measured at each step."""
    seen = []

    class Watching(with_entropy_control(trainer_class)):
        def _control(self, batch):
            scores = self._scorer.scores

            def watched(batch):
                stats = scores(batch)
                seen.append((stats, batch["completion_mask"].bool()))
                return stats

            self._scorer.scores = watched
            try:
                return super()._control(batch)
            finally:
                self._scorer.scores = scores

    Watching.__name__ = trainer_class.__name__
    trainer = make_trainer(Watching, config={"max_steps": 4} | (config or {}), entropy_control=CURVE | control)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    said = [str(warning.message) for warning in caught if "entropies" in str(warning.message)]
    return train_logs(trainer), said, seen


@pytest.mark.parametrize("config", [{}, SEVERAL], ids=["one update", "several"])
def test_what_sampling_recorded_takes_the_place_of_a_pass(make_trainer, config):
    """The same tokens are sampled, the same numbers measured and the same decisions made as with TRL's own passes."""
    lines, said, seen = trained(make_trainer, LikeUnsloth, config, method="token")
    expected, nothing, measured = trained(make_trainer, GRPOTrainer, config, method="token")
    assert (
        nothing == []
        and len(said) == 1
        and said[0].endswith("(Unsloth's do not): they are taken from what sampling recorded")
    )
    assert len(lines) == 4 and len(seen) == len(measured)
    for (stats, mask), (own, _) in zip(seen, measured, strict=True):
        assert torch.allclose(stats.entropy_BT[mask], own.entropy_BT[mask], atol=1e-4)
        assert not torch.allclose(stats.entropy_BT[mask], -stats.log_probs_BT[mask], atol=0.1)
    for line, other in zip(lines, expected, strict=True):
        for name in ("entropy", "target", "kept_token_fraction"):
            assert line[f"entrocraft/{name}"] == pytest.approx(other[f"entrocraft/{name}"], abs=1e-4)


@pytest.mark.parametrize("config", [{}, SEVERAL], ids=["one update", "several"])
def test_without_a_record_entropy_is_the_mean_of_minus_log_p_and_this_is_said_once(make_trainer, config):
    lines, said, seen = trained(make_trainer, LikeUnslothWithVllm, config, method="advantage")
    assert len(said) == 1 and said[0].endswith("they are -log p of the sampled tokens, and noisier")
    stats, mask = seen[0]
    assert lines[0]["entrocraft/entropy"] == pytest.approx(-stats.log_probs_BT[mask].mean().item(), rel=1e-5)


@pytest.mark.parametrize("method", ["token", "budget", "clip_b"])
def test_without_a_record_methods_that_need_more_are_refused(make_trainer, method):
    with pytest.raises(InvalidValueError, match=f"{method!r} needs .*LikeUnslothWithVllm give none.*'advantage'"):
        trained(make_trainer, LikeUnslothWithVllm, method=method)


def test_a_record_that_passes_do_not_confirm_is_not_used(make_trainer):
    """Under a repetition penalty, tokens are sampled from another distribution than the one that is trained."""
    config = {"generation_kwargs": {"repetition_penalty": 3.0}}
    lines, said, _ = trained(make_trainer, LikeUnsloth, config, method="advantage")
    assert len(said) == 1 and "-log p" in said[0] and len(lines) == 4


def test_exact_predictions_look_at_logits_and_need_no_entropies_of_a_pass(make_trainer):
    _, said, _ = trained(make_trainer, LikeUnsloth, method="predicted", predictor="exact")
    assert said == []
