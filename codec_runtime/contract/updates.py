"""Training jobs, inbox and activation: the messages of a codec update."""

from __future__ import annotations

import msgspec

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.directives import ConventionalCodec


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
    """What a site has already, so that only the rest travels.

    Attributes:
        targets: sha256 (hex) of every complete target file in the inbox or installed, by target path.
        partial: bytes kept of target files that are not complete, by path with the hash in the name.
        weights: sha256 (hex) of the weights files of every bundle installed or shipped: parents that a delta
            can be applied to.
        metadata: sha256 (hex) of every metadata file in the inbox, by name.
        takes_files: whether an activation may bring files along; sites of earlier versions do not say so.
        awaits_files: whether an activation may name targets that are still on their way; likewise.
    """

    targets: dict[str, str]
    partial: dict[str, int] = {}
    weights: list[str] = []
    metadata: dict[str, str] = {}
    takes_files: bool = False
    awaits_files: bool = False


class ActivationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Verify the inbox by TUF and serve these bundles.

    Attributes:
        bundles: bundle paths in the TUF repository, e.g. ``decoder/attention/2``; targets are
            ``<path>/manifest.msgpack`` and ``<path>/weights.safetensors`` or ``<path>/delta.safetensors``.
            Empty: only verify the metadata, and stop serving what the signed director assigns no longer.
        targets, metadata: files for the inbox, stored in this order before anything is verified, as if each
            had been put there: targets by path with the hash in the name, metadata by name. For small files,
            which would cost a round trip each; ``timestamp.json`` goes last.
        coming: targets on their way, by path with the hash in the name. What is signed of them is verified
            meanwhile; the activation waits for each as long as bytes of it come.
    """

    bundles: list[str]
    targets: dict[str, bytes] = {}
    metadata: dict[str, bytes] = {}
    coming: list[str] = []


class ActivationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of an activation.

    Attributes:
        outcome: ``activated``, ``already-active`` or ``refused``; refused leaves the old version serving.
        error: name of the refusal, e.g. ``UnsignedMetadataError``; detail says more.
        verify_ms, load_ms, publish_ms: TUF verification, load + warm-up, the pointer swap alone.
        awaited_ms: waiting for targets on their way, before and within the verification, not part of it.
        record_ms: recording what serves now and removing what does no longer, after the swap.
        withdrawn: bundle paths no longer served, since the signed director assigns them no longer.
    """

    instance: str
    outcome: str
    error: str = ""
    detail: str = ""
    verify_ms: float = 0.0
    awaited_ms: float = 0.0
    load_ms: float = 0.0
    publish_ms: float = 0.0
    record_ms: float = 0.0
    withdrawn: list[str] = []


class SiteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a site serves now.

    Attributes:
        instance: id of the runtime process.
        site: configured site name.
        telemetry_seq: last sequence number of the telemetry stream.
        models: manifests of every bundle loaded, encoders and decoders.
        conventional: conventional codecs that the site encodes, for devices that hold no decoder of any pair.
        classifiers: cuts of the classifiers that it serves the tails of.
    """

    instance: str
    site: str
    telemetry_seq: int
    models: list[BundleManifest]
    conventional: list[ConventionalCodec] = []
    classifiers: list[PublishedCut] = []
