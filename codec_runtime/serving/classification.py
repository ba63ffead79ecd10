"""The model ``classify_tail``: features of a published cut -> classes.

A request names network, version and cut, and its stream names weights and cut once more: features can only
meet the tail that they were made for, whatever moved while they were under way. A version that has been
followed by another serves on for a grace time (:func:`retired_classifiers`), so both ends may move at their
own pace.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import SplitDirective
from codec_runtime.digital.errors import BitstreamError, WrongModelError
from codec_runtime.serving.batching import OtherWork
from codec_runtime.serving.codec_models import Result, integer_parameter, text_parameter
from codec_runtime.serving.open_inference import InferRequest, Parameter, ProtocolError, take_input
from codec_runtime.serving.registry import LoadedClassifier, Models, UnknownModelError
from codec_runtime.split.coders import Arrived
from codec_runtime.split.parts import CutParts

CLASSIFY_TAIL = "classify_tail"
DEFAULT_TOP = 5
_LONG_STREAM_BYTES = 1 << 13
"""Streams beyond this are checked in a thread, so that the event loop stays free."""

Array = npt.NDArray[Any]


class UnknownCutError(UnknownModelError):
    """The cut is not published, or leaves nothing to the site (HTTP 404)."""


class WrongFeaturesError(ValueError):
    """The stream is of other weights or another cut than the request says (HTTP 409)."""


class AlteredStreamError(ProtocolError):
    """The stream cannot be read (HTTP 400); ``reason`` is the class of what is wrong with it."""

    def __init__(self, cause: BitstreamError) -> None:
        super().__init__(f"input 'features': {type(cause).__name__}: {cause}")
        self.reason = type(cause).__name__


def classifier_of(models: Models, network: str, version: int | None) -> LoadedClassifier:
    """The classifier of that name and version, the newest if None; "" is the name where there is one alone.

    Raises:
        UnknownModelError: the message lists what is loaded.
    """
    names = sorted({name for name, _ in models.classifiers})
    if not network and len(names) == 1:
        network = names[0]
    versions = sorted(v for name, v in models.classifiers if name == network)
    if not versions:
        raise UnknownModelError(f"unknown classifier {network!r}; loaded are {names or 'none'}")
    wanted = versions[-1] if version is None else version
    if wanted not in versions:
        raise UnknownModelError(
            f"unknown version {wanted} of classifier {network}; loaded are {versions}"
        )
    return models.classifiers[network, wanted]


async def run_classify(
    request: InferRequest,
    models: Models,
    version: int | None,
    directive: SplitDirective | None,
    compute: Callable[[OtherWork], Awaitable[Array]],
) -> Result:
    """Classes of one picture.

    Args:
        version: from the URL, None for the parameter's.
        directive: of the user, told with the answer.
        compute: where the tail runs.

    Raises:
        ProtocolError (with AlteredStreamError), UnknownModelError (with UnknownCutError),
        WrongFeaturesError, and what ``compute`` raises.
    """
    started = time.perf_counter()
    wanted = version if version is not None else integer_parameter(request, "version", None)
    classifier = classifier_of(models, text_parameter(request, "network", ""), wanted)
    parts = _cut_of(classifier, text_parameter(request, "cut", ""))
    arrived = await _arrived(request, parts)
    top = integer_parameter(request, "top", DEFAULT_TOP)
    assert top is not None
    logits = await compute(OtherWork(
        partial(_tail, parts, arrived.tensors), pixels=classifier.pixels, key=(CLASSIFY_TAIL, id(parts))
    ))
    if not 1 <= top <= logits.size:
        raise ProtocolError(f"parameter 'top': want 1..{logits.size}, got {top}")
    published = parts.published
    told: dict[str, Parameter] = {
        "network": published.network, "version": published.version, "cut": published.cut,
        "edge_ms": 1e3 * (time.perf_counter() - started), "stream": arrived.form,
    }
    if directive is not None:
        told.update(
            next_network=directive.network, next_version=directive.version, next_cut=directive.cut
        )
    classes, scores = _best(logits, top)
    return Result(
        {"classes": classes, "scores": scores, "logits": logits}, told, str(published.version)
    )


def retired_classifiers(
    models: Models,
    arriving: Iterable[BundleManifest],
    in_force: Collection[tuple[str, int]],
    most: int,
    superseded_before_s: float,
) -> set[Path]:
    """Directories of the oldest versions beyond ``most`` of a network that gets a new one.

    Args:
        arriving: manifests of new bundles.
        in_force: (network, version) that users are told to use: they stay.
        superseded_before_s: a version whose successor was loaded later (``LoadedClassifier.loaded_s``) stays.
    """
    retired: set[Path] = set()
    for name in {manifest.name for manifest in arriving if manifest.kind == "classifier"}:
        versions = {v: bundle for (n, v), bundle in sorted(models.classifiers.items()) if n == name}
        followed = {
            v: min((other.loaded_s for w, other in versions.items() if w > v), default=float("inf"))
            for v in versions
        }
        spare = [
            bundle.directory for v, bundle in versions.items()
            if (name, v) not in in_force and followed[v] <= superseded_before_s
        ]
        retired.update(spare[: max(0, len(versions) + 1 - most)])
    return retired


def _cut_of(classifier: LoadedClassifier, cut: str) -> CutParts:
    named = f"classifier {classifier.manifest.name} version {classifier.manifest.version}"
    parts = classifier.cuts.get(cut)
    if parts is None:
        raise UnknownCutError(
            f"cut {cut[:32]!r} of {named} is not published; published are {', '.join(classifier.cuts)}"
        )
    if parts.on_device:
        raise UnknownCutError(f"cut {cut} of {named} leaves nothing to the site: the device has the answer")
    return parts


async def _arrived(request: InferRequest, parts: CutParts) -> Arrived:
    stream = take_input(request, "features", "UINT8")
    if stream is None or stream.ndim != 1:
        raise ProtocolError("input 'features': the stream as UINT8 of shape [N] is needed")
    decode = partial(parts.coder.decode, stream.tobytes())
    try:
        if stream.size > _LONG_STREAM_BYTES or parts.published.cap_bytes:  # entropy decoding takes longer
            return await asyncio.to_thread(decode)
        return decode()
    except WrongModelError as cause:
        raise WrongFeaturesError(f"input 'features': {cause}") from cause
    except BitstreamError as cause:
        raise AlteredStreamError(cause) from cause


def _tail(parts: CutParts, features: Sequence[Array]) -> Array:
    """(classes,) logits. Pictures of a batch go one after another: together they gain nothing on one thread,
    and so an answer does not depend on its neighbours."""
    with torch.inference_mode():
        (logits,) = parts.tail(*map(torch.from_numpy, features))
    values: Array = logits.reshape(-1).numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError("the tail gives logits that are not finite")
    return values


def _best(logits: Array, top: int) -> tuple[Array, Array]:
    """Classes by falling logit (ties: the lower class) and their softmax."""
    order = np.argsort(-logits, kind="stable")[:top]
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return order.astype(np.int32), (shares[order] / shares.sum()).astype(np.float32)
