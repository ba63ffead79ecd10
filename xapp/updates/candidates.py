"""The gate: whether a candidate may be signed, and why (not). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.updates import TrainingJob
from xapp.updates.planner import AdapterJob


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of the gate: accepted or not, why, and the held-out gain (dB or RSUM, NaN if unknown)."""

    accepted: bool
    reason: str
    gain_db: float = math.nan


def gate(
    manifest: BundleManifest,
    job: TrainingJob,
    *,
    encoder_sha256: str,
    min_gain_db: float,
    reported_gain_db: float | None = None,
) -> Verdict:
    """Judge a decoder.

    Args:
        manifest: of the candidate, whose weights file has been checked against it.
        job: what was asked for.
        encoder_sha256: of the parent decoder: encoder and decoder must stay a pair.
        min_gain_db: smallest PSNR gain on held-out pictures of the group.
        reported_gain_db: gain of the training report; the smaller one of that and the manifest's counts.
    """
    identity = (manifest.kind, manifest.name, manifest.version, manifest.parent)
    asked = ("decoder", job.decoder, job.new_version, job.parent_version)
    if identity != asked:
        return Verdict(False, f"the candidate is {identity}, the job asked for {asked}")
    if encoder_sha256 and manifest.encoder_sha256 != encoder_sha256:
        return Verdict(False, "the candidate was trained against another encoder than its parent")
    gains = [g for g in (manifest.metrics.get("heldout_gain_db"), reported_gain_db) if g is not None]
    if not gains or not all(math.isfinite(g) for g in gains):
        return Verdict(False, "the candidate states no heldout_gain_db")
    gain = min(gains)
    if gain < min_gain_db:
        return Verdict(False, f"held-out gain {gain:+.2f} dB, {min_gain_db:+.2f} dB is needed", gain)
    return Verdict(True, f"held-out gain {gain:+.2f} dB", gain)


def gate_adapter(
    manifest: BundleManifest, job: AdapterJob, *, skb_sha256: str, min_gain_rsum: float
) -> Verdict:
    """Judge an adapter: by retrieval on held-out pairs, since confidence alone would reward an adapter that
    says the same of everything; the roll-out's gate looks at confidence.

    Args:
        skb_sha256: of the parent's knowledge base, which is frozen during an update.
        min_gain_rsum: smallest gain, of 0..600.
    """
    identity = (manifest.kind, manifest.name, manifest.version, manifest.parent)
    asked = ("adapter", job.adapter, job.new_version, job.parent_version)
    if identity != asked:
        return Verdict(False, f"the candidate is {identity}, the job asked for {asked}")
    named = [bundle.sha256 for bundle in manifest.compatible if bundle.kind == "skb"]
    if skb_sha256 and named != [skb_sha256]:
        return Verdict(False, "the candidate is aligned to another knowledge base than its parent")
    gain = manifest.metrics.get("heldout_gain_rsum", math.nan)
    if not math.isfinite(gain):
        return Verdict(False, "the candidate states no heldout_gain_rsum")
    if gain < min_gain_rsum:
        return Verdict(False, f"held-out RSUM {gain:+.1f}, {min_gain_rsum:+.1f} is needed", gain)
    return Verdict(True, f"held-out RSUM {gain:+.1f}", gain)
