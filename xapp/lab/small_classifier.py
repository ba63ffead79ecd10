"""A small classifier for the lab, made in seconds: which of the library's photographs a picture shows.

A ResNet-18 of a quarter of the width with random weights, of which the last layer alone is fitted (ridge
regression on crops): random convolutions are poor features, but telling a few photographs apart is easy.
Nothing is downloaded, and answers differ from picture to picture, so that a wrong tail would be noticed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from codec_runtime.bundle.creation import Created
from codec_runtime.contract.devices import DEVICES, EDGES, class_profile
from codec_runtime.contract.split import CutSpec, SplitGraph, make_cut
from codec_runtime.split.bundles import (
    ClassifierRelease,
    classifier_state,
    publish_classifier,
    release_graph,
)
from codec_runtime.split.classifiers import (
    PICTURE_OFFSET,
    PICTURE_SCALE,
    ResNet18Classifier,
    WideClassifierConfig,
)
from xapp.lab.pictures import Crop, Picture, PictureLibrary
from xapp.split.candidates import candidate_cuts
from xapp.split.plan import coded_problem
from xapp.split.problem import split_problem

NAME = "photographs"
SIZE = 96
WIDTH = 16
_CROPS = 12
_RIDGE = 1e-2
_CUTS_OF = "sensor"


def network_picture(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) -> (3, SIZE, SIZE), uint8."""
    scaled = Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(scaled, dtype=np.uint8).transpose(2, 0, 1))


def publish_small_classifier(library: PictureLibrary, root: Path, seed: int = 1) -> Created:
    """Write ``root/classifier/photographs/1`` with the cuts that are best for some link on a weak device.

    Raises:
        SpecError, BundleError: as :func:`codec_runtime.split.bundles.publish_classifier`.
    """
    network = fitted_network(library, seed)
    config = network.config
    release = ClassifierRelease(
        name=NAME, version=1, architecture="resnet18",
        hyperparameters={"size": config.size, "classes": config.classes, "width": config.width},
        recipe="random convolutions, last layer by ridge regression on crops of the lab's photographs",
        seed=seed,
    )
    state = classifier_state(network)
    traced = release_graph(release, state)
    return publish_classifier(release, state, traced, good_cuts(traced.graph), root)


@torch.no_grad()
def fitted_network(library: PictureLibrary, seed: int) -> ResNet18Classifier:
    """The network, a class for each photograph in the order of ``library.names``."""
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    network = ResNet18Classifier(
        WideClassifierConfig(size=SIZE, classes=max(len(library.names), 2), width=WIDTH)
    ).eval()
    torch.set_rng_state(before)
    random = np.random.default_rng([seed, 404])
    rows, labels = [], []
    for label, name in enumerate(library.names):
        room = np.array(library.shape(name)) - library.size
        for top, left in random.integers(0, room + 1, (_CROPS, 2)):
            rows.append(network_picture(library.crop(Crop(name, int(top), int(left), library.size))))
            labels.append(label)
    pictures = (torch.from_numpy(np.stack(rows)).float() - PICTURE_OFFSET) / PICTURE_SCALE
    features = network.pool(network.blocks(network.stem(pictures))).flatten(1)
    wanted = torch.nn.functional.one_hot(torch.tensor(labels), network.config.classes).float() * 10.0 - 5.0
    centre, scale = features.mean(0), features.std(0) + 1e-6
    unit = (features - centre) / scale
    gram = unit.T @ unit + _RIDGE * len(rows) * torch.eye(unit.shape[1])
    weights = torch.linalg.solve(gram, unit.T @ (wanted - wanted.mean(0)))
    network.classifier.weight.copy_((weights / scale[:, None]).T)
    network.classifier.bias.copy_(wanted.mean(0) - (centre / scale) @ weights)
    return network


def good_cuts(graph: SplitGraph) -> list[CutSpec]:
    """The hull of a weak device's cuts, all on the device, and sending the picture."""
    device, edge = class_profile(graph, DEVICES[_CUTS_OF]), class_profile(graph, EDGES["edge-cpu-32"])
    problem = coded_problem(split_problem(graph, device, edge), 8)
    masks = candidate_cuts(problem).device
    cuts = [problem.cut(mask) for mask in masks]
    return [make_cut(graph, graph.inputs), *cuts]
