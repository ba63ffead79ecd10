"""Releases of the classifiers of this package: architecture, weights and cuts, ready to publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.bundle.checks import build_blank
from codec_runtime.bundle.creation import read_source
from codec_runtime.bundle.errors import SpecError
from codec_runtime.codecs.registry import configure
from codec_runtime.contract.split import CutSpec, SplitGraph
from codec_runtime.split.bottleneck import cut_after
from codec_runtime.split.bundles import PLACES, ClassifierRelease, classifier_state
from codec_runtime.split.classifiers import CLASSIFIERS
from codec_runtime.split.networks.efficientnet import efficientnet_lite0

PUBLISHED_WEIGHTS = "efficientnet-lite0"


def network_release(
    architecture: str,
    name: str,
    version: int,
    hyperparameters: Mapping[str, int],
    weights: Path | None,
    recipe: str = "",
    seed: int = 0,
) -> tuple[ClassifierRelease, dict[str, Tensor]]:
    """What to publish, and its weights.

    Args:
        hyperparameters: of the architecture; what is left out has its default.
        weights: safetensors file; None: the published weights of EfficientNet-Lite0, of others random ones, a
            function of ``seed``, for trials.

    Raises:
        SpecError: no such architecture. BundleError, WeightsUnavailableError: see there.
    """
    if architecture not in CLASSIFIERS:
        raise SpecError(f"no classifier architecture {architecture!r}; there are {', '.join(CLASSIFIERS)}")
    try:
        config = configure(architecture, hyperparameters).as_dict()
    except ValueError as error:
        raise SpecError(f"{architecture}: {error}") from error
    given = {key: value for key, value in config.items() if key not in PLACES}
    if weights is not None:
        state, told = read_source(weights), recipe or f"weights of {weights.name}"
    elif architecture == PUBLISHED_WEIGHTS:
        state, told = classifier_state(efficientnet_lite0()), recipe or "published ImageNet weights"
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = CLASSIFIERS[architecture](configure(architecture, given))
        state, told = classifier_state(network), recipe or f"random weights, seed {seed}"
    blank = build_blank("classifier", architecture, given, Path(name)).state_dict()
    counters = {key: torch.zeros(v.shape) for key, v in blank.items() if not v.is_floating_point()}
    release = ClassifierRelease(
        name=name, version=version, architecture=architecture, hyperparameters=given, recipe=told, seed=seed
    )
    return release, {**counters, **state}


def cuts_behind(graph: SplitGraph, modules: Sequence[str]) -> list[CutSpec]:
    """The cuts behind modules of a network, e.g. ``_blocks.4``.

    Raises:
        CutError: no such module, or several tensors would cross.
    """
    return [cut_after(graph, module) for module in modules]
