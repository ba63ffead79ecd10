"""Telemetry from a site to the xApp: a stream of tagged events, each with a sequence number."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.classification import SplitReport
from codec_runtime.contract.directives import ConventionalCodec

DeviceClass = Literal["mobile", "drone", "car", "fixed"]


class HeldDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder that a device has on board: family (bundle name) and version."""

    family: str
    version: int


class ClassifierCapability(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier of which a device can compute a part.

    Attributes:
        network: its name, e.g. ``efficientnet-lite0``.
        compute_class: of :data:`codec_runtime.contract.devices.DEVICES`, e.g. ``phone-mid``.
        requests_per_s: pictures that it classifies, about.
    """

    network: str
    compute_class: str
    requests_per_s: float = 1.0


class CapabilityReport(msgspec.Struct, frozen=True, kw_only=True, tag="capability"):
    """What a user's device can run and what it is.

    Attributes:
        group: the user group that shares content and updates, e.g. the device class.
        decoders: decoder families the device can run, best first.
        compute_gflops: sustained compute of the device, GFLOP/s.
        battery: 0..1, None on mains.
        slice: S-NSSAI of the user in hexadecimal, SST then SD if there is one (``01``, ``01000003``); empty
            where the device does not know.
        holds: decoder versions on the device; None for one that takes whatever its site serves.
        fallbacks: conventional codecs that the device decodes, best first, for when it holds no decoder that
            fits an encoder of its site.
        classifier: what it classifies pictures with; None for a device that does not.
    """

    user: str
    time_ns: int
    device_class: DeviceClass
    group: str
    decoders: list[str]
    compute_gflops: float
    battery: float | None = None
    slice: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}([0-9a-f]{6})?)?$")] = ""
    holds: list[HeldDecoder] | None = None
    fallbacks: list[ConventionalCodec] = []
    classifier: ClassifierCapability | None = None


class QualityReport(msgspec.Struct, frozen=True, kw_only=True, tag="quality"):
    """Measured quality of one transmission (pilots: the sender knows the original).

    Attributes:
        snr_db: effective SNR at the decoder for this transmission, dB.
        psnr_db, ms_ssim: of the restored picture.
        latency_ms: encode + decode at the runtime.
        encoder_version: of the pair that made the picture, 0 where it was not said.
        codec: ``semantic``, or the conventional codec that stood in.
        parent_version, parent_psnr_db: version that the decoder was trained from, and the PSNR of the same
            received symbols restored by it; 0 and None where the device did not restore them twice.
    """

    user: str
    time_ns: int
    prefix: int
    decoder: str
    decoder_version: int
    snr_db: float
    psnr_db: float
    ms_ssim: float
    latency_ms: float
    encoder_version: int = 0
    codec: Literal["semantic", "jpeg", "heic"] = "semantic"
    parent_version: int = 0
    parent_psnr_db: float | None = None


class FailureReport(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """A transmission that gave no picture: refused or failed at the encoder or the decoder.

    Attributes:
        decoder, decoder_version: that should have restored it.
        reason: one line for people.
    """

    user: str
    time_ns: int
    decoder: str
    decoder_version: int
    reason: str = ""


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True, tag="training"):
    """State of a training job at the site.

    Attributes:
        state: a job ends as ``succeeded`` or ``failed``.
        heldout_gain_db: PSNR of the candidate minus PSNR of its parent on held-out pictures of the group.
        heldout_gain_rsum: of an adapter, RSUM (0..600) in place of PSNR, on pairs of the users' own.
        detail: one line for people: progress or the reason of a failure.
    """

    job: str
    time_ns: int
    state: Literal["queued", "running", "succeeded", "failed"]
    progress: float = 0.0
    heldout_gain_db: float | None = None
    heldout_gain_rsum: float | None = None
    detail: str = ""


class TelemetryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope on the stream: ``seq`` counts from 1 within one runtime ``instance``."""

    instance: str
    seq: int
    report: (
        CapabilityReport | QualityReport | FailureReport | TrainingReport | SplitReport | AlignmentReport
    )
