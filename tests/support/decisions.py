"""Batches made by hand, and controllers to decide on them."""

import torch
from hypothesis import strategies as st

import entrocraft as ec
from entrocraft.control.controller import Controller
from entrocraft.control.course import Course
from entrocraft.control.planning.ranking import binned
from entrocraft.engines.decider import Decider
from entrocraft.engines.ranks import OneRank

BAND = ec.Band(ec.constant(0.5), width=0.1)
ABOVE, INSIDE, BELOW = 0.7, 0.5, 0.3
ADVANTAGES = [1.0, 0.0, -1.0, 2.0]
RULES = ("advantage", "reward", "predicted", "aligned", "token", "probabilistic", "budget")

finite = st.floats(-10, 10)
batches = st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=20)


def controlled_by(method, band=None, name="mine"):
    """Return the controller of a method, on a band that is never left unless one is given."""
    return Controller(Course(band or ec.Band(lower=0.0, upper=9.0)), method, name)


def decider_of(*, by_rollout=False, other_terms=False, **control):
    """Return the decider of one process under these settings."""
    settings = ec.EntropyControl(**control)
    return Decider(settings.build(), settings, OneRank(), by_rollout=by_rollout, other_terms=other_terms)


def stats(entropy, advantages=ADVANTAGES, **fields):
    return ec.BatchStats(step=3, total_steps=10, entropy=entropy, advantages=torch.tensor(advantages), **fields)


def decide(entropy, rule="advantage", **fields):
    return ec.RejectionController(BAND, rule=rule).decide(stats(entropy, **fields))


def drawn_stats(rows, entropy, step=1):
    advantages, rewards, change, visitation = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)
    )
    return ec.BatchStats(
        step=step,
        total_steps=10,
        entropy=entropy,
        advantages=advantages,
        rewards=rewards,
        predicted_change=change,
        visitation=visitation,
        reading=binned(change),
        entropy_stderr=0.01,
    )


def build(rule, normalize, fallback, visitation):
    options = {} if rule == "reward" else {"fallback": fallback}
    if options.get("fallback") == "escalate":
        options["entropy_bonus"] = 0.01
    if visitation and rule in ("predicted", "probabilistic", "budget", "token"):
        options["visitation"] = True
    return ec.RejectionController(BAND, rule=rule, normalize=normalize, **options)


def many(entropy, step=1, tokens=None, **fields):
    """Statistics of 100 rollouts whose changes are -50 to 49."""
    change = torch.arange(-50.0, 50.0, dtype=torch.float64)
    return ec.BatchStats(
        step=step,
        total_steps=100,
        entropy=entropy,
        advantages=torch.ones(100),
        predicted_change=change,
        reading=binned(change if tokens is None else tokens),
        entropy_stderr=0.01,
        **fields,
    )
