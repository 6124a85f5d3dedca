"""What is done when nothing moves entropy back."""

import warnings

import pytest
import torch
from support.decisions import ABOVE, BAND, INSIDE, many

import entrocraft as ec
from entrocraft.control.planning.ranking import binned


def test_when_nothing_moves_entropy_back_the_fallback_climbs_its_ladder():
    def decide_stuck(controller, step):
        change = torch.tensor([0.1, 0.2, 0.3, 0.4])
        stats = ec.BatchStats(
            step=step, total_steps=10, entropy=ABOVE, advantages=torch.ones(4), predicted_change=change
        )
        return controller.decide(stats)

    controller = ec.RejectionController(BAND, rule="predicted", fallback="escalate", entropy_bonus=0.02)
    with pytest.warns(UserWarning, match="no rollout of the batch moves entropy down"):
        first = decide_stuck(controller, 1)
    assert first.advantages.tolist() == pytest.approx([0.1] * 4)  # a smaller step
    second = decide_stuck(controller, 2)
    assert second.keep.tolist() == [True, False, False, False]  # and of the least harmful quarter only
    third = decide_stuck(controller, 3)
    assert third.knobs == {"entropy_coef": -0.02}  # and a penalty on entropy, which is too high
    assert third.metrics["fallback_entropy_bonus"] == 1.0

    without = ec.RejectionController(BAND, rule="predicted", fallback="escalate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stages = [decide_stuck(without, step) for step in (1, 2, 3)]
        freed = without.decide(many(ABOVE))
        assert decide_stuck(without, 5).advantages.tolist() == pytest.approx([0.1] * 4)
    assert stages[2].empty and stages[2].metrics["fallback_skip"] == 1.0
    assert not freed.empty  # the first batch that is not stuck goes back to the bottom


@pytest.mark.parametrize(("step", "shares"), [(1, [1.0]), (2, [1.0, 0.25]), (3, [1.0, 0.25, 0.0])])
def test_the_guard_hears_what_the_fallback_keeps_and_not_what_the_method_of_tokens_would_have(step, shares):
    change = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    controller = ec.RejectionController(BAND, rule="token", fallback="escalate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(1, step + 1):
            fields = {"advantages": torch.ones(4), "predicted_change": change, "reading": binned(change.repeat(50))}
            controller.decide(ec.BatchStats(step=number, total_steps=10, entropy=ABOVE, **fields))
    assert controller.state_dict()["course"]["guard"]["kept"] == shares


@pytest.mark.parametrize("rule", ["advantage", "predicted"])
def test_a_batch_in_the_band_takes_the_ladder_down_and_goes_on_counting(rule):
    controller = ec.RejectionController(BAND, rule=rule, fallback="escalate")
    fields = {"advantages": torch.full((4,), -1.0), "predicted_change": torch.full((4,), 0.1)}  # all raise entropy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decisions = [
            controller.decide(ec.BatchStats(step=step, total_steps=10, entropy=entropy, **fields))
            for step, entropy in enumerate((ABOVE, INSIDE, ABOVE, ABOVE), start=1)
        ]
    assert [d.metrics["fallback_smaller_step"] for d in decisions] == [1.0, 1.0, 2.0, 2.0]
    assert decisions[1].keep.all() and decisions[1].advantages.tolist() == [-1.0] * 4  # the band changes nothing
    assert decisions[2].keep.all() and not decisions[3].keep.all()  # two in a row only then
