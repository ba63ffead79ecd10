"""Settings of the runtime process (environment prefix ``SEMCOM_RUNTIME``)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from codec_runtime.bundle.store import SHIPPED_WEIGHTS
from codec_runtime.contract.settings import SettingsError

ENV_PREFIX = "SEMCOM_RUNTIME"

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RuntimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can set; every field has a default that works on a laptop.

    Attributes:
        host, port: listening address; off loopback mTLS is required (see ``tls_cert``).
        site: site name in status and metrics.
        state_dir: inbox, installed bundles, TUF metadata and job directories; kept across restarts.
        weights_dir: shipped bundles, "" for those of the package.
        trusted_root: path of the pinned TUF ``root.json``; read when first needed. "" refuses updates.
        backend: engine that computes the codec: torch, openvino, or auto (torch on a GPU, openvino on a CPU).
        torch_compile: ``torch.compile`` for the backend torch; needs a C++ compiler.
        torch_threads: threads of one inference, whatever the backend.
        inference_nice: niceness added to the inference thread, so that control traffic goes first.
        activation_nice: niceness added to the thread that verifies, loads and warms up new weights.
        activation_share: of the time that this thread computes while requests are served, 0.05 to 1.
        max_queue: inference requests waiting or running; more are answered 503, or 429 a user with too many.
        request_timeout_s: how long a request may wait for its turn if its parameter ``timeout`` does not say.
        max_batch: pictures a request, and pictures of several requests computed together; max_pixels: pixels
            of a request, all its pictures together.
        batch_wait_ms: the longest that a request waits for others of its size; 0: each is computed alone.
        batch_max_pixels: pixels of the requests computed together; larger pictures gain nothing on a CPU.
        max_request_bytes: body size limit of any request.
        telemetry_buffer: events kept for readers that reconnect; telemetry_idle_s: a stream without events
            for this long is closed.
        pictures_per_user, pictures_max_bytes: recently encoded pictures kept for site training.
        items_per_user, items_max_bytes: labelled items (tokens of a picture and its sentences) kept likewise.
        training_nice: niceness of the training process; 19 takes only what nobody else wants.
        training_queue: jobs waiting; training_min_pictures: fewer fail a job at once.
        body_stall_s, body_min_bytes_per_s: a body that pauses longer, or is slower on average, is refused.
        inbox_max_file_bytes, inbox_max_files: bounds of the TUF inbox.
        inbox_max_partials: targets in transfer by chunks at a time; inbox_partial_max_age_s: since the last
            byte of one that is forgotten.
        inbox_busy_share: of ``max_queue``; with more requests waiting, files for the inbox are put off (429).
        max_versions: decoder versions kept loaded in a family (base versions and versions in force stay).
        classifier_grace_s: how long a classifier version serves at least after its successor came, unless it
            is withdrawn; ``max_versions`` holds for it after that.
        tls_cert, tls_key, client_ca: PEM paths; all three make the whole port mTLS.
        allow_insecure: listen off loopback without mTLS (a closed testbed network); logged as a warning.
        drain_s: how long SIGTERM waits for requests in flight.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8480
    site: str = "site-1"
    state_dir: str = "semcom-runtime"
    weights_dir: str = ""
    trusted_root: str = ""
    backend: Literal["auto", "torch", "openvino"] = "auto"
    torch_compile: bool = False
    torch_threads: Positive = 1
    inference_nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 2
    activation_nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 10
    activation_share: Annotated[float, msgspec.Meta(ge=0.05, le=1)] = 0.5
    max_queue: Positive = 64
    request_timeout_s: Seconds = 30.0
    max_batch: Positive = 32
    max_pixels: Positive = 4_194_304
    batch_wait_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0
    batch_max_pixels: Positive = 65_536
    max_request_bytes: Positive = 64 << 20
    telemetry_buffer: Positive = 16384
    telemetry_idle_s: Seconds = 20.0
    pictures_per_user: Positive = 24
    pictures_max_bytes: Positive = 128 << 20
    items_per_user: Positive = 512
    items_max_bytes: Positive = 128 << 20
    training_nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 19
    training_queue: Positive = 4
    training_min_pictures: Positive = 4
    body_stall_s: Seconds = 20.0
    body_min_bytes_per_s: Positive = 4096
    inbox_max_file_bytes: Positive = 64 << 20
    inbox_max_files: Positive = 256
    inbox_max_partials: Positive = 16
    inbox_partial_max_age_s: Seconds = 86_400.0
    inbox_busy_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    max_versions: Positive = 8
    classifier_grace_s: Seconds = 300.0
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    allow_insecure: bool = False
    drain_s: Seconds = 5.0
    log_level: str = "INFO"


def shipped_weights(settings: RuntimeSettings) -> Path:
    """Directory of the shipped bundles."""
    return Path(settings.weights_dir) if settings.weights_dir else SHIPPED_WEIGHTS


def uses_mtls(settings: RuntimeSettings) -> bool:
    """True if certificate, key and client CA are all set.

    Raises:
        SettingsError: only some of them are set.
    """
    given = [bool(settings.tls_cert), bool(settings.tls_key), bool(settings.client_ca)]
    if any(given) and not all(given):
        raise SettingsError("tls_cert, tls_key and client_ca must be set together (mutual TLS) or not at all")
    return all(given)


def check_exposure(settings: RuntimeSettings) -> bool:
    """Refuse to offer state-changing endpoints to a network without client authentication.

    Returns:
        True if the process will listen off loopback without mTLS (the caller logs a warning).

    Raises:
        SettingsError: off loopback, no mTLS and not ``allow_insecure``.
    """
    if uses_mtls(settings) or _is_loopback(settings.host):
        return False
    if settings.allow_insecure:
        return True
    raise SettingsError(
        f"host {settings.host} is not loopback: set tls_cert, tls_key and client_ca, or allow_insecure=true "
        "on a closed testbed network"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
