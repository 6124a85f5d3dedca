"""Which way a policy-gradient step moves entropy, to first order.

Shapes: B rollouts, T tokens, V vocabulary, N tokens of a chunk, K likeliest tokens.

Take the logits z of one next-token distribution p as free variables, and one step of size eta on a
sampled token y with advantage A: `dz = eta * A * (e_y - p)`. Since `dH/dz_i = -p_i (log p_i + H)`,

    dH = -eta * A * S,    S = X_y - E_{i~p}[X_i],    X_i = p_i (log p_i + H).

`S`, the *entropy sensitivity* of the token, is positive for a confident token, one whose log-probability lies
above its output-space baseline, where reinforcing lowers entropy and punishing raises it: Theorem 1 and Eq. 4
of the paper (arXiv 2604.26326). Where it is negative, a rare token, the sign turns, which a method that looks at
A alone cannot see.

That is the *local* change, at the contexts that were visited. The entropy of a policy is a mean over the
contexts that it visits, and those change too: `visitation`.

    moments       what every exact quantity needs of the vocabulary, in one pass
    sensitivity   S, and a rollout's local change
    conditions    when the sign of the advantage is the sign of the change: Theorems 1 and 2
    visitation    the change that comes from visiting other contexts
    estimates     S, the self-kernel and rarity without the vocabulary, from log-probability and entropy
    topk          the same from the k largest log-probabilities, more closely
    quadrants     which signs and which tokens an update's change comes from
    whole_model   the change of a model whose rollouts share parameters, by its gradient
"""

from entrocraft.dynamics.conditions import output_space_baseline, sequence_condition, token_condition
from entrocraft.dynamics.estimates import estimated_entropy_sensitivity, estimated_self_kernel, token_rarity
from entrocraft.dynamics.quadrants import QUADRANTS, Quadrant, Quadrants, quadrants
from entrocraft.dynamics.sensitivity import entropy_sensitivity, predicted_entropy_change, rollout_entropy_change
from entrocraft.dynamics.topk import topk_entropy_sensitivity, topk_self_kernel
from entrocraft.dynamics.visitation import (
    self_kernel,
    self_kernel_from_collision,
    visitation_entropy_change,
    visitation_rise,
)

__all__ = [
    "QUADRANTS",
    "Quadrant",
    "Quadrants",
    "entropy_sensitivity",
    "estimated_entropy_sensitivity",
    "estimated_self_kernel",
    "output_space_baseline",
    "predicted_entropy_change",
    "quadrants",
    "rollout_entropy_change",
    "self_kernel",
    "self_kernel_from_collision",
    "sequence_condition",
    "token_condition",
    "token_rarity",
    "topk_entropy_sensitivity",
    "topk_self_kernel",
    "visitation_entropy_change",
    "visitation_rise",
]
