"""Client of one site's codec runtime: directives, telemetry stream, training jobs, inbox, activation.

Every request has a time limit. An answer that names the runtime's ``instance`` is compared with the last one:
a change means that the runtime restarted and holds no directives; ``on_instance`` is then called once.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import msgpack
import msgspec

from codec_runtime.contract import paths
from codec_runtime.contract.alignment import AdapterTable, AdapterTableAck, AlignmentJob, AlignmentUpdate
from codec_runtime.contract.bundle import DELTA_FILE, MANIFEST_FILE, WEIGHTS_FILE, BundleManifest
from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch
from codec_runtime.contract.ranges import CONTENT_RANGE, UPLOAD_OFFSET, ByteRange
from codec_runtime.contract.split import SplitGraph
from codec_runtime.contract.telemetry import TelemetryEvent, TrainingReport
from codec_runtime.contract.updates import (
    ActivationReport,
    ActivationRequest,
    InboxListing,
    SiteStatus,
    TrainingJob,
)

AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)

MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_WEIGHTS_BYTES: Final = 256 << 20
LONGEST_RETRY_AFTER_S: Final = 60.0
_MAX_EVENT_BYTES: Final = 1 << 20
_encode: Final = msgspec.msgpack.Encoder().encode


class RuntimeUnavailable(RuntimeError):
    """The runtime could not be reached, answered too late or with 5xx: try again later."""


class RuntimeBusy(RuntimeUnavailable):
    """The runtime puts this off (429): its users go first. Try again after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RuntimeRefused(RuntimeError):
    """The runtime answered 4xx or with something that is not its contract: trying again will not help.

    Attributes:
        status: HTTP status, 0 for an answer that could not be decoded.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class CandidateError(ValueError):
    """A candidate's files are too large or do not match their manifest; the message says what and where."""


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext | bool:
    """TLS towards the runtime: own CA, client certificate; True (system CAs) when nothing is configured."""
    if not (ca or certificate):
        return True
    context = ssl.create_default_context(cafile=ca or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


class RuntimeClient:
    """See the module docstring.

    Args:
        base_url: e.g. ``https://site-1:8480``.
        timeout_s: limit of one request (transfers of weights: ten times that).
        verify: from :func:`tls_context`.
        on_instance: called with (old, new) when the runtime's instance changed.
        transport: for tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 5.0,
        verify: ssl.SSLContext | bool = True,
        on_instance: Callable[[str, str], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.instance = ""
        self._on_instance = on_instance
        self._timeout = httpx.Timeout(timeout_s)
        self._slow = httpx.Timeout(10 * timeout_s, connect=timeout_s)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            verify=verify,
            trust_env=False,  # a site is never behind a web proxy
            transport=transport,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=60),
            headers={"content-type": paths.MESSAGEPACK, "accept": paths.MESSAGEPACK},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def site(self) -> SiteStatus:
        """What the site serves.

        Raises:
            RuntimeUnavailable, RuntimeRefused: as every method here.
        """
        status = await self._call("GET", paths.SITE, SiteStatus)
        self._see(status.instance)
        return status

    async def graph(self, digest: str) -> SplitGraph:
        """Graph of a classifier that the site serves; RuntimeRefused also for another than was asked for."""
        graph = await self._call("GET", f"{paths.GRAPHS}/{digest}", SplitGraph)
        if graph.digest != digest:
            raise RuntimeRefused(f"{paths.GRAPHS}/{digest[:12]}: the answer is graph {graph.digest[:12]}")
        return graph

    async def push_directives(self, batch: DirectiveBatch) -> DirectiveAck:
        """Apply a batch."""
        ack = await self._call("POST", paths.DIRECTIVES, DirectiveAck, batch)
        self._see(ack.instance)
        return ack

    async def submit_job(self, job: TrainingJob) -> TrainingReport:
        """Start a training job; repeating it is harmless."""
        return await self._call("POST", paths.TRAINING_JOBS, TrainingReport, job)

    async def job(self, job: str) -> TrainingReport:
        """State of a job; RuntimeRefused with status 404 when the runtime forgot it."""
        return await self._call("GET", f"{paths.TRAINING_JOBS}/{job}", TrainingReport)

    async def submit_alignment_job(self, job: AlignmentJob) -> TrainingReport:
        """Start a site's part of a federated update; repeating it is harmless. Its state: :meth:`job`."""
        return await self._call("POST", paths.ALIGNMENT_JOBS, TrainingReport, job, limit=self._slow)

    async def alignment_update(self, job: str) -> AlignmentUpdate:
        """What came of a site's part."""
        path = f"{paths.ALIGNMENT_JOBS}/{job}"
        return await self._call("GET", path, AlignmentUpdate, limit=self._slow)

    async def put_adapter_table(self, table: AdapterTable) -> AdapterTableAck:
        """Say which users get which adapter."""
        ack = await self._call("PUT", paths.ALIGNMENT_TABLE, AdapterTableAck, table)
        self._see(ack.instance)
        return ack

    async def candidate(self, job: str) -> tuple[BundleManifest, dict[str, bytes]]:
        """Download a finished job's bundle, checked against its own manifest.

        Raises:
            CandidateError: too large, or size or sha256 differ.
        """
        base = f"{paths.TRAINING_JOBS}/{job}/candidate"
        manifest_bytes = await self._download(f"{base}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES)
        try:
            manifest = msgspec.msgpack.decode(manifest_bytes, type=BundleManifest)
        except msgspec.DecodeError as error:
            raise CandidateError(f"{MANIFEST_FILE} of job {job}: {error}") from error
        stated = {file.name: file for file in manifest.files}
        if set(stated) != {WEIGHTS_FILE}:
            raise CandidateError(f"job {job}: the manifest names {sorted(stated)}, not {WEIGHTS_FILE} alone")
        weights = stated[WEIGHTS_FILE]
        data = await self._download(f"{base}/{WEIGHTS_FILE}", min(weights.size, MAX_WEIGHTS_BYTES))
        if len(data) != weights.size or hashlib.sha256(data).hexdigest() != weights.sha256:
            raise CandidateError(
                f"job {job}: {WEIGHTS_FILE} has {len(data)} bytes and does not match the manifest "
                f"({weights.size} bytes, sha256 {weights.sha256[:12]}...)"
            )
        files = {MANIFEST_FILE: manifest_bytes, WEIGHTS_FILE: data}
        if manifest.delta is not None and manifest.delta.size < weights.size:
            files[DELTA_FILE] = await self._download(f"{base}/{DELTA_FILE}", manifest.delta.size)
            if hashlib.sha256(files[DELTA_FILE]).hexdigest() != manifest.delta.sha256:
                raise CandidateError(f"job {job}: {DELTA_FILE} does not match the manifest")
        return manifest, files

    async def inbox(self) -> InboxListing:
        """Target files that need not travel again."""
        return await self._call("GET", paths.INBOX, InboxListing)

    async def put_metadata(self, name: str, data: bytes) -> None:
        """Write a TUF metadata file."""
        await self._request("PUT", f"{paths.INBOX}/metadata/{name}", data, self._timeout)

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
        """Write a part of a target under its consistent-snapshot name (``<folder>/<sha256>.<file>``).

        Returns:
            How many bytes of the file the site has, from its start: the offset to go on at, which is not that
            behind ``span`` where the site had another number than ``span.first``.
        """
        path = f"{paths.INBOX}/targets/{name}"
        headers = {CONTENT_RANGE: span.header}
        response = await self._send("PUT", path, data, self._slow, headers)
        if not response.is_success and response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _refusal(response, f"PUT {path}")
        offset = response.headers.get(UPLOAD_OFFSET, "")
        if not (offset.isascii() and offset.isdigit()):
            raise RuntimeRefused(f"PUT {path}: the answer says no {UPLOAD_OFFSET}")
        return int(offset)

    async def activate(
        self,
        bundles: list[str],
        *,
        targets: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        coming: Sequence[str] = (),
    ) -> ActivationReport:
        """Verify, load and swap.

        Args:
            targets, metadata: small files to be put into the inbox first, in this order, where the site's
                listing says ``takes_files``; targets by path with the hash in the name.
            coming: targets on their way meanwhile, where the listing says ``awaits_files``.
        """
        request = ActivationRequest(
            bundles=bundles, targets=dict(targets or {}), metadata=dict(metadata or {}), coming=list(coming)
        )
        report = await self._call("POST", paths.ACTIVATIONS, ActivationReport, request, limit=self._slow)
        self._see(report.instance)
        return report

    async def telemetry(self, after: int, idle_s: float = 30.0) -> AsyncIterator[TelemetryEvent]:
        """Stream events with ``seq`` > ``after`` until the runtime closes or is silent for ``idle_s``.

        Raises:
            RuntimeUnavailable: connection lost or silent; RuntimeRefused: not the contract.
        """
        unpacker = msgpack.Unpacker(max_buffer_size=4 * _MAX_EVENT_BYTES)
        timeout = httpx.Timeout(self._timeout.connect, read=idle_s)
        try:
            async with self._http.stream(
                "GET", paths.TELEMETRY, params={"after": after}, timeout=timeout
            ) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    raise _refusal(response, paths.TELEMETRY)
                async for chunk in response.aiter_raw():
                    unpacker.feed(chunk)
                    for item in unpacker:
                        event = msgspec.convert(item, TelemetryEvent)
                        self._see(event.instance)
                        yield event
        except httpx.HTTPError as error:
            raise RuntimeUnavailable(f"telemetry stream: {_text(error)}") from error
        except (msgspec.ValidationError, msgpack.UnpackException, ValueError) as error:
            raise RuntimeRefused(f"telemetry stream: {error}") from error

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[AnswerT],
        body: msgspec.Struct | None = None,
        limit: httpx.Timeout | None = None,
    ) -> AnswerT:
        content = None if body is None else _encode(body)
        response = await self._request(method, path, content, limit or self._timeout)
        try:
            return msgspec.msgpack.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise RuntimeRefused(f"{method} {path}: not a {kind.__name__}: {error}") from error

    async def _request(
        self, method: str, path: str, content: bytes | None, limit: httpx.Timeout
    ) -> httpx.Response:
        response = await self._send(method, path, content, limit)
        if not response.is_success:
            raise _refusal(response, f"{method} {path}")
        return response

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        limit: httpx.Timeout,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return await self._http.request(method, path, content=content, timeout=limit, headers=headers)
        except httpx.HTTPError as error:
            raise RuntimeUnavailable(f"{method} {path}: {_text(error)}") from error

    async def _download(self, path: str, limit: int) -> bytes:
        chunks = bytearray()
        try:
            async with self._http.stream("GET", path, timeout=self._slow) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refusal(response, path)
                async for chunk in response.aiter_bytes():
                    chunks += chunk
                    if len(chunks) > limit:
                        raise CandidateError(f"{path}: more than {limit} bytes")
        except httpx.HTTPError as error:
            raise RuntimeUnavailable(f"GET {path}: {_text(error)}") from error
        return bytes(chunks)

    def _see(self, instance: str) -> None:
        if instance == self.instance:
            return
        old, self.instance = self.instance, instance
        if self._on_instance is not None:
            self._on_instance(old, instance)


def _refusal(response: httpx.Response, what: str) -> RuntimeUnavailable | RuntimeRefused:
    text = response.text[:300] if response.is_closed or response.is_stream_consumed else ""
    message = f"{what}: HTTP {response.status_code} {text}"
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        said = response.headers.get("retry-after", "")
        return RuntimeBusy(message, min(float(said), LONGEST_RETRY_AFTER_S) if said.isdecimal() else 1.0)
    if response.is_server_error:
        return RuntimeUnavailable(message)
    return RuntimeRefused(message, response.status_code)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
