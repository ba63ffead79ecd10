"""Training jobs, inbox and activation: the messages of a codec update."""

from __future__ import annotations

import msgspec

from codec_runtime.contract.bundle import BundleManifest


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a site to fine-tune a decoder (encoder frozen) on what its users sent recently.

    Attributes:
        job: id chosen by the xApp; posting it again is harmless.
        users: whose recent pictures to train on (they stay at the site).
        decoder, parent_version: what to fine-tune.
        new_version: version of the candidate.
        budget_s: wall time the job may use.
        max_age_s: only pictures sent within so many seconds before the job arrives; None for all kept. After
            a drift the older ones show what the parent version knows already.
        seed: for reproducibility.
    """

    job: str
    users: list[str]
    decoder: str
    parent_version: int
    new_version: int
    budget_s: float
    max_age_s: float | None = None
    seed: int = 1


class InboxListing(msgspec.Struct, frozen=True, kw_only=True):
    """sha256 (hex) of every target file present in the inbox or already installed, by target path."""

    targets: dict[str, str]


class ActivationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Verify the inbox by TUF and serve these bundles.

    Attributes:
        bundles: bundle paths in the TUF repository, e.g. ``decoder/attention/2``; targets are
            ``<path>/manifest.msgpack`` and ``<path>/weights.safetensors``.
    """

    bundles: list[str]


class ActivationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of an activation.

    Attributes:
        outcome: ``activated``, ``already-active`` or ``refused``; refused leaves the old version serving.
        error: name of the refusal, e.g. ``UnsignedMetadataError``; detail says more.
        verify_ms, load_ms, publish_ms: TUF verification, load + warm-up, the pointer swap alone.
    """

    instance: str
    outcome: str
    error: str = ""
    detail: str = ""
    verify_ms: float = 0.0
    load_ms: float = 0.0
    publish_ms: float = 0.0


class SiteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a site serves now.

    Attributes:
        instance: id of the runtime process.
        site: configured site name.
        telemetry_seq: last sequence number of the telemetry stream.
        models: manifests of every bundle loaded, encoders and decoders.
    """

    instance: str
    site: str
    telemetry_seq: int
    models: list[BundleManifest]
