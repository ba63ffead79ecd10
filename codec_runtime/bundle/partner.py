"""The bundle that another one works with: a decoder's encoder, an encoder's decoder, an adapter's base.

It fills the compatibility set, and with pictures it tells what storing costs in quality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
from torch import Tensor, nn

from codec_runtime.bundle.creation import BundleSpec, fitting_module
from codec_runtime.bundle.errors import SpecError
from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.storage import served_state, store_state
from codec_runtime.bundle.store import load_module
from codec_runtime.contract.bundle import CompatibleBundle, Storage

LOSS_SNRS_DB = (1.0, 10.0)
LOSS_PREFIXES = (4, 16)


def with_partner(spec: BundleSpec, partner: Path) -> BundleSpec:
    """``spec`` with its compatibility set filled from the partner's bundle.

    Raises:
        SpecError: the spec names another encoder.
        BundleError: the partner is damaged.
    """
    manifest = read_manifest(partner)
    if spec.kind == "encoder":
        return spec
    digest = manifest.weights_sha256
    if manifest.kind == "encoder":
        if spec.encoder_sha256 not in ("", digest):
            raise SpecError(
                f"the spec names encoder {spec.encoder_sha256[:12]}..., {partner} is {digest[:12]}..."
            )
        return msgspec.structs.replace(spec, encoder_sha256=digest)
    named = CompatibleBundle(kind=manifest.kind, sha256=digest, name=manifest.name, version=manifest.version)
    others = [bundle for bundle in spec.compatible if bundle.sha256 != digest]
    return msgspec.structs.replace(
        spec, compatible=[*others, named], encoder_sha256=spec.encoder_sha256 or manifest.encoder_sha256
    )


def storage_psnr_loss(
    state: Mapping[str, Tensor],
    spec: BundleSpec,
    storage: Storage,
    partner: Path,
    pictures: Sequence[Tensor],
    on_cell: Callable[[], None] | None = None,
) -> dict[str, float]:
    """PSNR lost by storing, in dB over AWGN: the same pictures and noise, as given (fp32) and as stored.

    Args:
        partner: an encoder's decoder, or a decoder's encoder.
        pictures: (3, H, W) uint8.

    Returns:
        ``storage_psnr_loss_db`` (mean over the cells of :data:`LOSS_SNRS_DB` x :data:`LOSS_PREFIXES`) and
        ``storage_psnr_loss_db_max`` (worst cell); negative: storing happened to gain.

    Raises:
        SpecError: no encoder-decoder pair.
        BundleError: the state does not fit the spec, or the partner is damaged.
    """
    from codec_runtime.evaluation.codec import evaluate  # noqa: PLC0415 (it is slow to import)

    manifest, other = load_module(partner)
    if {spec.kind, manifest.kind} != {"encoder", "decoder"}:
        raise SpecError(f"pictures measure an encoder with a decoder, not {spec.kind} with {manifest.kind}")
    stored = store_state(state, storage)
    served = served_state(stored.tensors, stored.quantised, "as stored")
    given_module, stored_module = (_module(values, spec, partner) for values in (state, served))
    latent = int(getattr(given_module.config, "latent_channels"))  # noqa: B009
    prefixes = [prefix for prefix in LOSS_PREFIXES if prefix <= latent] or [latent]
    options: dict[str, Any] = {
        "snrs_db": LOSS_SNRS_DB, "prefixes": prefixes, "ms_ssim_seeds": 0, "on_cell": on_cell
    }
    if spec.kind == "decoder":
        rows = evaluate(other, {"given": given_module, "stored": stored_module}, pictures, **options)
        before = [row.psnr_db for row in rows if row.decoder == "given"]
        after = [row.psnr_db for row in rows if row.decoder == "stored"]
    else:
        before, after = (
            [row.psnr_db for row in evaluate(module, {"decoder": other}, pictures, **options)]
            for module in (given_module, stored_module)
        )
    losses = [one - two for one, two in zip(before, after, strict=True)]
    return {"storage_psnr_loss_db": fmean(losses), "storage_psnr_loss_db_max": max(losses)}


def _module(state: Mapping[str, Tensor], spec: BundleSpec, origin: Path) -> nn.Module:
    module = fitting_module(state, spec, origin)
    if module is None:
        raise SpecError(f"kind {spec.kind} has no architecture in this runtime")
    module.load_state_dict({name: value.float() for name, value in state.items()})
    return module.eval()
