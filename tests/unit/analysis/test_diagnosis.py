"""The diagnosis of rollouts by hand, and of the embedded model against passes without padding."""

import json
import math

import pytest
import torch
import yaml

from entrocraft import tasks
from entrocraft.analysis.diagnosis import diagnose, diagnosis_of, rollouts
from entrocraft.analysis.diagnosis.findings import Agreement, Parts
from entrocraft.analysis.diagnosis.prospects import Prospects, prospects_of
from entrocraft.analysis.diagnosis.recommendation import FLOOR, recommend
from entrocraft.analysis.diagnosis.rollouts import ScoredRollouts
from entrocraft.config import parse_config
from entrocraft.control import EntropyControl
from entrocraft.errors import InvalidValueError
from entrocraft.models import load_model, load_tokenizer
from entrocraft.models.sampling import SamplingConfig, sample_answers
from entrocraft.reports.diagnosis import describe

A = 0.5 / (math.sqrt(0.5) + 1e-4)  # the advantage of one success among two


def by_hand(scores=((1.0, 0.0), (1.0, 1.0))):
    """Two prompts, two rollouts each, 7 tokens; what the mask hides is meant to be noticed."""
    return ScoredRollouts(
        scores_PG=torch.tensor(scores),
        answers=["1+3", None, "2+2", "4"],
        truncated_B=torch.tensor([False, True, False, False]),
        mask_BT=torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1]]).bool(),
        log_probs_BT=torch.tensor([[-1.0, -3.0], [-4.0, -99.0], [-1.0, -1.0], [-1.0, -1.0]]),
        entropy_BT=torch.tensor([[2.0, 1.0], [1.0, 99.0], [1.0, 1.0], [1.0, 1.0]]),
        sensitivity_BT=torch.tensor([[0.4, -0.1], [-0.2, 99.0], [0.1, 0.1], [-0.1, -0.1]]),
        self_kernel_BT=torch.ones(4, 2),
        baseline_BT=torch.tensor([[-2.0, -2.5], [-1.0, -999.0], [-2.0, -2.0], [0.0, -3.0]]),
    )


def test_where_training_would_start():
    found = diagnosis_of(by_hand())
    assert (found.num_prompts, found.num_rollouts, found.num_tokens) == (2, 2, 7)
    assert found.entropy == pytest.approx(8 / 7)
    assert found.entropy_stderr == pytest.approx(8 / 49)  # residuals of 4/7 and -4/7
    assert (found.mean_score, found.mixed_groups, found.mean_length, found.truncated) == (0.75, 0.5, 1.75, 0.25)


def test_the_chances_of_several_answers():
    found = diagnosis_of(by_hand(((1.0, 0.0), (0.0, 0.0)))).prospects
    assert found.pass_at == {1: 0.25, 2: 0.5} and found.headroom == 0.25
    assert (found.all_wrong, found.all_right, found.unread, found.different) == (0.5, 0.0, 0.25, None)
    found = diagnosis_of(by_hand()).prospects
    assert (found.all_wrong, found.all_right, found.different) == (0.0, 0.5, 1.0)


def test_what_differs_is_counted_beyond_the_first_right_answer_of_each_prompt():
    scores_PG = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    found = prospects_of(scores_PG, ["a", "a", "b", "c", "c", "d", "e", "f", "g"])
    assert found.different == pytest.approx(1 / 3)  # of a, b and c: b alone is new
    assert found.pass_at.keys() == {1, 2, 3}
    assert found.pass_at[2] == pytest.approx((1 + 1 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("chances", "unread", "pays", "said"),
    [
        ({1: 0.2, 8: 0.7}, 0.0, True, "pay in breadth: pass@1 is 0.20 and pass@8 0.70"),
        ({1: 0.75, 8: 0.875}, 0.1, False, "hardly pay: pass@1 is 0.75 and pass@8 0.88"),
        ({1: 0.13, 8: 0.5}, 0.34, False, "hardly pay yet: 34% of the answers cannot be read"),
    ],
)
def test_whether_a_curve_will_pay_is_said_with_the_reason(chances, unread, pays, said):
    found = Prospects(pass_at=chances, all_wrong=0.3, all_right=0.0, unread=unread, different=0.5)
    assert found.keeps_breadth is pays and said in found.outlook


def test_the_noise_floor_falls_with_the_root_of_the_prompts():
    found = diagnosis_of(by_hand())
    assert found.floor(8) == pytest.approx(found.entropy_stderr / 2)
    assert found.floor(found.prompts_for_floor) <= FLOOR < found.floor(found.prompts_for_floor - 1)


def test_the_conditions_of_the_paper_by_correctness():
    conditions = diagnosis_of(by_hand()).conditions
    correct, wrong, every = (conditions[name] for name in ("correct", "wrong", "all"))
    assert (correct.num_rollouts, wrong.num_rollouts, every.num_rollouts) == (3, 1, 4)
    assert (correct.sequence_condition, wrong.sequence_condition, every.sequence_condition) == (1.0, 0.0, 0.75)
    assert correct.mean_sensitivity == pytest.approx(2 / 3)  # 0.15, 0.1, and not -0.1
    assert wrong.mean_sensitivity == 0.0
    assert correct.token_condition == pytest.approx(4 / 6)
    assert every.token_condition == pytest.approx(4 / 7)


def test_the_advantage_is_wrong_about_a_rare_failure():
    found = diagnosis_of(by_hand())
    # Rollout 0 lowers entropy, A > 0: right. Rollout 1 lowers it, too, A < 0: wrong. The others have A = 0.
    assert found.rollouts["exact"] == pytest.approx([-A * 0.3 / 7, -A * 0.2 / 7, 0, 0], rel=1e-5)
    assert found.agreement["advantage"].by_count == 0.5
    assert found.agreement["advantage"].by_size == pytest.approx(0.6)
    assert found.agreement["advantage"].correlation == pytest.approx(1.0)  # two points: -A and the change rise together


def test_local_change_and_visitation_are_in_one_unit():
    found = diagnosis_of(by_hand())
    assert found.parts.local == pytest.approx(-A * 0.5 / 7)
    assert found.parts.local == pytest.approx(found.quadrants.total)
    # h - H len: 3 - 16/7 for two tokens, 1 - 8/7 for one
    assert found.rollouts["visitation"] == pytest.approx([A * 5 / 7 * 2 / 7, A / 7 * 1 / 7, 0, 0], rel=1e-5)
    assert found.parts.ratio == pytest.approx(22 / 7)


def test_likelihood_and_baseline_are_medians_of_means_per_token():
    likelihood = diagnosis_of(by_hand()).likelihood
    assert (likelihood["correct"].log_likelihood, likelihood["correct"].baseline) == (-1.0, -2.0)
    assert (likelihood["wrong"].log_likelihood, likelihood["wrong"].baseline) == (-4.0, -1.0)


def test_without_a_gradient_nothing_is_recommended_and_the_rest_is_still_said():
    found = diagnosis_of(by_hand(scores=((1.0, 1.0), (1.0, 1.0))))
    assert found.agreement == {} and found.recommendation.control is None and found.parts.ratio == math.inf
    assert found.conditions["wrong"].token_condition is None and found.likelihood["wrong"].baseline is None
    assert found.entropy == pytest.approx(8 / 7)
    assert "GRPO has nothing to learn here" in describe(found) and "control:" not in describe(found)
    json.dumps(found.to_dict(), allow_nan=False)


def recommended(signs=0.5, ratio=0.5, entropy=0.5, standard_error=0.0125):
    agreement = {"advantage": Agreement(by_count=0.5, by_size=signs, correlation=None)}
    parts = Parts(local_size=1.0, local=0.0, visitation_size=ratio, visitation=0.0)
    return recommend(entropy, standard_error, 32, agreement, parts)


@pytest.mark.parametrize(
    ("signs", "ratio", "settings"),
    [
        (0.9, 0.99, {"method": "advantage"}),
        (0.89, 0.99, {"method": "token"}),
        (0.95, 1.0, {"method": "token"}),
        (0.95, 9.9, {"method": "token"}),
        (0.95, 10.0, {"method": "budget", "predictor": "whole_model"}),
    ],
)
def test_the_rule_follows_from_sign_agreement_and_visitation(signs, ratio, settings):
    recommendation = recommended(signs, ratio)
    assert {k: v for k, v in recommendation.control.items() if k in ("method", "predictor")} == settings
    assert f"{signs:.0%}" in recommendation.reasons[0] and f"{ratio:.1f}" in recommendation.reasons[0]


def test_the_band_is_four_standard_errors_wide_and_two_percent_at_least():
    assert recommended().control["width"] == 0.1  # 4 * 0.0125 / 0.5
    assert "50 prompts" in recommended().reasons[2]  # 32 * 1.25^2
    assert recommended(standard_error=0.001).control["width"] == 0.02
    assert "0.500 to 0.250 nats" in recommended().reasons[1]


@pytest.mark.parametrize("ratio", [0.5, 20.0])
def test_what_is_recommended_can_be_pasted(ratio):
    recommendation = recommended(0.95, ratio)
    pasted = parse_config(yaml.safe_load(recommendation.to_yaml())).control
    assert pasted == EntropyControl(**recommendation.control)
    assert pasted.band()(0, 100) == pytest.approx((0.95, 1.05))
    assert pasted.band().unit == "initial"


@pytest.fixture(scope="module")
def model():
    return load_model("countdown-base")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("countdown-base")


class Wider(tasks.Countdown):
    """Prompts of different lengths, which batches must pad."""

    def problems(self, split, num_problems, seed=0):
        short, long = (tasks.build("countdown", num_numbers=n).problems(split, num_problems, seed) for n in (2, 4))
        return [*short[: num_problems // 2], *long[num_problems // 2 :]]


def test_padding_and_batches_change_no_score(model, tokenizer, monkeypatch):
    problems = Wider().problems("train", 4)
    (batch,) = sample_answers(model, tokenizer, problems, SamplingConfig(num_samples=2), max_tokens=12)
    assert batch.prompt_mask_BL.sum(-1).unique().numel() > 1
    (scored,) = rollouts._score_tokens(model, batch, temperature=0.7)
    ends = 0
    for i in range(8):
        prompt = batch.prompt_ids_BL[i][batch.prompt_mask_BL[i].bool()]
        completion = batch.completion_ids_BT[i][scored["mask_BT"][i]]
        ends += int(completion[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in completion[:-1]
        with torch.no_grad():
            logits = model(torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        log_probs = (logits / 0.7).log_softmax(-1)
        expected = log_probs.gather(-1, completion[:, None])[:, 0]
        assert torch.allclose(scored["log_probs_BT"][i][scored["mask_BT"][i]], expected, atol=1e-4)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        assert torch.allclose(scored["entropy_BT"][i][scored["mask_BT"][i]], entropy, atol=1e-4)
    assert ends == (~batch.truncated_B).sum() > 0

    monkeypatch.setattr(rollouts, "_MAX_LOGITS", 1)
    rows = list(rollouts._score_tokens(model, batch, temperature=0.7))
    assert len(rows) == 8
    assert torch.allclose(torch.cat([row["log_probs_BT"] for row in rows]), scored["log_probs_BT"], atol=1e-4)


def test_the_embedded_model_is_diagnosed_reproducibly_and_left_as_it_was(model, tokenizer):
    model.train()
    state = torch.get_rng_state()
    found = diagnose(model, tokenizer, tasks.build("countdown"), num_prompts=6, num_rollouts=4, batch_size=9)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    again = diagnose(model, tokenizer, tasks.build("countdown"), num_prompts=6, num_rollouts=4, batch_size=9)
    assert found == again
    assert len(found.rollouts["score"]) == 24 and 0.4 < found.entropy < 0.9  # its model card: about 0.6
    assert found.agreement["estimate"].by_size > found.agreement["advantage"].by_size
    cut = diagnose(model, tokenizer, tasks.build("countdown"), num_prompts=2, num_rollouts=2, max_tokens=3)
    assert cut.truncated == 1.0 and cut.mean_length == 3.0


@pytest.mark.parametrize("settings", [{"num_prompts": 1}, {"num_rollouts": 1}, {"max_tokens": 0}, {"temperature": 0.0}])
def test_sizes_that_show_nothing_are_refused(model, tokenizer, settings):
    with pytest.raises(InvalidValueError, match=next(iter(settings))):
        diagnose(model, tokenizer, tasks.build("countdown"), **settings)
