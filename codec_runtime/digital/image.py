"""The image codec over bits: the latent of the JSCC encoder, quantised, as a stream; and the picture back.

    picture --g_a--> latent (k, H/4, W/4) --fold 2 x 2--> (4 c, H/8, W/8) --FeatureCodec--> bytes
    bytes --FeatureCodec--> latent + quantisation noise --g_s--> picture

Encoder and decoder are the ones made for the analogue channel: each operating point is a prefix k, the SNR
that the encoder is told, and the SNR at which the decoder does best with the point's quantisation noise.
Folding separates the four phases of the latent, whose distributions differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.bundle.store import read_verified
from codec_runtime.codecs.padding import SIZE_MULTIPLE, pad_to_multiple
from codec_runtime.digital.errors import FieldError
from codec_runtime.digital.feature_codec import Encoded, FeatureCodec
from codec_runtime.digital.rate_control import RateModel
from codec_runtime.digital.tables import CodingTables, Floats
from codec_runtime.evaluation.metrics import to_uint8

FOLD = 2
CUT = b"imglat-1"
"""Cut id of this path: the latent of a picture, folded."""
ARCHITECTURE = "digital-latent-tables"


@dataclass(frozen=True)
class PointCondition:
    """What the networks are told at an operating point: prefix k, and an SNR each for encoder and decoder."""

    prefix: int
    encoder_db: float
    decoder_db: float


def fold(latent: Tensor) -> Tensor:
    """(B, c, H/4, W/4) -> (B, 4 c, H/8, W/8); the first k channels become the first 4 k."""
    return F.pixel_unshuffle(latent, FOLD)


def unfold(folded: Tensor) -> Tensor:
    """Inverse of :func:`fold`."""
    return F.pixel_shuffle(folded, FOLD)


class DigitalImageCodec:
    """Pictures <-> streams.

    Args:
        encoder, decoder: of one family, in evaluation mode.
        tables: trained for that encoder, ``condition`` as of :class:`PointCondition`.
        rates: predicts size and quality; None: :meth:`encode` needs a point.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, tables: CodingTables, rates: RateModel | None = None,
        *, chunks: int = 4,
    ) -> None:
        if tables.condition.shape[1] != 3:
            raise ValueError("tables of the image path hold prefix and two SNRs for each point")
        self.encoder, self.decoder, self.rates = encoder, decoder, rates
        self.features = FeatureCodec(tables, CUT, chunks=chunks)

    def condition(self, point: int) -> PointCondition:
        prefix, encoder_db, decoder_db = (float(v) for v in self.features.tables.condition[point])
        return PointCondition(round(prefix), encoder_db, decoder_db)

    @torch.inference_mode()
    def analyse(self, picture: Tensor, point: int) -> Floats:
        """(3, H, W) uint8 -> folded latent (4 c, H/8, W/8)."""
        at = self.condition(point)
        padded, _ = pad_to_multiple(picture[None].float() / 255.0)
        latent = self.encoder(padded, torch.tensor([at.encoder_db]), torch.tensor([at.prefix]))
        folded: Floats = fold(latent)[0].numpy()
        return folded

    def encode(self, picture: Tensor, point: int, *, cap_bytes: int | None = None) -> Encoded:
        """A stream of at most ``cap_bytes``; errors as of :meth:`FeatureCodec.encode`."""
        height, width = picture.shape[1:]
        return self.features.encode(
            self.analyse(picture, point), point, cap_bytes=cap_bytes, picture=(height, width)
        )

    def encode_within(self, picture: Tensor, allowed_bytes: int) -> Encoded:
        """The best expected quality within ``allowed_bytes``: the rate model proposes, exact sizes decide.

        Points are tried from the best that is predicted to fit downwards, at most three, before the codec's
        own fallbacks hold the cap.
        """
        if self.rates is None:
            raise ValueError("this codec has no rate model; give an operating point")
        ranked = self.rates.ranked(picture, allowed_bytes)[:3]
        for point in ranked:
            folded = self.analyse(picture, point)
            sent = int(self.features.tables.sent[point])
            bits = float(self.features.channel_bits(folded, point).sum())
            if bits / 8 + self.features.overhead_bytes(sent) <= allowed_bytes or point == ranked[-1]:
                break
        height, width = picture.shape[1:]
        return self.features.encode(folded, point, cap_bytes=allowed_bytes, picture=(height, width))

    @torch.inference_mode()
    def decode(self, data: bytes, *, partial: bool = False) -> Tensor:
        """(3, H, W) uint8.

        Raises:
            BitstreamError: the stream is not taken.
        """
        decoded = self.features.decode(data, partial=partial)
        height, width = decoded.header.picture
        rows, columns = decoded.features.shape[1:]
        if (-(-height // SIZE_MULTIPLE), -(-width // SIZE_MULTIPLE)) != (rows, columns):
            raise FieldError(f"picture of {height} x {width} from features of {rows} x {columns}")
        return to_uint8(self.synthesise(torch.from_numpy(decoded.features), decoded.header.point))[
            :, :height, :width
        ]

    @torch.inference_mode()
    def synthesise(self, folded: Tensor, point: int) -> Tensor:
        """(4 c, H/8, W/8) -> (3, H, W) float."""
        at = self.condition(point)
        restored: Tensor = self.decoder(
            unfold(folded[None]), torch.tensor([at.decoder_db]), torch.tensor([at.prefix])
        )
        return restored[0]


def load_image_tables(directory: Path) -> tuple[CodingTables, RateModel | None, str]:
    """Tables, rate model and the sha256 of the encoder of a bundle of kind ``entropy-model``.

    Raises:
        BundleError: the bundle is damaged; ValueError: it is of another architecture or contradicts itself.
    """
    bundle = read_verified(directory)
    if bundle.manifest.architecture != ARCHITECTURE:
        raise ValueError(f"{directory}: {bundle.manifest.architecture}, want {ARCHITECTURE}")
    state = bundle.stored
    rates = RateModel.from_state(state) if "rate_bits" in state else None
    return CodingTables.from_state(state), rates, bundle.manifest.encoder_sha256
