"""``semcom eval cost``: what an encoder and each decoder kind at each compute tier cost, trained or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.store import find_bundles
from codec_runtime.codecs.registry import FAMILIES, KINDS, TIERS, build_decoder, build_encoder
from codec_runtime.evaluation.compute_cost import decoder_cost, encoder_cost

SIDE_LIMIT: Final = 8192
"""Pixels of a picture's side."""


@dataclass(frozen=True)
class CostRow:
    """One network.

    Attributes:
        network: ``encoder``, or the decoder's kind. tier: its compute tier; the encoder has none ("").
        macs_per_pixel: multiply-accumulates per source pixel. ms_per_image: on one CPU thread, the least of
            a few runs of eager fp32 PyTorch.
    """

    network: str
    tier: str
    parameters: int
    macs_per_pixel: float
    ms_per_image: float


@dataclass(frozen=True)
class CostTable:
    """Rows, encoder first, decoders by kind and tier; of pictures of ``height`` x ``width`` pixels."""

    family: str
    config: Mapping[str, int | float | str]
    height: int
    width: int
    rows: list[CostRow]

    def as_json(self) -> str:
        """One object: ``{family, config, height, width, rows}``."""
        rows = [
            {
                "network": row.network, "tier": row.tier, "parameters": row.parameters,
                "macs_per_pixel": round(row.macs_per_pixel), "ms_per_image": round(row.ms_per_image, 1),
            }
            for row in self.rows
        ]
        content = {
            "family": self.family, "config": dict(self.config), "height": self.height, "width": self.width,
            "rows": rows,
        }
        return json.dumps(content, indent=1)

    def as_text(self) -> str:
        """A Markdown table, which is readable on a terminal too."""
        lines = [
            f"| network | tier | parameters | MACs/pixel | ms ({self.width}x{self.height}) |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.network} | {row.tier or '-'} | {row.parameters:,} | {row.macs_per_pixel:,.0f} "
            f"| {row.ms_per_image:.0f} |"
            for row in self.rows
        ]
        return "\n".join(lines)


def shipped_family(root: Path) -> tuple[str, dict[str, Any]]:
    """Family and configuration of the newest encoder below ``root``.

    Raises:
        FileNotFoundError: no encoder of a codec family is there.
    """
    known = {family.encoder: family.name for family in FAMILIES.values()}
    manifests = [read_manifest(directory) for directory in find_bundles(root)]
    encoders = [m for m in manifests if m.kind == "encoder" and m.architecture in known]
    if not encoders:
        raise FileNotFoundError(f"no encoder of a codec family ({', '.join(FAMILIES)}) below {root}")
    newest = max(encoders, key=lambda m: m.version)
    return known[newest.architecture], dict(newest.hyperparameters)


def cost_rows(family: str, config: Mapping[str, int | str], height: int, width: int) -> Iterator[CostRow]:
    """Measure networks with random weights; one after the other, since some take seconds.

    Args:
        family: of :data:`codec_runtime.codecs.registry.FAMILIES`. config: overrides of its configuration.

    Raises:
        ValueError: no such family, a value is unknown or out of range, or the picture is too large or empty.
    """
    if family not in FAMILIES:
        raise ValueError(f"no codec family {family!r}; known: {', '.join(FAMILIES)}")
    if not (1 <= height <= SIDE_LIMIT and 1 <= width <= SIDE_LIMIT):
        raise ValueError(f"a picture of {width}x{height}: 1 to {SIDE_LIMIT} pixels a side are possible")
    settings = FAMILIES[family].config(**config)
    torch.manual_seed(0)
    encoder = build_encoder(family, settings).eval()
    cost = encoder_cost(encoder, height, width)
    yield CostRow("encoder", "", _parameters(encoder), cost.macs_per_pixel, cost.ms_per_image)
    for kind in KINDS:
        for tier in TIERS:
            decoder = build_decoder(family, kind, settings, tier).eval()
            cost = decoder_cost(decoder, height, width)
            yield CostRow(kind, tier, _parameters(decoder), cost.macs_per_pixel, cost.ms_per_image)


def _parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())
