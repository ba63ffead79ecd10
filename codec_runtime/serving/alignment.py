"""The model ``align`` of the Open Inference Protocol: modality tokens in, tokens on the knowledge base out.

Which adapter and knowledge base answer a request (:func:`choose_adapter`):

1. A version that the request names, or else the one assigned to its user, the versions that one was
   fine-tuned from, the base versions and the others, newest first; only adapters that know the encoder.
2. Of those the first whose knowledge base the device holds (parameter ``skb_versions``; a device that names
   none is taken to hold every one). Where that is not the first of all, the answer says ``fallback``, and it
   is counted: device and site then meet at another knowledge base.
3. None: :class:`KnowledgeMismatchError`, which names what either side holds (HTTP 409).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from codec_runtime.adapters.adapter import GraphAdapter
from codec_runtime.adapters.adapter_bundle import NAME
from codec_runtime.adapters.skb import KnowledgeBaseModule
from codec_runtime.serving.alignment_compute import AlignWork, Array
from codec_runtime.serving.codec_models import integer_parameter, text_parameter
from codec_runtime.serving.open_inference import (
    InferRequest,
    Parameter,
    ProtocolError,
    check_outputs,
    take_input,
)
from codec_runtime.serving.registry import LoadedBundle, Models, UnknownModelError

ALIGN: Final = "align"
MODALITIES: Final = ("image", "text", "series")


class KnowledgeMismatchError(LookupError):
    """Device and site hold no version of the knowledge base in common; the message lists both."""


@dataclass(frozen=True)
class Choice:
    """Attributes: fallback: the device does not hold the knowledge base of the version it should have had."""

    adapter: LoadedBundle
    knowledge: LoadedBundle
    fallback: bool


@dataclass(frozen=True)
class AlignAnswer:
    """What was computed, for the answer and for what is learned from it.

    Attributes:
        told: (B,) of :func:`codec_runtime.serving.alignment_compute.aligned_dtype`.
        items: (B,) int64, or None.
    """

    work: AlignWork
    choice: Choice
    told: Array
    items: Array | None

    def outputs(self) -> dict[str, Array]:
        """``aligned`` (B, T, d) and ``confidence`` (B,)."""
        return {
            "aligned": np.ascontiguousarray(self.told["tokens"]),
            "confidence": np.ascontiguousarray(self.told["confidence"]),
        }

    def parameters(self) -> dict[str, Parameter]:
        """Versions that computed it."""
        adapter, knowledge = self.choice.adapter.manifest, self.choice.knowledge.manifest
        return {
            "encoder": self.work.encoder, "adapter": adapter.name, "adapter_version": adapter.version,
            "skb_version": knowledge.version, "skb_sha256": knowledge.weights_sha256,
            "fallback": self.choice.fallback,
        }


async def run_align(
    request: InferRequest,
    models: Models,
    assigned: Callable[[str], int | None],
    batch: int,
    version: int | None,
    compute: Callable[[AlignWork], Awaitable[Array]],
) -> AlignAnswer:
    """Align samples.

    Args:
        assigned: the user's version of an adapter by its name.
        batch: samples of a request at most.
        version: of the adapter, from the URL; None for the parameter's.
        compute: where the samples go.

    Raises:
        ProtocolError, InferenceInputError, UnknownModelError, and what ``compute`` raises.
        KnowledgeMismatchError: see the module.
    """
    check_outputs(request, ("aligned", "confidence"))
    tokens = take_input(request, "tokens", "FP32")
    if tokens is None or tokens.ndim != 3 or not 1 <= tokens.shape[0] <= batch:
        got = "none" if tokens is None else str(list(tokens.shape))
        raise ProtocolError(f"input 'tokens' (FP32): shape [1..{batch}, T, F] is needed, got {got}")
    lengths = take_input(request, "lengths", "INT32")
    if lengths is None:
        lengths = np.full(tokens.shape[0], tokens.shape[1], np.int32)
    items = take_input(request, "item", "INT64")
    if items is not None and items.shape != tokens.shape[:1]:
        raise ProtocolError(f"input 'item': a number a sample is needed, got {list(items.shape)}")
    encoder, modality = text_parameter(request, "encoder", ""), text_parameter(request, "modality", "image")
    if modality not in MODALITIES:
        raise ProtocolError(f"parameter 'modality': one of {', '.join(MODALITIES)}, got {modality[:40]!r}")
    name = text_parameter(request, "adapter", NAME)
    wanted = version if version is not None else integer_parameter(request, "adapter_version", None)
    choice = choose_adapter(
        models, encoder, name=name, wanted=wanted, assigned=assigned(name), held=_held(request)
    )
    work = AlignWork(
        cast(GraphAdapter, choice.adapter.module), cast(KnowledgeBaseModule, choice.knowledge.module),
        encoder, modality, tokens, lengths,
    )
    work.check()
    return AlignAnswer(work, choice, await compute(work), items)


def choose_adapter(
    models: Models,
    encoder: str,
    *,
    name: str = NAME,
    wanted: int | None = None,
    assigned: int | None = None,
    held: Collection[int] | None = None,
) -> Choice:
    """See the module.

    Args:
        wanted: version that the request names; assigned: its user's.
        held: versions of the knowledge base that the device holds; None: whichever.

    Raises:
        UnknownModelError: the version named is not loaded, or no adapter knows the encoder.
        KnowledgeMismatchError.
    """
    if wanted is not None:
        candidates = [models.adapter(name, wanted)]
    else:
        versions = {v: bundle for (n, v), bundle in models.adapters.items() if n == name}
        order = list(_lineage(versions, assigned))
        order += sorted((v for v in versions if versions[v].manifest.parent is None), reverse=True)
        order += sorted(versions, reverse=True)
        candidates = [versions[v] for v in dict.fromkeys(order) if encoder in _encoders(versions[v])]
    if not candidates:
        known = sorted({e for (n, _), b in models.adapters.items() if n == name for e in _encoders(b)})
        raise UnknownModelError(
            f"no adapter {name!r} for encoder {encoder[:64]!r} is loaded; "
            f"known encoders are {', '.join(known) or 'none'}"
        )
    for place, bundle in enumerate(candidates):
        knowledge = models.knowledge_of(bundle)
        if held is None or knowledge.manifest.version in held:
            return Choice(bundle, knowledge, place > 0)
    here = sorted({models.knowledge_of(bundle).manifest.version for bundle in candidates})
    raise KnowledgeMismatchError(
        f"the device holds knowledge base {sorted(held or ())}, adapters of this site for {encoder} are "
        f"aligned to {here}: fetch one of these"
    )


def _lineage(versions: dict[int, LoadedBundle], version: int | None) -> list[int]:
    """A version, what it was fine-tuned from, and so on; only versions that are loaded."""
    found = []
    while version in versions:
        found.append(version)
        version = versions[version].manifest.parent  # below it: a manifest with another is refused
    return found


def _encoders(bundle: LoadedBundle) -> Collection[str]:
    return cast(GraphAdapter, bundle.module).config.features


def _held(request: InferRequest) -> frozenset[int] | None:
    text = text_parameter(request, "skb_versions", "")
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise ProtocolError(f"parameter 'skb_versions': versions with commas between, got {text[:80]!r}")
    return frozenset(map(int, parts))
