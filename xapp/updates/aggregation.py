"""The sites' adapters to one, without torch: the second level of hierarchical federated averaging.

Every site has averaged its own users already, each tensor over the users that changed it, weighted by samples
x mean confidence; with the sums of these weights the mean of the sites' means is the mean over all users of
the last round. Sums run in float64 in the order of the sites' names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from codec_runtime.contract.alignment import AlignmentUpdate

Weights = dict[str, npt.NDArray[Any]]


class UpdateRefusedError(ValueError):
    """A site's update cannot be aggregated; the message says which and why."""


def usable(updates: Mapping[str, AlignmentUpdate]) -> tuple[dict[str, Weights], list[str]]:
    """Weights by site, in the order of their names, and ``site: reason`` of what is refused.

    The first site's names, shapes and types are the yardstick: sites began from the same parent.
    """
    found: dict[str, Weights] = {}
    refused = []
    for site in sorted(updates):
        try:
            found[site] = _checked(updates[site], next(iter(found.values()), None))
        except UpdateRefusedError as error:
            refused.append(f"{site}: {error}")
    return found, refused


def aggregate(weights: Mapping[str, Weights], updates: Mapping[str, AlignmentUpdate]) -> bytes:
    """Safetensors of the mean.

    Args:
        weights: from :func:`usable`. updates: say the shares.

    Raises:
        UpdateRefusedError: no site is left, or none has changed anything.
    """
    sites = list(weights)
    if not sites:
        raise UpdateRefusedError("no site's update is usable")
    changed = False
    mean: Weights = {}
    for name, first in weights[sites[0]].items():
        shares = [updates[site].shares.get(name, 0.0) for site in sites]
        if sum(shares) <= 0.0 or first.dtype.kind != "f":
            mean[name] = first  # nobody changed it, or no mean has a meaning for it
            continue
        changed = True
        mean[name] = _weighted([weights[site][name] for site in sites], shares).astype(first.dtype)
    if not changed:
        raise UpdateRefusedError("no site has changed the adapter")
    return save(mean)


def _weighted(values: Sequence[npt.NDArray[Any]], shares: Sequence[float]) -> npt.NDArray[np.float64]:
    total, found = sum(shares), np.zeros(values[0].shape)
    for value, share in zip(values, shares, strict=True):
        if share > 0.0:
            found += share / total * value.astype(np.float64)
    return found


def _checked(update: AlignmentUpdate, reference: Weights | None) -> Weights:
    try:
        weights: Weights = load(update.weights)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UpdateRefusedError(f"no safetensors: {error}") from error
    if not all(math.isfinite(share) and share >= 0.0 for share in update.shares.values()):
        raise UpdateRefusedError("a share is negative or not finite")
    if strange := sorted(set(update.shares) - set(weights)):
        raise UpdateRefusedError(f"shares of unknown tensors: {', '.join(strange[:3])}")
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise UpdateRefusedError(f"tensor {name} holds NaN or infinity")
    if reference is not None:
        stated = {name: (value.shape, value.dtype) for name, value in weights.items()}
        if stated != {name: (value.shape, value.dtype) for name, value in reference.items()}:
            raise UpdateRefusedError("its tensors are not those of the other sites")
    return weights
