"""The bundle manifest: what a set of weights is. One bundle is ``manifest.msgpack`` + its tensor files."""

from __future__ import annotations

from typing import Literal

import msgspec

MANIFEST_FILE = "manifest.msgpack"
WEIGHTS_FILE = "weights.safetensors"

BundleKind = Literal["encoder", "decoder", "adapter", "skb", "entropy-model", "classifier"]


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor file of the bundle: name, sha256 (hex) and size in bytes."""

    name: str
    sha256: str
    size: int


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and safetensors dtype name (``F16``, ``F32``, ...) of a tensor."""

    shape: tuple[int, ...]
    dtype: str


class QualityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the measured rate-quality surface.

    Attributes:
        channel: channel mode, e.g. ``awgn``.
        prefix: latent channels sent.
        snr_db: SNR per complex symbol, dB (at the decoder).
        psnr_db: mean over the pictures, after 8-bit rounding.
        psnr_spread_db: standard deviation over the pictures.
        ms_ssim: mean, 0..1.
    """

    channel: str
    prefix: int
    snr_db: float
    psnr_db: float
    psnr_spread_db: float
    ms_ssim: float


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Typed manifest, MessagePack on disk.

    Attributes:
        kind: what the tensors are.
        name: bundle name within its kind, e.g. ``anchor`` (encoder), ``attention`` (decoder family).
        version: 1, 2, ...; unique per (kind, name).
        architecture: id in the runtime's registry, e.g. ``jscc-fast-attention``.
        hyperparameters: constructor arguments of that architecture.
        files, tensors: content, so that a wrong or truncated file is refused by name.
        encoder_sha256: for decoders and adapters, sha256 of the encoder weights file they were trained
            against (the compatibility set); empty for an encoder.
        parent: version this one was fine-tuned from, None for a base.
        provenance: recipe, seed, data hash, command, ... as strings.
        metrics: measured numbers, e.g. ``heldout_gain_db``.
        quality: rate-quality surface policies decide from (decoders).
        parameters: number of parameters; macs_per_pixel: multiply-accumulates per source pixel.
    """

    kind: BundleKind
    name: str
    version: int
    architecture: str
    hyperparameters: dict[str, int | float | str]
    files: list[BundleFile]
    tensors: dict[str, TensorSpec]
    encoder_sha256: str = ""
    parent: int | None = None
    provenance: dict[str, str] = {}
    metrics: dict[str, float] = {}
    quality: list[QualityPoint] = []
    parameters: int = 0
    macs_per_pixel: float = 0.0
    minimum_runtime: str = "0.1.0"

    @property
    def weights_sha256(self) -> str:
        """sha256 (hex) of the weights file, which a decoder's ``encoder_sha256`` names; "" without one."""
        return next((file.sha256 for file in self.files if file.name == WEIGHTS_FILE), "")
