"""A client's parts, wired: connection, heads, classifier, reports, and the two tasks that serve them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from codec_runtime.client.classifier import Device, Paced, SplitClassifier
from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import SiteError
from codec_runtime.client.heads import HeadStore
from codec_runtime.client.reports import ReportQueue
from codec_runtime.contract.telemetry import CapabilityReport

_LAST_REPORTS_S = 2.0


@dataclass(frozen=True)
class ClientSettings:
    """How a device reaches its site.

    Attributes:
        url: of the site's runtime.
        state: folder for heads and trusted metadata.
        trusted_root: pinned TUF ``root.json``; None: no heads, pictures are sent.
        site: its name, for the director's assignment.
        timeout_s: of a call with all attempts; attempt_s: of one.
        refresh_s: how often directives are asked for beside what answers tell.
    """

    url: str
    state: Path
    trusted_root: Path | None = None
    site: str = ""
    timeout_s: float = 10.0
    attempt_s: float = 5.0
    refresh_s: float = 5.0


@asynccontextmanager
async def classifying(
    settings: ClientSettings,
    device: Device,
    *,
    capability: CapabilityReport | None = None,
    heads: HeadStore | None = None,
    paced: Paced | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[SplitClassifier]:
    """A classifier that follows its directives and reports, until the block ends.

    Args:
        capability: reported at the start.
        heads: shared with others of this device; a store of its own if None.
        paced: see :data:`codec_runtime.client.classifier.Paced`.
        transport: of HTTP, e.g. one that emulates a link; tls: client certificate and CA of the site.

    Raises:
        SiteError: the site does not answer, or serves no classifier.
    """
    async with httpx.AsyncClient(
        base_url=settings.url, transport=transport, verify=tls if tls is not None else True,
        limits=httpx.Limits(max_connections=16),
    ) as http:
        connection = SiteConnection(http, timeout_s=settings.timeout_s, attempt_s=settings.attempt_s)
        if heads is None and settings.trusted_root is not None:
            heads = HeadStore(connection, settings.state, settings.trusted_root, settings.site)
        reports = ReportQueue(connection)
        if capability is not None:
            reports.add(capability)
        classifier = SplitClassifier(
            connection, heads, device, reports, refresh_s=settings.refresh_s, paced=paced
        )
        await classifier.refresh()
        tasks = [asyncio.create_task(classifier.run()), asyncio.create_task(reports.run())]
        try:
            yield classifier
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(SiteError, TimeoutError):
                async with asyncio.timeout(_LAST_REPORTS_S):
                    await reports.flush()
