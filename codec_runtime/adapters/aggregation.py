"""Rules that make one adapter of the users' adapters; pure functions of tensors by name.

========================  ==========================================================  =====================
rule                      result                                                      bears f malicious of n
========================  ==========================================================  =====================
``fedavg``                mean weighted by samples x mean confidence                  none
``q-fair``                as q-FFL: users that fare badly weigh more                  none
``trimmed-mean``          per value, mean without the f highest and f lowest          n > 2f
``median``                per value                                                   n > 2f
``krum``                  the one update nearest to its n - f - 2 nearest             n >= 2f + 3
``multi-krum``            mean of the n - f updates that Krum ranks best              n >= 2f + 3
========================  ==========================================================  =====================

Sources: FedAvg McMahan et al. 2017; q-FFL Li et al. 2020 (algorithm 2); median and trimmed mean Yin et al.
2018; Krum and multi-Krum Blanchard et al. 2017. Sums run in float64 in the order of the contributions, so
that equal contributions in an equal order give equal bits. Tensors that are not floating point (counters)
stay the reference's: no rule has a meaning for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import torch
from torch import Tensor

Weights = dict[str, Tensor]
"""An adapter's tensors by name."""

RuleName = Literal["fedavg", "q-fair", "trimmed-mean", "median", "krum", "multi-krum"]


class TooFewUpdatesError(ValueError):
    """The rule's guarantee does not hold for so few updates; the message says how many it takes."""


@dataclass(frozen=True)
class Contribution:
    """What one user brings to an aggregation.

    Attributes:
        client: its name.
        weights: checked by :func:`update_problems`.
        share: weight in a weighted mean, > 0; samples x mean confidence.
        loss: the user's loss under the weights that it started from, >= 0; for q-fair weighting.
    """

    client: str
    weights: Weights
    share: float
    loss: float = 0.0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Choice of a rule.

    Attributes:
        name: see the module's table.
        malicious: f, number of malicious users to bear; for the last four.
        q: of q-fair: 0 is the plain mean, the larger the nearer to caring for the worst user alone.
        lipschitz: of q-fair: estimate of the loss's Lipschitz constant, 1 / learning rate; > 0.
        holders: of fedavg: a tensor is averaged over the users that changed it. Users of other encoders
            send a projection back as it came, which would only hold it back.
    """

    name: RuleName = "fedavg"
    malicious: int = 0
    q: float = 1.0
    lipschitz: float = 1.0
    holders: bool = False

    def __post_init__(self) -> None:
        if self.name not in get_args(RuleName):
            raise ValueError(
                f"unknown aggregation rule {self.name!r}; known are {', '.join(get_args(RuleName))}"
            )
        if self.malicious < 0 or not self.q >= 0 or not self.lipschitz > 0:
            raise ValueError("an aggregation rule needs malicious >= 0, q >= 0 and lipschitz > 0")
        if self.holders and self.name != "fedavg":
            raise ValueError(f"only fedavg averages over holders, not {self.name}")

    @property
    def minimum(self) -> int:
        """Updates that the rule takes at least."""
        if self.name in ("krum", "multi-krum"):
            return 2 * self.malicious + 3
        return 2 * self.malicious + 1 if self.name in ("trimmed-mean", "median") else 1

    @property
    def weighted(self) -> bool:
        """Whether the shares matter, so that a late update can count for less."""
        return self.name == "fedavg"


def update_problems(weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> list[str]:
    """Why an update cannot be aggregated; empty where it can.

    Args:
        reference: the global weights; an update has the same names, shapes and dtypes, all values finite.
    """
    missing, extra = sorted(reference.keys() - weights.keys()), sorted(weights.keys() - reference.keys())
    found = [f"tensor {name} is missing" for name in missing] + [
        f"tensor {name} is unknown" for name in extra
    ]
    for name in sorted(reference.keys() & weights.keys()):
        got, wanted = weights[name], reference[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            found.append(
                f"tensor {name} is {tuple(got.shape)} {got.dtype}, not {tuple(wanted.shape)} {wanted.dtype}"
            )
        elif not bool(torch.isfinite(got).all()):
            found.append(f"tensor {name} holds NaN or infinity")
    return found


def aggregate(rule: Rule, reference: Weights, contributions: Sequence[Contribution]) -> Weights:
    """New global weights.

    Args:
        reference: the global weights that the users started from.
        contributions: in a fixed order (by name), each without :func:`update_problems`.

    Raises:
        TooFewUpdatesError: fewer than ``rule.minimum``.
    """
    if len(contributions) < rule.minimum:
        raise TooFewUpdatesError(
            f"{rule.name} against {rule.malicious} malicious users takes at least {rule.minimum} updates, "
            f"got {len(contributions)}"
        )
    updates = [contribution.weights for contribution in contributions]
    match rule.name:
        case "fedavg":
            mean = holders_mean if rule.holders else weighted_mean
            return mean(reference, updates, [contribution.share for contribution in contributions])
        case "q-fair":
            losses = [contribution.loss for contribution in contributions]
            return q_fair(reference, updates, losses, rule.q, rule.lipschitz)
        case "trimmed-mean":
            return trimmed_mean(reference, updates, rule.malicious)
        case "median":
            return median(reference, updates)
        case "krum":
            return weighted_mean(reference, [updates[krum_ranking(updates, rule.malicious)[0]]], [1.0])
        case "multi-krum":
            chosen = sorted(krum_ranking(updates, rule.malicious)[: len(updates) - rule.malicious])
            return weighted_mean(reference, [updates[index] for index in chosen], [1.0] * len(chosen))


def weighted_mean(reference: Weights, updates: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """sum_k share_k w_k / sum_k share_k.

    Raises:
        ValueError: the shares are not positive and finite, or not as many as the updates.
    """
    if len(shares) != len(updates) or not all(0.0 < share < float("inf") for share in shares):
        raise ValueError(f"{len(updates)} updates need as many positive, finite shares, got {list(shares)}")
    total = sum(shares)

    def mean(values: Tensor) -> Tensor:
        parts = torch.tensor([share / total for share in shares], dtype=torch.float64)
        return (parts.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(dim=0)

    return _per_tensor(reference, updates, mean)


def holders_mean(reference: Weights, updates: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """As :func:`weighted_mean`, of each tensor over the updates that changed it; else it stays."""
    found: Weights = {}
    for name, before in reference.items():
        moved = [index for index, update in enumerate(updates) if not torch.equal(update[name], before)]
        own = weighted_mean(
            {name: before}, [{name: updates[index][name]} for index in moved], [shares[i] for i in moved]
        ) if moved else {name: before.clone()}
        found |= own
    return found


def trimmed_mean(reference: Weights, updates: Sequence[Weights], trim: int) -> Weights:
    """Of every value the mean without the ``trim`` highest and as many lowest; needs n > 2 trim."""

    def mean(values: Tensor) -> Tensor:
        return values.sort(dim=0).values[trim : len(values) - trim].mean(dim=0)

    return _per_tensor(reference, updates, mean)


def median(reference: Weights, updates: Sequence[Weights]) -> Weights:
    """Of every value the median; of an even number the mean of the two in the middle."""

    def middle(values: Tensor) -> Tensor:
        ordered, half = values.sort(dim=0).values, len(values) // 2
        return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2.0

    return _per_tensor(reference, updates, middle)


def krum_ranking(updates: Sequence[Weights], malicious: int) -> list[int]:
    """Indices of the updates, best first: by the sum of squared distances to the n - f - 2 nearest others.

    Raises:
        TooFewUpdatesError: n < 2 f + 3.
    """
    count = len(updates)
    if count < 2 * malicious + 3:
        raise TooFewUpdatesError(
            f"Krum against {malicious} malicious users takes at least {2 * malicious + 3} updates, "
            f"got {count}"
        )
    flat = torch.stack([flattened(update) for update in updates])
    distances = torch.stack([((flat - row) ** 2).sum(dim=1) for row in flat])
    others = distances.sort(dim=1).values[:, 1 : count - malicious - 1]
    scores = others.sum(dim=1)
    return [int(index) for index in torch.sort(scores, stable=True).indices]


def q_fair(
    reference: Weights, updates: Sequence[Weights], losses: Sequence[float], q: float, lipschitz: float
) -> Weights:
    """q-FedAvg: w - sum_k F_k^q D_k / sum_k h_k, D_k = L (w - w_k), h_k = q F_k^(q-1) |D_k|^2 + L F_k^q.

    Args:
        losses: F_k of each user under the reference, finite, >= 0; a loss of nearly 0 counts as 1e-10.

    Raises:
        ValueError: a loss is negative or not finite.
    """
    if not all(0.0 <= loss < float("inf") for loss in losses):
        raise ValueError(f"q-fair weighting needs finite losses >= 0, got {list(losses)}")
    steps = [lipschitz * (flattened(reference) - flattened(update)) for update in updates]
    floored = [max(loss, 1e-10) for loss in losses]
    scales = [loss**q for loss in floored]
    curvatures = [
        q * loss ** (q - 1.0) * float((step**2).sum()) + lipschitz * scale
        for loss, scale, step in zip(floored, scales, steps, strict=True)
    ]
    step = torch.tensordot(torch.tensor(scales, dtype=torch.float64), torch.stack(steps), 1) / sum(curvatures)
    return unflattened(flattened(reference) - step, reference)


def flattened(weights: Mapping[str, Tensor]) -> Tensor:
    """(P,) float64: all floating point values, tensors in the order of their names."""
    parts = [
        weights[name].detach().double().reshape(-1) for name in sorted(weights) if _averaged(weights[name])
    ]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)


def unflattened(vector: Tensor, reference: Weights) -> Weights:
    """Inverse of :func:`flattened`; what is not floating point is the reference's."""
    result, position = dict(reference), 0
    for name in sorted(reference):
        if _averaged(tensor := reference[name]):
            result[name] = vector[position : position + tensor.numel()].reshape(tensor.shape).to(tensor.dtype)
            position += tensor.numel()
    return result


def _averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _per_tensor(reference: Weights, updates: Sequence[Weights], rule: Callable[[Tensor], Tensor]) -> Weights:
    """``rule`` maps the (n, ...) float64 values of a tensor to one of its shape."""
    return {
        name: rule(torch.stack([update[name].detach().double() for update in updates])).to(tensor.dtype)
        if _averaged(tensor)
        else tensor
        for name, tensor in reference.items()
    }
