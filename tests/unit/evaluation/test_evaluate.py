"""One evaluation of answers that break what grades them."""

import pytest

from entrocraft.errors import RewardError
from entrocraft.evaluation.evaluate import evaluate
from entrocraft.evaluation.samplers import Drawn, Sampler
from entrocraft.models.sampling_config import SamplingConfig
from entrocraft.tasks import Task, build

TEXTS = ["7", "\\boxed{10^{5000}}", "\ud83d", "a\x00", "(" * 3000, "1e99999999999999999999"]


class Answers(Sampler):
    def draw(self, prompts, config, max_tokens, seed):
        texts = (TEXTS * len(prompts))[: len(prompts)]
        return [Drawn(text=text, tokens=[0], truncated=False, entropy=None) for text in texts]


class Fragile(Task):
    name, max_completion_tokens, error = "fragile", 4, ValueError("not this one")

    def problems(self, split, num_problems, seed=0):
        return [{"prompt": "?"}] * num_problems

    def score(self, completion, problem):
        if len(completion) > 2:
            raise self.error
        return float(completion == "7")

    def answers_of(self, completions):
        return [text if len(text) < 3 else [][0] for text in completions]


CONFIG = SamplingConfig(num_samples=len(TEXTS))


def test_a_completion_that_breaks_a_verifier_costs_that_sample_and_is_counted():
    task = Fragile()
    with (
        pytest.warns(UserWarning, match=r"the verifier raised ValueError\('not this one'\) on"),
        pytest.warns(UserWarning, match="fragile: of 6 completions, 3 broke the verifier and score 0"),
    ):
        samples = evaluate(Answers, task, task.problems("test", 1), CONFIG)
    assert [sample.score for sample in samples] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert [sample.answer for sample in samples] == ["7", None, "\ud83d", "a\x00", None, None]


def test_what_the_user_did_wrong_is_still_said():
    task = Fragile()
    task.error = RewardError("reward 'mine:reward' raised")
    with pytest.raises(RewardError, match="mine:reward"):
        evaluate(Answers, task, task.problems("test", 1), CONFIG, with_answers=False)


@pytest.mark.parametrize("reward", ["exact", "number", "math", {"name": "regex", "pattern": "(.+)"}])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_completion_ends_an_evaluation(reward, tmp_path):
    (tmp_path / "one.jsonl").write_text('{"prompt": "?", "answer": "7"}\n')
    task = build("dataset", test=str(tmp_path / "one.jsonl"), reward=reward)
    samples = evaluate(Answers, task, task.problems("test", 1), CONFIG)
    assert [sample.score for sample in samples] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_processes_that_share_an_evaluation_draw_together_what_one_draws():
    class Seeded(Answers):
        def draw(self, prompts, config, max_tokens, seed):
            return [
                Drawn(text=f"{seed} {row}", tokens=[0], truncated=False, entropy=None) for row in range(len(prompts))
            ]

    def drawn(index, count):
        config = SamplingConfig(num_samples=3, batch_size=2)
        problems = [{"prompt": str(number)} for number in range(5)]
        samples = evaluate(Seeded, Fragile(), problems, config, seed=7, with_answers=False, share=(index, count))
        return [(sample.problem, sample.completion) for sample in samples]

    alone = drawn(0, 1)
    shares = [drawn(index, 3) for index in range(3)]
    assert len(alone) == 15 and [len(share) for share in shares] == [6, 5, 4]  # of eight batches, the last of one
    assert sorted(alone) == sorted(each for share in shares for each in share)
