"""The xApp process: wires transport, table, policy, actuator, updates and HTTP in one asyncio loop.

``XApp(settings)`` builds everything without I/O but the key and metadata files; ``run()`` serves until
``stop()``. Each long-running part is a task of its own; one that dies of a bug is logged, listed as the event
``task_failed``, and started again with a back-off: the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import uvicorn
import uvloop

import xapp.policy.rate  # noqa: F401  (registers the policies)
from codec_runtime.contract.directives import RejectedDirective
from xapp.actuator import Actuator
from xapp.delivery.repository import TufRepository
from xapp.e2_subscriptions import SUBMGR, E2Subscriptions
from xapp.http_api import QuietServer, create_http_app
from xapp.ingest import IndicationIngest
from xapp.persistence import Snapshot, StateKeeper
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.decision import make_policy
from xapp.ric.rmr.wire import WireTransport
from xapp.ric.sdl import Sdl
from xapp.runtime_client import RuntimeClient, tls_context
from xapp.settings import XAppSettings
from xapp.site_watch import SiteWatch
from xapp.status import Status
from xapp.telemetry.user_table import UserTable
from xapp.updates.coordinator import UpdateCoordinator
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.planner import PlannerSettings, UpdatePlanner

_log = logging.getLogger(__name__)

DRAIN_S = 4.0
"""Longest time each step of a shutdown may take."""

_RESTART_BACKOFF_S = (0.2, 10.0)


class XApp:
    """One xApp process (module docstring).

    Args:
        settings: see :class:`xapp.settings.XAppSettings`.

    Raises:
        UnknownPolicyError, SigningKeyError, RepositoryStateError, OSError: the settings cannot be followed.
    """

    def __init__(self, settings: XAppSettings) -> None:
        self.settings = settings
        self.clock: Callable[[], float] = time.monotonic
        self.instance = secrets.token_hex(4)
        self.status = Status()
        self.table = UserTable()
        self.catalog = DecoderCatalog()
        policy = make_policy(
            settings.policy,
            {
                "quality_target_db": settings.quality_target_db,
                "budget_prefix": settings.budget_prefix,
                **settings.policy_parameters,
            },
        )
        self.controller = DirectiveController(self.table, self.catalog, policy, settings.stale_after_s)
        self.repository = TufRepository(settings.repository_path, settings.key_path)
        self.tuf_versions = self.repository.versions()
        self.planner = UpdatePlanner(
            PlannerSettings(
                budget_s=settings.update_budget_s,
                job_timeout_s=settings.update_budget_s * settings.job_timeout_factor + 30.0,
                collect_s=settings.update_collect_s,
                cooldown_s=settings.update_cooldown_s,
                backoff_max_s=settings.update_backoff_max_s,
                min_gain_db=settings.min_gain_db,
            ),
            f"xapp-{self.instance}",
        )
        self.client = RuntimeClient(
            settings.runtime_url,
            timeout_s=settings.runtime_timeout_s,
            verify=tls_context(settings.tls_ca, settings.tls_cert, settings.tls_key),
            on_instance=self._instance_changed,
        )
        self.coordinator = UpdateCoordinator(
            self.client,
            self.repository,
            self.planner,
            self.catalog,
            self.table,
            self.status,
            make_detector=lambda: GroupDriftDetector(
                min_samples=settings.drift_min_samples, threshold=settings.drift_threshold
            ),
        )
        self.actuator = Actuator(
            self.client,
            f"xapp-{self.instance}",
            self.status,
            full=self.controller.full,
            on_rejected=self._rejected,
        )
        self.site_watch = SiteWatch(
            self.client,
            self.coordinator,
            self.catalog,
            self.table,
            self.status,
            on_restart=self.actuator.resend_all,
        )
        self.sdl = Sdl(namespace=settings.sdl_namespace, on_change=self._sdl_changed)
        self.keeper = StateKeeper(self.sdl, self._snapshot, self._restore, settings.snapshot_period_s)
        self.ingest = IndicationIngest(
            self.table,
            self.controller,
            self.actuator,
            self.status,
            e2_nodes=settings.meids,
            on_indication=self._indication,
        )
        self.subscriptions: E2Subscriptions | None = None
        self.transport: WireTransport | None = None
        self.http_port = settings.http_port
        self._stopping = asyncio.Event()
        for peer in ("runtime", "telemetry", "redis", SUBMGR):
            self.status.peers.expect(peer)
        self.status.metrics.build.info({"version": _version()})

    def stop(self) -> None:
        """End :meth:`run` in good order; a second call changes nothing."""
        self._stopping.set()

    def not_ready_reason(self) -> str:
        """Why the readiness probe fails; empty when it does not."""
        if self._stopping.is_set():
            return "shutting down"
        return "" if self.transport is not None else "the RMR port is not open yet"

    async def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            OSError: a port cannot be bound.
        """
        settings = self.settings
        with _bound(settings.http_host, settings.http_port) as http_socket:
            self.http_port = http_socket.getsockname()[1]
            config = uvicorn.Config(
                create_http_app(self), log_config=None, access_log=False, lifespan="off", backlog=128
            )
            config.timeout_graceful_shutdown = 1
            server = QuietServer(config)
            self.transport = await WireTransport.listen(
                settings.rmr_host, settings.rmr_port, self.ingest.on_message
            )
            self.subscriptions = E2Subscriptions(
                settings, self.sdl, self.status, rmr_port=self.transport.port, http_port=self.http_port
            )
            _log.info("xApp listens", extra={"rmr_port": self.transport.port, "http_port": self.http_port})
            # What lives from here on is mostly short-lived: keep the collector off the start-up objects.
            gc.collect()
            gc.freeze()
            web = asyncio.create_task(server.serve(sockets=[http_socket]), name="http")
            workers = [
                asyncio.create_task(self._keep_running(name, work), name=name) for name, work in self._work()
            ]
            try:
                await self._stopping.wait()
            finally:
                await self._drain(workers)
                server.should_exit = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(web, DRAIN_S)

    def _work(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        assert self.subscriptions is not None
        return [
            ("actuator", self.actuator.run),
            ("site", self.site_watch.watch_models),
            ("telemetry", self.site_watch.consume_telemetry),
            ("updates", self.coordinator.run),
            ("state", self.keeper.run),
            ("sdl", self.sdl.watch),
            ("subscriptions", self.subscriptions.run),
            ("housekeeping", self._housekeeping),
        ]

    async def _keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        wait, longest = _RESTART_BACKOFF_S
        while True:
            try:
                await work()
            except Exception as error:
                _log.exception("task failed and is started again", extra={"task": name})
                self.status.events.add("task_failed", f"{name}: {type(error).__name__}: {error}", task=name)
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for user in self.table.remove_silent(self.clock(), self.settings.remove_after_s):
                self.site_watch.capabilities.pop(user, None)
            self.tuf_versions = await asyncio.to_thread(self.repository.versions)
            self.update_gauges()

    async def _drain(self, workers: list[asyncio.Task[None]]) -> None:
        """No new indications; what was decided is sent; subscriptions deleted; state written."""
        self.status.events.add("shutdown", "shutting down")
        assert self.transport is not None
        assert self.subscriptions is not None
        by_name = {task.get_name(): task for task in workers}
        by_name["subscriptions"].cancel()
        await asyncio.wait([by_name["subscriptions"]], timeout=1.0)
        await self.subscriptions.close(DRAIN_S)
        await self.transport.close()
        if self.status.peers.is_up("runtime") and not await self.actuator.flush(DRAIN_S / 2):
            _log.warning("directives were not all acknowledged before the shutdown")
        for task in workers:
            task.cancel()
        await asyncio.wait(workers, timeout=DRAIN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.keeper.write(), DRAIN_S / 2)
        await self.sdl.close()
        await self.client.close()

    def update_gauges(self) -> None:
        """Bring gauges up to date that nobody sets on the hot path."""
        metrics, table = self.status.metrics, self.table
        active = int(np.count_nonzero(table.active(self.clock(), self.settings.stale_after_s)))
        metrics.users.labels("active").set(active)
        metrics.users.labels("stale").set(len(table) - active)
        for name, count in table.out_of_range.items():
            metrics.out_of_range.labels(name).set(count)
        if self.controller.last is not None:
            metrics.mean_prefix.set(self.controller.last.mean_prefix)
            metrics.predicted_miss.set(self.controller.last.predicted_miss)

    # The client and the actuator are built before the site watch that they report to.
    def _instance_changed(self, old: str, new: str) -> None:
        self.site_watch.on_instance(old, new)

    def _rejected(self, rejected: list[RejectedDirective]) -> None:
        self.site_watch.on_rejected(rejected)

    def _indication(self, meid: str, sub_id: int) -> None:
        if self.subscriptions is not None:
            self.subscriptions.on_indication(meid, sub_id)

    def _sdl_changed(self, available: bool, detail: str) -> None:
        if available:
            self.status.peers.up("redis")
        else:
            self.status.peers.down("redis", detail)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            written_ns=time.time_ns(),
            instance=self.instance,
            assigned=[(group, family, number) for (group, family), number in self.catalog.assigned.items()],
            planner=self.planner.snapshot(self.clock()),
            capabilities=list(self.site_watch.capabilities.values()),
            subscriptions=self.subscriptions.phases() if self.subscriptions else {},
            tuf=self.tuf_versions,
        )

    def _restore(self, snapshot: Snapshot) -> None:
        self.planner.restore(snapshot.planner, self.clock())
        for group, family, number in snapshot.assigned:
            self.coordinator.assign(group, family, number)
        for report in snapshot.capabilities:
            if report.user not in self.site_watch.capabilities:
                self.site_watch.fold_capability(report)


def run_xapp(settings: XAppSettings) -> int:
    """Run an xApp until SIGTERM or SIGINT.

    Returns:
        Exit code: 0 after an orderly end, 2 when the settings cannot be followed or a port is taken.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except (OSError, ValueError, RuntimeError) as error:
        _log.error("xApp cannot run", extra={"reason": f"{type(error).__name__}: {error}"})
        return 2
    return 0


async def _serve(settings: XAppSettings) -> None:
    xapp_process = XApp(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, xapp_process.stop)
    await xapp_process.run()


def _bound(host: str, port: int) -> socket.socket:
    """A listening-to-be TCP socket; the context manager closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"HTTP {host}:{port}: {error.strerror}") from error
    return bound


def _version() -> str:
    try:
        return version("semcom-xapp")
    except PackageNotFoundError:
        return "unknown"
