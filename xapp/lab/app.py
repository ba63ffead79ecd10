"""The lab process: E2 node, RIC platform services, users and their traffic in one asyncio loop.

What takes long (channel model, pictures, quality) runs in threads, so that reports leave every period
whatever the traffic does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn
from prometheus_client import start_http_server

from xapp.http_server import QuietServer
from xapp.lab.aligning import AligningUsers
from xapp.lab.cell import Cell
from xapp.lab.classifying import ClassifyingUsers
from xapp.lab.e2_node import E2Node
from xapp.lab.metrics import LabMetrics
from xapp.lab.observation import lab_state, timeline_sample
from xapp.lab.peers import Peer
from xapp.lab.pictures import PictureLibrary, load_library
from xapp.lab.platform import LabPlatform, PolicyTypeError
from xapp.lab.records import STATE_FILE, TIMELINE_FILE, JsonLines, write_state
from xapp.lab.settings import LabSettings
from xapp.lab.trace import TraceError
from xapp.lab.traffic import Traffic

logger = logging.getLogger(__name__)

DRAIN_S = 8.0
"""How long transmissions in flight may take after SIGTERM."""

_TIMELINE_PERIOD_S = 0.5
_STATE_PERIOD_S = 1.0
_PEER_SILENCE_S = 1.0


class Lab:
    """Everything of one lab process; :meth:`run` until :meth:`stop`.

    Args:
        settings: of the lab.
        cell, library: given by tests; None for what the settings say.

    Raises:
        TraceError, FileNotFoundError: trace or photographs of the settings are not usable.
    """

    def __init__(
        self, settings: LabSettings, *, cell: Cell | None = None, library: PictureLibrary | None = None
    ) -> None:
        self.settings = settings
        self.metrics = LabMetrics()
        self.library = library or load_library(settings.images, settings.picture_size)
        self.metrics.unreadable.set(self.library.unreadable)
        self.cell = cell or Cell(settings)
        self.node = E2Node(settings.e2_node_id, plmn=settings.plmn)
        self.xapp = Peer("xapp", self.metrics)
        self.traffic: Traffic | None = None
        self.broken = False
        self.started = time.monotonic()
        self._stopping = asyncio.Event()
        self._channel_thread = ThreadPoolExecutor(1, "channel", initializer=lambda: torch.set_num_threads(1))
        self._indications_seen = self._dropped_seen = 0
        self._last_sent = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of :meth:`run`."""
        return time.monotonic() - self.started

    def stop(self) -> None:
        """Finish what is in flight and return from :meth:`run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until :meth:`stop` or until the duration of the settings is over.

        Raises:
            OSError: an address is taken, or the policy type cannot be read.
            PolicyTypeError: it is none.
        """
        settings = self.settings
        platform = LabPlatform(settings, self.node)
        try:
            app = await platform.create_app()
            # Not uvicorn's own: that ends the process when the address is taken.
            listener = socket.create_server((settings.submgr_host, settings.submgr_port), backlog=128)
        except (OSError, PolicyTypeError):
            await platform.close()
            raise
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        server = QuietServer(config)
        self.started = time.monotonic()
        limits = httpx.Limits(max_connections=settings.max_in_flight + 2)
        async with httpx.AsyncClient(
            base_url=settings.runtime_url, timeout=settings.request_timeout_s, limits=limits, trust_env=False
        ) as http:
            tasks = [
                asyncio.create_task(server.serve(sockets=[listener])),
                asyncio.create_task(self._guarded("report", self._report())),
                asyncio.create_task(self._guarded("observe", self._observe())),
                asyncio.create_task(self._guarded("rnib", platform.keep_in_rnib())),
            ]
            traffic_task = None
            if settings.traffic:
                self.traffic = Traffic(
                    settings, self.cell, self.library, self.metrics, started=self.started, http=http
                )
                traffic_task = asyncio.create_task(self._guarded("traffic", self.traffic.run()))
                if settings.classifiers:
                    users = ClassifyingUsers(settings, self.cell, self.library, self.started)
                    tasks.append(asyncio.create_task(self._guarded("classifying", users.run())))
                if settings.aligners:
                    aligning = AligningUsers(settings, self.cell, self.started)
                    tasks.append(asyncio.create_task(self._guarded("aligning", aligning.run())))
            logger.info(
                "lab runs",
                extra={
                    "users": settings.users,
                    "subscription_manager": f"{settings.submgr_host}:{listener.getsockname()[1]}",
                    "photographs": len(self.library.names),
                },
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), settings.duration_s or None)
            logger.info("lab stops: finishing what is in flight")
            await self._finish_traffic(traffic_task)
            server.should_exit = True
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await platform.close()
        await self.node.close()
        self._channel_thread.shutdown(wait=True)
        self._write_state()

    async def _finish_traffic(self, task: asyncio.Task[None] | None) -> None:
        if task is None or self.traffic is None:
            return
        self.traffic.stop()
        done, _ = await asyncio.wait({task}, timeout=DRAIN_S)
        if not done:
            logger.warning("transmissions in flight given up", extra={"after_s": DRAIN_S})
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A task that dies stops the lab, loudly: a lab that silently does half its work misleads."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            self.metrics.errors.labels(name).inc()
            logger.exception("lab task died", extra={"task": name})
            self.broken = True
            self._stopping.set()

    async def _report(self) -> None:
        """Advance the channel and report it, once a period; a period that was missed is skipped."""
        period = self.settings.report_period_ms / 1e3
        loop = asyncio.get_running_loop()
        due = time.monotonic()
        while True:
            begin = time.perf_counter()
            await loop.run_in_executor(self._channel_thread, self.cell.step, period, self.elapsed_s)
            self.metrics.step.observe(time.perf_counter() - begin)
            try:
                self.node.report(self.cell.measurements(), time.time())
            except Exception:
                self.metrics.errors.labels("report").inc()
                logger.exception("report was not sent")
            self._note_xapp()
            due += period
            behind = time.monotonic() - due
            if behind > period:
                missed = int(behind / period)
                self.metrics.late.inc(missed)
                due += missed * period
            await asyncio.sleep(max(due - time.monotonic(), 0.0))

    def _note_xapp(self) -> None:
        sent, dropped = self.node.indications_sent, self.node.indications_dropped
        self.metrics.indications.inc(max(sent - self._indications_seen, 0))
        self.metrics.indications_dropped.inc(max(dropped - self._dropped_seen, 0))
        now = time.monotonic()
        if sent > self._indications_seen:
            self._last_sent = now
        self._indications_seen, self._dropped_seen = sent, dropped
        self.xapp.note(now - self._last_sent < _PEER_SILENCE_S, "no indication taken by a subscriber")

    async def _observe(self) -> None:
        """Time line at 2 Hz, live state each second."""
        with JsonLines(Path(self.settings.out) / TIMELINE_FILE) as timeline:
            next_state = 0.0
            while True:
                last = self.traffic.last if self.traffic else {}
                timeline.write(timeline_sample(self.cell, last, self.elapsed_s))
                for index, user in enumerate(self.cell.users):
                    self.metrics.snr.labels(user).set(self.cell.snr_db(index))
                if self.elapsed_s >= next_state:
                    next_state = self.elapsed_s + _STATE_PERIOD_S - 0.5 * _TIMELINE_PERIOD_S
                    self._write_state()
                await asyncio.sleep(_TIMELINE_PERIOD_S)

    def _write_state(self) -> None:
        write_state(
            Path(self.settings.out) / STATE_FILE,
            lab_state(
                self.cell,
                self.library,
                self.traffic,
                self.elapsed_s,
                indications_sent=self.node.indications_sent,
                e2_connected=self.xapp.up,
            ),
        )


def run_lab(settings: LabSettings) -> int:
    """Run the lab until SIGTERM, SIGINT or the end of its duration.

    Returns:
        Exit code: 0 after an orderly end, 1 after a defect, 2 if it could not start (the log says why).
    """
    torch.set_num_threads(1)
    try:
        lab = Lab(settings)
        start_http_server(settings.metrics_port, settings.metrics_host, registry=lab.metrics.registry)
        asyncio.run(_run_with_signals(lab))
    except (TraceError, PolicyTypeError, OSError) as error:
        logger.error("lab cannot start", extra={"error": str(error)})
        return 2
    return int(lab.broken)


async def _run_with_signals(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.stop)
    await lab.run()
