"""Classifiers that bundles may name: square pictures -> logits. Importing this module completes the table.

All take (1, 3, size, size) float32 with values (v - 127) / 128 for v in 0..255, so that eight bits of a
picture are eight bits of the input, too.

A manifest's hyper-parameters also say where the network may be cut: they are signed with it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from codec_runtime.codecs.registration import CLASSIFIERS, Bounds, classifier
from codec_runtime.split.networks.branches import Branches, Chain
from codec_runtime.split.networks.resnet import ResNet
from codec_runtime.split.squeezed import add_squeezed_cuts

MAX_CUTS = 64
PICTURE_OFFSET, PICTURE_SCALE = 127.0, 128.0
_PLACES: Bounds = {
    "size": range(32, 513),
    "classes": range(2, 10_001),
    "graph": re.compile(r"([0-9a-f]{64})?"),
    "cuts": re.compile(rf"([0-9a-f]{{1,256}}(,[0-9a-f]{{1,256}}){{0,{MAX_CUTS - 1}}})?"),
    "squeezed": re.compile(r"(\[.{1,8192}\])?"),
}


@dataclass(frozen=True)
class ClassifierConfig:
    """Hyper-parameters that every classifier has.

    Attributes:
        size: edge of the pictures, pixels; classes: logits.
        graph: digest of the network's graph, fused, at one picture (:mod:`codec_runtime.split.graph`).
        cuts: published cuts with a comma between: of each the nodes on the device, bit i of a hexadecimal
            number for node i.
        squeezed: cuts at which a bottleneck squeezes what crosses, as JSON
            (:class:`codec_runtime.split.squeezed.SqueezedSpec`).
    """

    size: int = 224
    classes: int = 1000
    graph: str = ""
    cuts: str = ""
    squeezed: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class WideClassifierConfig(ClassifierConfig):
    """``width``: channels of the first layer."""

    size: int = 64
    classes: int = 10
    width: int = 16


@classifier(WideClassifierConfig, {**_PLACES, "width": range(4, 129)})
class BranchesClassifier(Branches):
    """:class:`Branches` as a bundle's network."""

    architecture = "branches"

    def __init__(self, config: WideClassifierConfig) -> None:
        super().__init__(config.width, config.classes)
        self.config = config
        add_squeezed_cuts(self, config.squeezed)


@classifier(WideClassifierConfig, {**_PLACES, "width": range(4, 129)})
class ChainClassifier(Chain):
    """:class:`Chain` as a bundle's network."""

    architecture = "chain"

    def __init__(self, config: WideClassifierConfig) -> None:
        super().__init__(config.width, config.classes)
        self.config = config
        add_squeezed_cuts(self, config.squeezed)

    def forward(self, input: Tensor) -> Tensor:
        for name, link in self.named_children():
            input = input if name == "squeezed" else link(input)  # which is no link of the chain
        return input


@classifier(WideClassifierConfig, {**_PLACES, "width": range(4, 129)})
class ResNet18Classifier(ResNet):
    """ResNet-18 as a bundle's network."""

    architecture = "resnet18"

    def __init__(self, config: WideClassifierConfig) -> None:
        super().__init__("resnet18", config.classes, config.width)
        self.config = config
        add_squeezed_cuts(self, config.squeezed)


try:
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import get_model_params
except ImportError:  # without the extra `pretrained` its bundles are of an architecture that is not known
    pass
else:

    @classifier(ClassifierConfig, _PLACES)
    class EfficientNetLite0Classifier(EfficientNet):  # type: ignore[misc]
        """EfficientNet-Lite0 as a bundle's network, untrained."""

        architecture = "efficientnet-lite0"

        def __init__(self, config: ClassifierConfig) -> None:
            blocks, parameters = get_model_params("efficientnet-lite0", {"num_classes": config.classes})
            super().__init__(blocks, parameters)
            self.config = config
            add_squeezed_cuts(self, config.squeezed)


def classifier_config(network: nn.Module) -> ClassifierConfig:
    """The configuration of a network of :data:`CLASSIFIERS`."""
    config = network.config
    assert isinstance(config, ClassifierConfig)
    return config


__all__ = [
    "CLASSIFIERS",
    "MAX_CUTS",
    "PICTURE_OFFSET",
    "PICTURE_SCALE",
    "ClassifierConfig",
    "WideClassifierConfig",
    "classifier_config",
]
