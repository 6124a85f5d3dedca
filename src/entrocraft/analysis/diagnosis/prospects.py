"""What a curve would have to work with: how far several answers beat one, and what a group of rollouts misses.

A curve keeps a policy's answers different from each other. That is worth something where different answers succeed
on different problems, and nothing where all of them fail, all of them succeed, or none can be read yet.

Shapes: P prompts, G rollouts per prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from entrocraft.grading.pass_at_k import pass_at_k
from entrocraft.tasks.base import CORRECT

UNREAD = 0.2
"""Share of answers without one to be read, from which a policy has a format still to learn."""
HEADROOM = 0.25
"""How far several answers must beat one for variety to have something to find."""


@dataclass(frozen=True, kw_only=True)
class Prospects:
    """Shares, 0 to 1, of what was asked and answered; see `prospects_of`."""

    pass_at: dict[int, float]
    """The chance that one of k answers is right, for k = 1, 2, 4, ... and the number of rollouts."""
    all_wrong: float
    """Prompts of which no rollout is right: they teach nothing until one is."""
    all_right: float
    """Prompts of which every rollout is right: they teach nothing any more."""
    unread: float
    """Answers in which the task finds none, such as those that break its format."""
    different: float | None
    """Right answers beyond a prompt's first one that say something new; None where no prompt has two."""

    @property
    def headroom(self) -> float:
        """How far the most answers beat one: what is right at times, and not yet always."""
        return self.pass_at[max(self.pass_at)] - self.pass_at[1]

    @property
    def keeps_breadth(self) -> bool:
        """Whether a curve is expected to keep pass@k above what it would be without: docs/found.md has how often so."""
        return self.unread < UNREAD and self.headroom >= HEADROOM

    @property
    def outlook(self) -> str:
        """Whether a curve will pay here, and why, in two sentences."""
        most = max(self.pass_at)
        chances = f"pass@1 is {self.pass_at[1]:.2f} and pass@{most} {self.pass_at[most]:.2f}"
        if self.unread >= UNREAD:
            return (
                f"A curve will hardly pay yet: {self.unread:.0%} of the answers cannot be read, so a format is still "
                "to be learnt, and entropy falls while it is. Let the curve fall with it, or begin it later."
            )
        if self.headroom < HEADROOM:
            return f"A curve will hardly pay: {chances}, so there is little that variety could find."
        return (
            f"A curve will pay in breadth: {chances}, and several answers stay that much better as long as the curve "
            "is above where entropy would be without. In the mean nothing of the kind has been seen so far: tune the "
            "learning rate first."
        )


def prospects_of(scores_PG: Tensor, answers: Sequence[str | None]) -> Prospects:
    """Return what rollouts show of a policy's chances on a task.

    Args:
        scores_PG: Scores of the rollouts.
        answers: What each of them answers, prompt after prompt; None where nothing can be read.

    Example:
        >>> import torch
        >>> found = prospects_of(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), ["1+3", "2+2", None, "4"])
        >>> found.pass_at, found.headroom, found.all_right, found.unread, found.different
        ({1: 0.75, 2: 1.0}, 0.25, 0.5, 0.25, 1.0)
    """
    num_rollouts = scores_PG.shape[1]
    right_PG = scores_PG > CORRECT
    correct_P = right_PG.sum(1).tolist()
    counts = sorted({2**i for i in range(num_rollouts.bit_length())} | {num_rollouts})
    flat = right_PG.flatten().tolist()
    again = new = 0
    for start in range(0, len(answers), num_rollouts):
        group = range(start, start + num_rollouts)
        right = [answers[i] for i in group if flat[i]]
        again += max(0, len(right) - 1)
        new += max(0, len(set(right)) - 1)
    return Prospects(
        pass_at={k: sum(pass_at_k(num_rollouts, c, k) for c in correct_P) / len(correct_P) for k in counts},
        all_wrong=(~right_PG.any(1)).double().mean().item(),
        all_right=right_PG.all(1).double().mean().item(),
        unread=sum(answer is None for answer in answers) / len(answers),
        different=new / again if again else None,
    )
