"""UE clients' reports to the runtime: a bounded queue in front of ``POST /semcom/v1/telemetry``."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import httpx
import msgspec

from codec_runtime.contract import paths
from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.contract.telemetry import (
    CapabilityReport,
    ClassifierCapability,
    DeviceClass,
    FailureReport,
    HeldDecoder,
    QualityReport,
)

logger = logging.getLogger(__name__)

Report = CapabilityReport | QualityReport | FailureReport


class Capability(NamedTuple):
    """Of a device class: decoder families (best first), sustained compute in GFLOP/s, battery, conventional
    codecs (best first)."""

    decoders: list[str]
    compute_gflops: float
    battery: float | None
    fallbacks: list[ConventionalCodec]


DEVICE_CAPABILITY: dict[DeviceClass, Capability] = {
    "mobile": Capability(["attention", "conv"], 120.0, 0.7, ["heic", "jpeg"]),
    "drone": Capability(["attention", "conv"], 60.0, 0.5, ["jpeg"]),
    "car": Capability(["attention", "conv"], 400.0, None, ["heic", "jpeg"]),
    "fixed": Capability(["conv"], 20.0, None, ["jpeg"]),
}
"""The fixed edge box runs the light decoder only."""


def capability_report(
    user: str,
    device_class: DeviceClass,
    time_ns: int,
    holds: Collection[tuple[str, int]] | None = None,
    classifier: ClassifierCapability | None = None,
) -> CapabilityReport:
    """What a device of this class says about itself; users of a class share content and updates.

    Args:
        holds: decoder versions on board, None for whatever the site serves.
        classifier: what it classifies pictures with.
    """
    decoders, compute, battery, fallbacks = DEVICE_CAPABILITY[device_class]
    return CapabilityReport(
        user=user,
        time_ns=time_ns,
        device_class=device_class,
        group=device_class,
        decoders=decoders,
        compute_gflops=compute,
        battery=battery,
        holds=None if holds is None else [HeldDecoder(family=f, version=v) for f, v in sorted(holds)],
        fallbacks=fallbacks,
        classifier=classifier,
    )


class ReportSender:
    """Sends reports in batches; when the runtime is away the oldest give way.

    Args:
        http: client whose base URL is the runtime.
        capacity: most reports waiting.
        interval_s: time between two batches.
        timeout_s: of one request.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        capacity: int = 2048,
        interval_s: float = 0.2,
        timeout_s: float = 5.0,
    ) -> None:
        self._http = http
        self._waiting: deque[Report] = deque()
        self._capacity = capacity
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self.sent = 0
        self.lost = 0
        self.up = True

    def put(self, report: Report) -> None:
        """Queue a report; never blocks."""
        if len(self._waiting) >= self._capacity:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(report)

    async def run(self) -> None:
        """Send until cancelled; waits up to 2 s between attempts while the runtime is away."""
        wait = self._interval_s
        while True:
            await asyncio.sleep(wait)
            wait = self._interval_s if await self.flush() else min(2.0 * wait, 2.0)

    async def flush(self) -> bool:
        """Send everything that waits; False when the runtime did not take it (it is kept)."""
        batch = list(self._waiting)
        if not batch:
            return True
        self._waiting.clear()
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(
                    paths.TELEMETRY,
                    content=msgspec.msgpack.encode(batch),
                    headers={"Content-Type": paths.MESSAGEPACK},
                )
        except (httpx.HTTPError, TimeoutError) as error:
            return self._refused(batch, str(error) or type(error).__name__, keep=True)
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(batch))
            raise
        if response.status_code >= 500 or response.status_code == 429:
            return self._refused(batch, f"HTTP {response.status_code}", keep=True)
        if response.status_code >= 400:
            # The same bytes would be refused again.
            return self._refused(batch, f"HTTP {response.status_code}: {response.text[:200]}", keep=False)
        if not self.up:
            logger.info("runtime takes telemetry reports again", extra={"waited": len(batch)})
        self.up = True
        self.sent += len(batch)
        return True

    def _refused(self, batch: list[Report], reason: str, *, keep: bool) -> bool:
        if self.up:
            logger.warning("runtime does not take telemetry reports", extra={"reason": reason})
        self.up = False
        room = self._capacity - len(self._waiting) if keep else 0
        self.lost += max(len(batch) - room, 0)
        if room > 0:
            self._waiting.extendleft(reversed(batch[-room:]))
        return False
