"""One step of a run: its line, its quadrants, and the rollouts that were recorded of it, by prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

from entrocraft.app.errors import NotFoundError
from entrocraft.app.recorded import RecordedRun
from entrocraft.runs.metrics import QUADRANTS, quadrant_columns

GROUPS_ON_A_PAGE = 20
_RIGHT = 0.5
"""Reward above which an answer is right, as `tasks.base.CORRECT` has it."""

Line = Mapping[str, Any]


def step_of(run: RecordedRun, step: int, page: int = 0) -> dict[str, Any]:
    """Return what is known of a step.

    Args:
        run: The run.
        step: The optimizer step, counted from 1.
        page: Which twenty prompts with texts, counted from 0.

    Raises:
        NotFoundError: The run has no such step, or no such page.
        RunDirectoryError: The line of its rollouts cannot be read.
    """
    with run.lock:
        run.update()
        row = run.book.row_of(step)
        if row is None:
            raise NotFoundError(f"there is no step {step}; the last is {run.book.last_step}")
        metrics = run.book.row(row)
        recorded = run.rollouts.read(step)
    groups = groups_of(recorded)
    pages = max(1, -(-len(groups) // GROUPS_ON_A_PAGE))
    if not 0 <= page < pages:
        raise NotFoundError(f"there is no page {page} of step {step}; there are {pages}, counted from 0")
    return {
        "step": step,
        "metrics": metrics,
        "quadrants": quadrants_of(metrics),
        "rollouts": rollouts_of(recorded),
        "groups": groups[page * GROUPS_ON_A_PAGE : (page + 1) * GROUPS_ON_A_PAGE],
        "pages": pages,
        "sentence": sentence_of(metrics, recorded),
    }


def quadrants_of(metrics: Line) -> list[dict[str, Any]]:
    """Return each quadrant's contribution to the predicted change, of all tokens and of those kept."""
    whole, kept = quadrant_columns(kept=False), quadrant_columns(kept=True)
    return [{"name": name, "all": metrics.get(whole[name]), "kept": metrics.get(kept[name])} for name in QUADRANTS]


def rollouts_of(recorded: Line | None) -> dict[str, Any] | None:
    """Return the columns of a step's rollouts; None if none were recorded."""
    if recorded is None:
        return None
    columns = {name: recorded.get(name) for name in ("group", "reward", "advantage", "change", "tokens")}
    return columns | {"kept": recorded.get("kept_tokens")}


def groups_of(recorded: Line | None, *, tokens: bool = True) -> list[dict[str, Any]]:
    """Return the prompts whose texts were recorded, each with all that was answered to it, by its tokens if wanted."""
    if recorded is None:
        return []
    groups: dict[int, dict[str, Any]] = {}
    for each in recorded.get("texts") or []:
        rollout = _rollout(recorded, each["row"], each["completion"])
        if tokens:
            kept = each.get("kept")
            rollout |= {
                "token_texts": each.get("tokens"),
                "token_changes": each.get("changes"),
                "token_kept": None if kept is None else [int(digit) for digit in kept],
            }
        number = recorded["group"][each["row"]]
        groups.setdefault(number, {"group": number, "prompt": each["prompt"], "rollouts": []})["rollouts"].append(
            rollout
        )
    for group in groups.values():
        rewards = [rollout["reward"] for rollout in group["rollouts"]]
        group |= {"right": sum(reward is not None and reward > _RIGHT for reward in rewards), "of": len(rewards)}
    return list(groups.values())


def _rollout(recorded: Line, row: int, text: str) -> dict[str, Any]:
    def at(name: str) -> Any:
        column: Sequence[Any] | None = recorded.get(name)
        return None if column is None else column[row]

    tokens, kept = at("tokens") or 0, at("kept_tokens") or 0
    return {
        "index": row,
        "text": text,
        "reward": at("reward"),
        "advantage": at("advantage"),
        "change": at("change"),
        "tokens": tokens,
        "kept": kept,
        "verdict": verdict(tokens, kept),
        "token_texts": None,
        "token_changes": None,
        "token_kept": None,
    }


def verdict(tokens: float, kept: float) -> str:
    """Return what became of a rollout, in words."""
    if kept <= 0:
        return "left out"
    return "kept" if kept >= tokens else "in part"


def sentence_of(metrics: Line, recorded: Line | None) -> str:
    """Return what was done at a step, in a sentence or two."""
    entropy, target = metrics.get("entropy"), metrics.get("target")
    if entropy is None:
        said = "Entropy was not measured at this step"
    elif target is None:
        said = f"Entropy was {entropy:.3f} nats per token, and nothing controlled it"
    else:
        side = "above" if entropy > target else "below"
        said = f"Entropy was {entropy:.3f} nats per token, {abs(entropy - target):.3f} {side} its target"
    share = metrics.get("kept_token_fraction")
    if share is not None:
        said += f"; the update learnt from {share:.0%} of the tokens"
    if recorded is None:
        return f"{said}. No rollouts were recorded of it."
    pairs = zip(recorded["tokens"], recorded["kept_tokens"], strict=True)
    verdicts = [verdict(tokens or 0, kept or 0) for tokens, kept in pairs]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("kept", "in part", "left out"))
    return f"{said}. Of {len(verdicts)} rollouts: {counts}."
