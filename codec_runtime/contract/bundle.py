"""The bundle manifest: what a set of weights is. One bundle is ``manifest.msgpack`` + its tensor files."""

from __future__ import annotations

from typing import Literal

import msgspec

MANIFEST_FILE = "manifest.msgpack"
WEIGHTS_FILE = "weights.safetensors"
DELTA_FILE = "delta.safetensors"

SCHEMA = 2
"""Manifest schema written. 1 (manifests without the field) lacks ``compatible``, ``part``, ``storage``,
``quantised``, ``losses``, ``delta`` and the memory figures; their defaults mean "not said". A field is only
ever added, with such a default, so a reader of schema n reads every schema up to n."""

BundleKind = Literal["encoder", "decoder", "adapter", "skb", "entropy-model", "classifier"]
Storage = Literal["F16", "F32", "I8"]
"""How weights are stored; the runtime serves fp32 whichever it is. I8: int8 with a scale per channel."""


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor file of the bundle: name, sha256 (hex) and size in bytes."""

    name: str
    sha256: str
    size: int


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and safetensors dtype name (``F16``, ``F32``, ...) of a tensor."""

    shape: tuple[int, ...]
    dtype: str


class StorageLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What storing a tensor cost: ``max_error`` = max |stored - given|, in the tensor's own unit, and
    ``relative_error`` = ||stored - given|| / ||given|| (Euclidean; 0 for a tensor of zeros).
    """

    max_error: float
    relative_error: float


class DeltaFile(msgspec.Struct, frozen=True, kw_only=True):
    """The same weights as a difference from the parent's weights file, for sites that hold the parent.

    Attributes:
        sha256, size: of the delta file (bytes).
        parent_sha256: of the weights file it applies to. The result is this bundle's weights file, bit by
            bit, so its own sha256 proves the reconstruction.
    """

    name: str
    sha256: str
    size: int
    parent_sha256: str


class CompatibleBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that this one works with: ``sha256`` (hex) of its weights file decides, name and version tell
    people which it is.
    """

    kind: BundleKind
    sha256: str
    name: str = ""
    version: int = 0


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
        provenance: recipe, seed, data hash (``data_sha256``), command, ... as strings.
        metrics: measured numbers, e.g. ``heldout_gain_db``.
        quality: rate-quality surface policies decide from (decoders).
        parameters: number of parameters and buffers' values; scales of int8 storage are none.
        macs_per_pixel: multiply-accumulates per source pixel; 0 where not measured.
        minimum_runtime: oldest runtime version that serves it, ``major.minor.patch``.
        schema: see :data:`SCHEMA`.
        part: of a classifier split in two: ``head`` (device) or ``tail`` (site); else empty.
        compatible: further bundles it works with, the base of an adapter among them
            (:meth:`works_with`).
        storage: empty: as ``tensors`` say.
        quantised: int8 tensor -> its scale tensor; value = int8 * scale, a scale per index of axis 0.
        losses: measured loss of each tensor that storing changed.
        delta: the bundle as a difference from its parent, where that is smaller.
        memory_bytes: of the weights as served (fp32).
        working_bytes_per_pixel: fp32 inputs and outputs of the layer with the largest, per source pixel; 0
            where not measured. A lower bound: what skips a layer is kept besides.
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
    schema: int = 1
    part: Literal["", "head", "tail"] = ""
    compatible: list[CompatibleBundle] = []
    storage: Literal["", "F16", "F32", "I8"] = ""
    quantised: dict[str, str] = {}
    losses: dict[str, StorageLoss] = {}
    delta: DeltaFile | None = None
    memory_bytes: int = 0
    working_bytes_per_pixel: float = 0.0

    @property
    def weights_sha256(self) -> str:
        """sha256 (hex) of the weights file, which a decoder's ``encoder_sha256`` names; "" without one."""
        return next((file.sha256 for file in self.files if file.name == WEIGHTS_FILE), "")

    def works_with(self, kind: BundleKind, sha256: str) -> bool:
        """Whether the compatibility set admits the ``kind`` bundle with that weights file.

        A kind that the set does not name is not restricted.
        """
        named = {bundle.sha256 for bundle in self.compatible if bundle.kind == kind}
        if kind == "encoder" and self.encoder_sha256:
            named.add(self.encoder_sha256)
        return not named or sha256 in named
