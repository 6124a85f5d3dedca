"""How entropy answers to what is kept: a model learnt online, and what to ask of the next updates.

An update does not act at once. The optimizer's momentum spreads it over the next steps, training drifts by
itself, and how much a predicted change really changes is not known beforehand. So one step of the plant is

    E_k = (1 - w) E_{k-1} + w s_k,        H_{k+1} = H_k + b + sum_j g_j E_{k,j}

with `s_k` the effect of what was kept (`Ranking.effect`; one per term j: local, visitation), `E` its average
under the optimizer's memory, `b` the drift and `g` the gains. Entropy is read with a noise, because each
batch asks other prompts. `(H, b, g)` is linear in its past once E is known: a Kalman filter follows it. How fast
these wander is not known either: where readings surprise more than they should, the process noise is scaled up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entrocraft.control.states import check_state
from entrocraft.errors import InvalidValueError

# Multiples of the entropy at the first step, which sets the scale of everything else.
_PRIOR_GAIN, _PRIOR_DRIFT_SD = 0.05, 0.01
_ENTROPY_WALK_SD, _DRIFT_WALK_SD = 0.008, 0.001
_GAIN_WALK_SD = 0.05  # of the prior gain
_LEAST_GAIN = 0.1  # of the prior gain
_UNKNOWN_READING_SD = 0.02
_SIZE_MEMORY = 0.05  # share of the newest batch in the average size of a term
_DIGITS = 16  # natural ones, to which a plan is worked out
_SURPRISE_MEMORY = 0.2  # share of the newest reading in the average surprise


class EntropyPlant:
    """A Kalman filter of entropy, its drift and the gain of each predicted term.

    Args:
        num_terms: Terms of the predicted change, each with a gain of its own.
        momentum: Share of an update's effect that the optimizer carries to the next decision: Adam's beta1, to
            the power of the optimizer steps that follow one decision. In [0, 1).
        horizon: Decisions ahead over which the curve should be met.
        rejection_cost: What a nat of effect by rejection costs, against a nat of distance from the curve; more than 0.

    Raises:
        InvalidValueError: A value is out of range.
    """

    def __init__(self, num_terms: int = 1, momentum: float = 0.9, horizon: int = 12, rejection_cost: float = 0.3):
        if not 0.0 <= momentum < 1.0 or horizon < 1 or num_terms < 1 or not 0.0 < rejection_cost < math.inf:
            raise InvalidValueError(
                "expected 0 <= momentum < 1, horizon >= 1, num_terms >= 1 and rejection_cost > 0, got "
                f"{momentum}, {horizon}, {num_terms}, {rejection_cost}"
            )
        self.momentum, self.horizon, self.rejection_cost = momentum, horizon, rejection_cost
        self._effect = torch.zeros(num_terms, dtype=torch.float64)
        self._sum_of_squares = torch.zeros(num_terms, dtype=torch.float64)
        self._num_scaled = 0
        self._num_updates = 0
        self._scale = 0.0
        self._noise_scale = 1.0
        self._mean: Tensor | None = None
        self._covariance: Tensor | None = None

    @property
    def entropy(self) -> float:
        """The filtered entropy, in nats per token."""
        return float(self._state[0])

    @property
    def drift(self) -> float:
        """What entropy changes by in a step on which nothing predicted happens."""
        return float(self._state[1])

    @property
    def gains(self) -> Tensor:
        """Nats per unit of each term's effect."""
        return self._state[2:]

    @property
    def _state(self) -> Tensor:
        assert self._mean is not None, "observe comes first"
        return self._mean

    def observe(self, entropy: float, standard_error: float | None = None) -> float:
        """Take in a reading of the entropy and return how far off the prediction was, in nats."""
        if self._mean is None or self._covariance is None:
            # The first reading is all that is known of H; drift and gains begin at what they usually are, in its
            # multiples.
            self._scale = max(entropy, 1e-3)
            sd = self._reading_sd(standard_error)
            self._mean = torch.zeros(2 + len(self._effect), dtype=torch.float64)
            self._mean[0], self._mean[2:] = entropy, _PRIOR_GAIN * self._scale
            sds = [sd, _PRIOR_DRIFT_SD * self._scale] + [_PRIOR_GAIN * self._scale] * len(self._effect)
            self._covariance = torch.tensor(sds, dtype=torch.float64).square().diag()
            return 0.0
        # Both in nats^2: what the reading is off by, and what the prediction of it is.
        noise = self._reading_sd(standard_error) ** 2
        surprise = entropy - float(self._mean[0])
        variance = float(self._covariance[0, 0])
        # Squared surprise over its expected variance: 1 on average, if the process noise is what it is supposed to be.
        self._noise_scale += _SURPRISE_MEMORY * (surprise**2 / (variance + noise) - self._noise_scale)
        # Only H is read, so the Kalman gain is its column of the covariance over the variance of the surprise.
        gain = self._covariance[:, 0] / (variance + noise)
        self._mean = self._mean + gain * surprise
        # The sign of a prediction is theory's; only its size is to be learnt.
        self._mean[2:].clamp_(min=_LEAST_GAIN * _PRIOR_GAIN * self._scale)
        # (I - K h) P, where h picks H.
        self._covariance = self._covariance - torch.outer(gain, self._covariance[0])
        return surprise

    def _reading_sd(self, standard_error: float | None) -> float:
        return _UNKNOWN_READING_SD * self._scale if standard_error is None else max(standard_error, 1e-6)

    @property
    def _weight(self) -> float:
        """The share of the next update in `E`, corrected for the first steps as Adam does."""
        return (1 - self.momentum) / (1 - self.momentum ** (self._num_updates + 1))

    def unit(self, sizes_J: Tensor) -> Tensor:
        """Return what each term is to be divided by, so that gains need no tuning to the model.

        It is the root of a slow average of the terms' sums of squares over the batch, so that the effect
        (`Ranking.effect`) of changes that all push alike is about 1, however many there are.

        Args:
            sizes_J: `Ranking.size` of each term in this batch.
        """
        if sizes_J.any():
            self._num_scaled += 1
            share = max(1 / self._num_scaled, _SIZE_MEMORY)
            self._sum_of_squares += share * (sizes_J.double().square() - self._sum_of_squares)
        return self._sum_of_squares.sqrt().clamp(min=torch.finfo(torch.float32).tiny)

    def plan(self, targets: Sequence[float], free: float, low: float, high: float, slack: float = 0.0) -> float:
        """Return the effect to ask of the next update, in nats per step.

        Model predictive control: of all plans `u_1 ... u_n` within reach, the one that keeps entropy closest to the
        targets ahead at the least rejection, of which only the first step is ever made:

            minimise    sum_j max(0, |H_j - target_j| - slack)^2 + r sum_j (u_j - free)^2
            subject to  low <= u_j <= high,
                        H_j = H + j b + sum_{i<=j} (1-w)^i g.E + sum_{m<=j} (1 - (1-w)^(j-m+1)) u_m

        Args:
            targets: Target entropies of the next decisions, in nats; as many as `horizon`.
            free: The effect of keeping everything.
            low: The lowest effect within reach.
            high: The highest.
            slack: Distance from a target, in nats, that is as good as none. Without any, half of all rejections would
                answer noise, and undo each other.
        """
        n, w = len(targets), self._weight
        ahead = torch.arange(1, n + 1, dtype=torch.float64)
        # What past updates have under way fades by 1 - w at each decision; nats, summed over the decisions ahead.
        carried = float(self.gains @ self._effect) * ((1 - w) ** ahead).cumsum(0)
        drifted = self.entropy + self.drift * ahead + carried
        # After k updates, its own counted, the share 1 - (1 - w)^k of an effect u_m has arrived.
        response = 1 - (1 - w) ** (ahead[:, None] - ahead[None, :] + 1).clamp(min=0)  # 0 for steps yet to come
        # Nesterov's projected gradient: the cost is convex, no steeper than `steepest`, no flatter than `r`.
        steepest = float(torch.linalg.matrix_norm(response, 2)) ** 2 + self.rejection_cost
        ratio = (self.rejection_cost / steepest) ** 0.5
        onward = (1 - ratio) / (1 + ratio)
        # In NumPy, because there are hundreds of passes: on so few numbers a call of torch takes several times as long.
        arrived, unforced = response.numpy(), drifted.numpy()
        least, most = np.array(targets) - slack, np.array(targets) + slack
        plan = look = np.full(n, min(max(free, low), high))
        # Each pass leaves at most 1 - ratio of what the cost has above its least, so these leave e^-_DIGITS of it.
        for _ in range(math.ceil(_DIGITS / ratio)):
            planned = unforced + arrived @ look
            excess = planned - np.minimum(np.maximum(planned, least), most)
            # Half the gradient of the cost: inside the slack only the price of rejecting is felt.
            slope = excess @ arrived + self.rejection_cost * (look - free)
            before, plan = plan, np.minimum(np.maximum(look - slope / steepest, low), high)
            look = plan + onward * (plan - before)
        return float(plan[0])

    def advance(self, applied: Tensor) -> None:
        """Move one update on; `applied` is the effect of what was kept, per term, in its unit."""
        assert self._covariance is not None, "observe comes first"
        w = self._weight
        # E_k of the module: the first moment of the optimizer, applied to effects.
        self._effect = (1 - w) * self._effect + w * applied
        self._num_updates += 1
        size = len(self._state)
        transition = torch.eye(size, dtype=torch.float64)
        # H gains b + g.E in nats; b and g stay what they are, but for what the walk below adds.
        transition[0, 1], transition[0, 2:] = 1.0, self._effect
        sds = [_ENTROPY_WALK_SD, _DRIFT_WALK_SD] + [_GAIN_WALK_SD * _PRIOR_GAIN] * len(self._effect)
        # Never below the usual process noise: a calm stretch must not make the filter deaf.
        pace = self._scale * max(1.0, self._noise_scale)
        walk = (torch.tensor(sds, dtype=torch.float64) * pace).square().diag()
        self._mean = transition @ self._state
        self._covariance = transition @ self._covariance @ transition.T + walk

    def metrics(self) -> dict[str, float]:
        """Return the filtered entropy, its drift, the gains and effects, and the surprise at readings, for logging."""
        gains = {f"gain_{j}": gain for j, gain in enumerate(self.gains.tolist())}
        effects = {f"effect_{j}": effect for j, effect in enumerate(self._effect.tolist())}
        return {
            "filtered_entropy": self.entropy,
            "drift": self.drift,
            "process_noise_scale": self._noise_scale,
            **gains,
            **effects,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON data."""
        return {
            "effect": self._effect.tolist(),
            "sum_of_squares": self._sum_of_squares.tolist(),
            "num_scaled": self._num_scaled,
            "num_updates": self._num_updates,
            "scale": self._scale,
            "process_noise_scale": self._noise_scale,
            "mean": None if self._mean is None else self._mean.tolist(),
            "covariance": None if self._covariance is None else self._covariance.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_state("state of the plant", state, self.state_dict())
        if len(state["effect"]) != len(self._effect):
            raise InvalidValueError(
                f"state of the plant: expected {len(self._effect)} terms, got {state['effect']!r}; it was saved "
                "under another `visitation`"
            )
        self._effect = torch.tensor(state["effect"], dtype=torch.float64)
        self._sum_of_squares = torch.tensor(state["sum_of_squares"], dtype=torch.float64)
        self._num_updates, self._num_scaled = state["num_updates"], state["num_scaled"]
        self._scale, self._noise_scale = state["scale"], state["process_noise_scale"]
        for name in ("mean", "covariance"):
            value = state[name]
            setattr(self, f"_{name}", None if value is None else torch.tensor(value, dtype=torch.float64))
