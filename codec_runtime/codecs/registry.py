"""Every network of the codec by name, and the factories that build them.

Two families. ``fast`` works at an eighth of the resolution beside a linear bypass; ``anchor`` is the seed's
reference table. Each has one encoder and a decoder of each kind at three compute tiers. The encoder has no
tier: it is frozen and every decoder reads the same latents.

A tier scales the configuration's width and blocks once, in :func:`build_decoder`; the result is what the
decoder keeps as its ``config`` and what a bundle's manifest holds, so that a manifest builds the same module
even if the tiers are cut differently one day. docs/codec.md has what each costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from codec_runtime.codecs.anchor_decoders import (
    AnchorAttentionDecoder,
    AnchorConvDecoder,
    AnchorResidualDecoder,
    AnchorVggDecoder,
)
from codec_runtime.codecs.anchor_encoder import AnchorEncoder
from codec_runtime.codecs.fast import FastAttentionDecoder, FastEncoder
from codec_runtime.codecs.fast_decoders import FastConvDecoder, FastResidualDecoder, FastVggDecoder
from codec_runtime.codecs.registration import (
    CONFIGURATIONS,
    DECODERS,
    ENCODERS,
    TIERS,
    CodecConfig,
    checked,
)

KINDS = ("attention", "conv", "resnet", "vgg")
"""Decoder kinds of each family, in the seed's order."""


@dataclass(frozen=True)
class Tier:
    """Factors on a configuration's width and blocks."""

    width: float
    blocks: float


@dataclass(frozen=True)
class Family:
    """Encoder, decoders and tiers that belong together.

    Attributes:
        name: key in :data:`FAMILIES`.
        encoder: architecture id.
        decoders: architecture id of each kind.
        tiers: factors of each tier; medium is the configuration as it stands.
    """

    name: str
    encoder: str
    decoders: Mapping[str, str]
    tiers: Mapping[str, Tier]

    def config(self, **overrides: int | str) -> Any:
        """The family's configuration with ``overrides``, each checked.

        Raises:
            ValueError: an override is unknown, of the wrong type or out of range.
        """
        return checked(CONFIGURATIONS[self.encoder], overrides)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "fast",
            FastEncoder.architecture,
            dict(zip(KINDS, (
                FastAttentionDecoder.architecture,
                FastConvDecoder.architecture,
                FastResidualDecoder.architecture,
                FastVggDecoder.architecture,
            ), strict=True)),
            {"small": Tier(0.5, 0.5), "medium": Tier(1.0, 1.0), "large": Tier(1.5, 1.5)},
        ),
        Family(
            "anchor",
            AnchorEncoder.architecture,
            dict(zip(KINDS, (
                AnchorAttentionDecoder.architecture,
                AnchorConvDecoder.architecture,
                AnchorResidualDecoder.architecture,
                AnchorVggDecoder.architecture,
            ), strict=True)),
            {"small": Tier(0.5, 0.75), "medium": Tier(1.0, 1.0), "large": Tier(1.25, 1.25)},
        ),
    )
}


def configure(architecture: str, hyperparameters: Mapping[str, object]) -> CodecConfig:
    """Configuration of ``architecture`` (a key of ENCODERS or DECODERS) from outside values.

    Raises:
        KeyError: ``architecture`` is not known.
        ValueError: a hyper-parameter is unknown, of the wrong type or out of range; it is named.
    """
    return checked(CONFIGURATIONS[architecture], hyperparameters)


def build_encoder(family: str, config: CodecConfig) -> nn.Module:
    """The encoder of ``family``.

    Raises:
        ValueError: no such family, or ``config`` is not admissible for it.
    """
    architecture = _family(family).encoder
    return ENCODERS[architecture](configure(architecture, config.as_dict()))


def build_decoder(family: str, kind: str, config: CodecConfig, tier: str = "medium") -> nn.Module:
    """A decoder of ``family``.

    Args:
        kind: one of :data:`KINDS`.
        config: the family's configuration, of the medium tier.
        tier: one of :data:`TIERS`; scales width and blocks of ``config`` (:attr:`Family.tiers`).

    Raises:
        ValueError: no such family, kind or tier; ``config`` is not admissible for it or of another tier.
    """
    known = _family(family)
    if kind not in known.decoders:
        raise ValueError(f"no decoder kind {kind!r} in family {family}; known: {', '.join(known.decoders)}")
    if tier not in known.tiers:
        raise ValueError(f"no compute tier {tier!r}; known: {', '.join(known.tiers)}")
    architecture = known.decoders[kind]
    values = configure(architecture, config.as_dict()).as_dict()
    if values["tier"] != "medium":
        raise ValueError(f"the configuration is of tier {values['tier']} already; give that of tier medium")
    scale = known.tiers[tier]
    scaled = {
        **values,
        "width": round(int(values["width"]) * scale.width),
        "blocks": round(int(values["blocks"]) * scale.blocks),
        "tier": tier,
    }
    return DECODERS[architecture](configure(architecture, scaled))


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"no codec family {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


__all__ = [
    "CONFIGURATIONS",
    "DECODERS",
    "ENCODERS",
    "FAMILIES",
    "KINDS",
    "TIERS",
    "CodecConfig",
    "Family",
    "Tier",
    "build_decoder",
    "build_encoder",
    "configure",
]
