"""verl's own loss as our workers call it: under other knobs, and with the surrogates that were published."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from support import published
from verl.utils import tensordict_utils
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

import entrocraft as ec
from entrocraft.control.methods import build_method
from entrocraft.control.surrogate import Surrogate
from entrocraft.engines.knobs import KNOB_FIELDS
from entrocraft.engines.verl.loss import controlled_loss
from entrocraft.engines.verl.telling import loss_settings
from entrocraft.errors import InvalidValueError

B, PROMPT, T = 6, 3, 40
GOAL = ec.Goal(lower=0.4, target=0.5, upper=0.6, elapsed=0.25)
READING = [6.0, 6.0]  # six peaks of 1 nat on average, for SIREN


def jagged(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


class MiniBatch:
    """A micro-batch as verl's engine passes it on, after some updates: ratios far from 1, masks with holes."""

    def __init__(self, seed, **settings):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(5, T + 1, (B,), generator=generator).tolist()
        lengths[0] = T
        self.mask = torch.zeros(B, T)
        for row, length in enumerate(lengths):
            self.mask[row, :length] = (torch.rand(length, generator=generator) > 0.2).float()
        self.old = -torch.rand(B, T, generator=generator) * 3
        self.log_probs = (self.old + 0.6 * torch.randn(B, T, generator=generator)).requires_grad_()
        self.entropy = (torch.rand(B, T, generator=generator) * 2).requires_grad_()
        self.advantages = torch.randn(B, 1, generator=generator).expand(B, T).clone()
        self.advantages[1] = 0.0

        def of_responses(padded):
            return jagged(row[:length] for row, length in zip(padded, lengths, strict=True))

        def of_sequences(padded):
            # verl's pass says of each token how likely the next one was, the prompt's last of the first answer's.
            ends = torch.zeros(PROMPT - 1), torch.zeros(1)
            return jagged(torch.cat([ends[0], row[:n], ends[1]]) for row, n in zip(padded, lengths, strict=True))

        self.output = {"log_probs": of_sequences(self.log_probs), "entropy": of_sequences(self.entropy)}
        self.data = tensordict_utils.get_tensordict(
            {
                "prompts": jagged(torch.zeros(PROMPT, dtype=torch.long) for _ in lengths),
                "responses": jagged(torch.zeros(n, dtype=torch.long) for n in lengths),
                "response_mask": of_responses(self.mask),
                "old_log_probs": of_responses(self.old),
                "advantages": of_responses(self.advantages),
            },
            {"dp_size": 1, "batch_num_tokens": None, "global_batch_size": None} | settings,
        )

    def gradients(self, loss):
        """Return the gradients of a loss by log-probabilities and entropies."""
        wrt = [self.log_probs, self.entropy]
        grads = torch.autograd.grad(loss, wrt, retain_graph=True, allow_unused=True)
        return [torch.zeros(B, T) if g is None else g for g in grads]


def own_loss(**changes):
    config = FSDPActorConfig(
        strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=B, optim=OmegaConf.create({}), **changes
    )
    return partial(ppo_loss, config=config)


def asked(method):
    batch = ec.Batch(step=1, entropy=0.5, advantages=torch.ones(2), reading=READING)
    return loss_settings(method, method.decide(batch, GOAL))


def tokens_of(name, seen):
    """The published loss of each token, and what the authors add to its mean."""
    own = seen.log_probs, seen.old, seen.advantages, seen.mask
    tokens = published.tokens(name, *own, balance=PUBLISHED["bapo"]["balance"], dual=3.0)
    if name != "siren":
        return tokens, 0.0
    anchor = READING[0] / READING[1] / 0.5 * GOAL.target
    return tokens, 0.5 * (published.siren_peak(seen.entropy, seen.mask, 0.2) - anchor) ** 2


PUBLISHED = published.OPTIONS | {"bapo": {"balance": 9.0}}


@pytest.mark.parametrize("average", ["token-mean", "seq-mean-token-mean"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PUBLISHED)
def test_verls_loss_has_the_gradient_of_the_loss_that_was_published(name, seed, average):
    told = asked(build_method(name, PUBLISHED[name]))
    seen, own = MiniBatch(seed, **told), own_loss(loss_agg_mode=average)
    loss, metrics = controlled_loss(own, seen.output, seen.data)
    tokens, term = tokens_of(name, seen)
    if average == "token-mean":
        mean = (tokens * seen.mask).sum() / seen.mask.sum()
    else:
        mean = ((tokens * seen.mask).sum(-1) / seen.mask.sum(-1)).mean()
    ours, theirs, plain = (
        seen.gradients(each) for each in (loss, mean + term, own(model_output=seen.output, data=seen.data)[0])
    )
    for mine, published_one in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, published_one, rtol=1e-4, atol=1e-7)
    assert max((a - b).abs().max() for a, b in zip(ours, plain, strict=True)) > 1e-4  # not verl's own
    assert told["calculate_entropy"] and "actor/pg_loss" in metrics
    assert own.keywords["config"].clip_ratio_c == 3.0  # as it was for everybody else


def test_a_surrogate_that_asks_for_nothing_leaves_verls_loss_to_the_bit():
    class Silent(ec.Method):
        turns = frozenset({"surrogate"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

    seen, own = MiniBatch(0, **asked(Silent())), own_loss()
    assert torch.equal(
        controlled_loss(own, seen.output, seen.data)[0], own(model_output=seen.output, data=seen.data)[0]
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((B, T), torch.nan), "advantages_BT is not finite at some token that the loss counts"),
        (torch.zeros(B, 1), rf"advantages_BT must be of shape \({B}, {T}\), one for each token, got \({B}, 1\)"),
    ],
)
def test_a_surrogate_that_cannot_be_used_is_refused_with_its_methods_name(value, message):
    class Broken(ec.Method):
        turns = frozenset({"surrogate"})

        def decide(self, batch, goal):
            return ec.Decision.everything(batch)

        def surrogate(self, seen, decision, total):
            return Surrogate(advantages_BT=value)

    seen = MiniBatch(0, **asked(Broken()))
    with pytest.raises(InvalidValueError, match=f"Broken.surrogate: {message}"):
        controlled_loss(own_loss(), seen.output, seen.data)


def test_the_clip_range_is_that_of_verls_loss_for_one_update():
    config = SimpleNamespace(entropy_coeff=0.0, clip_ratio_low=0.2, clip_ratio_high=0.2)

    def own(config, model_output, data, dp_group):
        return config.clip_ratio_low, config.clip_ratio_high

    data = tensordict_utils.get_tensordict({"rows": torch.zeros(1)}, {KNOB_FIELDS["clip_low"]: 0.6})
    assert controlled_loss(partial(own, config=config), {}, data) == (0.6, 0.2)
    assert (config.clip_ratio_low, config.clip_ratio_high) == (0.2, 0.2)
