"""What the policy of a TRL trainer thinks of the batch it has just sampled, had from where it costs least."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing

from entrocraft.control.methods import Method
from entrocraft.control.signals import NEED_ENTROPIES
from entrocraft.dynamics import self_kernel_from_collision
from entrocraft.engines.tokens import TokenStats, token_stats_of
from entrocraft.engines.trl.fused_head import recorded_collisions
from entrocraft.engines.trl.rows import Batch
from entrocraft.engines.trl.sampling_record import SamplingRecord
from entrocraft.errors import InvalidValueError


class PolicyScorer:
    """Scores a trainer's batches: from TRL's own pass over the policy, from sampling, or in a pass of its own.

    Args:
        trainer: The TRL trainer.
        pass_of_trl: Its own `_get_per_token_logps_and_entropies`.
        method: The method that decides.
        name: Its name, for messages.
        exact: Also score what the exact predictions need, which takes all logits.
        visitation: Also score the self-kernels, of which visitation is predicted; TRL's passes give them, too.
    """

    def __init__(
        self, trainer: Any, pass_of_trl: Callable[..., Any], method: Method, name: str, *, exact: bool, visitation: bool
    ):
        self._trainer, self._pass_of_trl, self._method, self._name = trainer, pass_of_trl, method, name
        self._exact, self._visitation = exact, visitation
        self._capturing = False
        self._captured: TokenStats | None = None
        self._lacks_entropies = False
        """True once a pass of the trainer's has given log-probabilities alone, as Unsloth's do."""
        self._said: set[str] = set()
        self._record = SamplingRecord(sensitivity=exact, self_kernel=exact or visitation)
        if any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in trainer.model.modules()):
            self._record.trusted = False  # what sampling sees is another draw than what the update sees

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture what TRL learns of the policy while it makes a batch."""
        self._captured, self._capturing = None, True
        try:
            yield
        finally:
            self._capturing = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what transformers samples meanwhile, if that may be of use."""
        if not self._capturing or self._record.trusted is False:
            yield
            return
        model = self._trainer.accelerator.unwrap_model(self._trainer.model_wrapped)
        with self._record.recording(model, self._trainer.temperature):
            yield

    def captures_pass_over(self, model: Any) -> bool:
        """Return whether entropies are wanted from the pass over `model` that TRL is about to make."""
        return self._capturing and self._captured is None and model is self._trainer.model

    def capture(self, model: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Make that pass, keep what it gives, and return it as TRL does, with entropies."""
        self._captured, aux_loss = self._scored_by_trl(model, *args, **kwargs)
        return self._captured.log_probs_BT, self._captured.entropy_BT, aux_loss

    def scores(self, batch: Batch) -> TokenStats:
        """Return the scores of the batch that TRL has just made.

        Where the trainer's passes give no entropies, they are what sampling recorded; where that cannot be used, -log p
        of each sampled token, whose mean is the batch's entropy on average.

        Raises:
            InvalidValueError: There is only -log p, and the method needs the entropy of each token.
        """
        # With PEFT, TRL may score the reference through the same model object; only a batch with old
        # log-probabilities shows that the first pass was the policy's.
        by_trl = "old_per_token_logps" in batch or "old_logps" in batch
        captured = self._captured if by_trl and not self._exact else None
        if captured is not None and not self._lacks_entropies:
            self._record.trusted = False  # nor is it needed
            return captured
        recorded = self._recorded(batch)
        stats = recorded or captured or self.passed(batch)
        if self._lacks_entropies and not self._exact:
            self._say_whence(is_recorded=recorded is not None)
        return stats

    def _say_whence(self, *, is_recorded: bool) -> None:
        """Say once where entropies come from if not from a pass; refuse a method that needs more than there is."""
        if not is_recorded:
            for missing in sorted(self._method.needs & NEED_ENTROPIES):
                raise InvalidValueError(
                    f"method {self._name!r} needs {missing}, which is made of the entropy of each token: passes of "
                    f"{type(self._trainer).__name__} give none (Unsloth's do not), and sampling recorded none that "
                    "passes confirm. Let transformers sample, in one go and without settings that change its logits, "
                    "or use method 'advantage'"
                )
        source = "taken from what sampling recorded" if is_recorded else "-log p of the sampled tokens, and noisier"
        if source not in self._said:
            self._said.add(source)
            warnings.warn(
                f"passes of {type(self._trainer).__name__} give no entropies (Unsloth's do not): they are {source}",
                stacklevel=5,
            )

    def clear(self) -> None:
        """Let go of what was captured and recorded."""
        self._captured = None
        self._record.clear()

    def _recorded(self, batch: Batch) -> TokenStats | None:
        """Return what sampling recorded, while passes show on all ranks that it can be trusted."""
        record, step = self._record, self._trainer.state.global_step + 1
        if record.trusted is False:
            return None
        recorded = record.scores(batch["completion_ids"], batch["completion_mask"])
        if not self._on_all_ranks(recorded is not None):
            return None
        assert recorded is not None
        due = step & (step - 1) == 0  # a power of two: some of what changes logits only does so later
        if record.trusted is None or due:
            passed = self.passed(batch)
            agree = record.agrees(recorded, passed, batch["completion_mask"], entropies=not self._lacks_entropies)
            record.trusted = self._on_all_ranks(agree)
        return recorded if record.trusted else None

    def _on_all_ranks(self, condition: bool) -> bool:
        accelerator = self._trainer.accelerator
        return bool(accelerator.gather(torch.tensor([condition], device=accelerator.device)).all())

    def passed(self, batch: Batch) -> TokenStats:
        """Return the scores from a pass without gradient, which leaves no trace, not even in the random numbers."""
        trainer, device = self._trainer, self._trainer.accelerator.device
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs),
        ):
            return self._over_logits(batch) if self._exact else self._through_trl(batch)

    def _through_trl(self, batch: Batch) -> TokenStats:
        trainer = self._trainer
        parameters = inspect.signature(self._pass_of_trl).parameters
        # Whatever TRL's own pass takes, such as images, under the names that the batch has it by.
        multimodal = {name: batch[name] for name in parameters if name in batch}
        stats, _ = self._scored_by_trl(
            trainer.model,
            *sequences(batch),
            batch["completion_ids"].size(1),
            batch_size=trainer.args.per_device_train_batch_size,
            **multimodal,
        )
        return stats

    def _scored_by_trl(self, *args: Any, **kwargs: Any) -> tuple[TokenStats, Tensor | None]:
        """Return what a pass of TRL's says of the completions, and its load-balancing loss, if it was asked for one."""
        with recorded_collisions(self._trainer) if self._visitation else nullcontext() as record:
            log_probs, entropies, aux_loss = self._pass_of_trl(*args, **kwargs | {"compute_entropy": True})
        if entropies is None:
            self._lacks_entropies = True
            return TokenStats(log_probs, -log_probs), aux_loss
        stats = TokenStats(log_probs, entropies)
        if record is not None:
            collision_BT = record.collision_probabilities(log_probs.shape[1])
            stats.self_kernel_BT = self_kernel_from_collision(log_probs.detach(), collision_BT)
        return stats, aux_loss

    def _over_logits(self, batch: Batch) -> TokenStats:
        if "pixel_values" in batch:
            raise InvalidValueError("predictor 'exact' reads text only; use predictor 'estimate' with images")
        trainer, parts = self._trainer, []
        all_rows = torch.arange(len(batch["completion_ids"]), device=trainer.accelerator.device)
        for rows in all_rows.split(trainer.args.per_device_train_batch_size):
            with trainer.accelerator.autocast():
                logits, tokens = completion_logits(trainer.model, trainer.model, batch, rows, trainer.temperature)
            parts.append(token_stats_of(logits, tokens, sensitivity=True, self_kernel=True))
        return TokenStats.joined(parts, dim=0)


def sequences(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of prompts and completions together, as the model reads them."""
    return (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
    )


def completion_logits(
    forward: Callable[..., Any], model: Any, batch: Batch, rows: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the logits (rows, T, V) of completion tokens, divided by the temperature, and the tokens (rows, T).

    Args:
        forward: What is called as the model is.
        model: The model behind it; where it can, it leaves out the logits of the prompt.
        batch: Prompts and completions.
        rows: Which rows of the batch.
        temperature: The sampling temperature.
    """
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    part = {name: batch[name][rows] for name in names}  # joining the whole batch anew for each part would be waste
    ids, attention_mask = sequences(part)
    tokens = part["completion_ids"]
    width = tokens.shape[1]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Logits of the prompt would be as large as the vocabulary for every token of it.
    can_leave_out = "logits_to_keep" in inspect.signature(type(base).forward).parameters
    options = {"logits_to_keep": width + 1} if can_leave_out else {}
    logits = forward(input_ids=ids, attention_mask=attention_mask, **options).logits
    # Each position predicts the token after it.
    return logits[:, -width - 1 : -1] / temperature, tokens
