"""ResNet-18 and -50 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016), random weights.

The stride of a bottleneck is in its 3x3 convolution, as in common implementations: 4.09 GMAC at 224 for
ResNet-50, against 3.8 with the stride in the first 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn

STAGES = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


class ResidualBlock(nn.Module):
    """(N, C, H, W) -> (N, C', H / stride, W / stride): convolutions plus a skip connection.

    Args:
        sizes: kernel sizes, e.g. (3, 3) or (1, 3, 1); the stride is in the first 3x3.
        width: channels inside; ``channels_out`` after the last convolution.
    """

    def __init__(
        self, channels_in: int, width: int, channels_out: int, stride: int, sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        channels = [channels_in, *[width] * (len(sizes) - 1), channels_out]
        layers: list[nn.Module] = []
        strided = sizes.index(3)
        for place, size in enumerate(sizes):
            step = stride if place == strided else 1
            layers += [_convolution(channels[place], channels[place + 1], size, step), nn.ReLU(inplace=True)]
        self.branch = nn.Sequential(*layers[:-1])
        same = stride == 1 and channels_in == channels_out
        self.skip = nn.Identity() if same else _convolution(channels_in, channels_out, 1, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, values: Tensor) -> Tensor:
        joined: Tensor = self.activation(self.branch(values) + self.skip(values))
        return joined


class ResNet(nn.Module):
    """Pictures (N, 3, H, W) -> logits (N, classes); ``name`` of :data:`STAGES`."""

    def __init__(self, name: str = "resnet50", classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        sizes, growth = ((1, 3, 1), 4) if name == "resnet50" else ((3, 3), 1)
        self.stem = nn.Sequential(
            _convolution(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        )
        stages: list[nn.Module] = []
        channels = width
        for place, blocks in enumerate(STAGES[name]):
            inner = width << place
            for block in range(blocks):
                stride = 2 if place and not block else 1
                stages.append(ResidualBlock(channels, inner, inner * growth, stride, sizes))
                channels = inner * growth
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.pool(self.blocks(self.stem(pictures)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def _convolution(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    )
