"""The xApp process: wires transport, table, policy, actuator, updates and HTTP in one asyncio loop.

What the RIC platform asks of an xApp is in :mod:`xapp.ric_platform`, the E2 side in :mod:`xapp.e2_nodes`.
``XApp(settings)`` builds everything without I/O but the key and metadata files; ``run()`` serves until
``stop()``. Each long-running part is a task of its own; one that dies of a bug is logged, listed as the event
``task_failed``, and started again with a back-off: the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import uvicorn

import xapp.policy.rate  # noqa: F401  (registers the policies)
from codec_runtime.contract.directives import RejectedDirective
from xapp.actuator import Actuator
from xapp.alarm_rules import AlarmRules
from xapp.delivery.repository import TufRepository
from xapp.e2_nodes import SUBMGR, E2Nodes
from xapp.http_api import create_http_app
from xapp.http_server import QuietServer, bound_socket
from xapp.ingest import IndicationIngest
from xapp.persistence import Snapshot, StateKeeper
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.pools import PolicyPools
from xapp.radio_loop import RadioLoop
from xapp.ric.control import RicControl
from xapp.ric.rmr import messages
from xapp.ric.rmr.choose import choose_transport
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.transport import RmrTransport
from xapp.ric.rnib import RnibSdl
from xapp.ric.sdl import Sdl
from xapp.ric_platform import ConfigSource, RicPlatform, configured_policy
from xapp.rmr_dispatch import RmrDispatch
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
        source: where they came from; changes of it are followed.

    Raises:
        UnknownPolicyError, SigningKeyError, RepositoryStateError, TransportUnavailableError, OSError: the
            settings cannot be followed.
    """

    def __init__(self, settings: XAppSettings, source: ConfigSource | None = None) -> None:
        self.settings = settings
        self.source = source or ConfigSource()
        self.clock: Callable[[], float] = time.monotonic
        self.instance = secrets.token_hex(4)
        self.status = Status()
        self.table = UserTable(on_finding=self.status.events.add)
        self.catalog = DecoderCatalog()
        self.pools = PolicyPools(configured_policy(settings))
        self.controller = DirectiveController(self.table, self.catalog, self.pools, settings.stale_after_s)
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
        self.rnib_sdl = RnibSdl() if settings.discover else None
        self.keeper = StateKeeper(self.sdl, self._snapshot, self._restore, settings.snapshot_period_s)
        self.platform = RicPlatform(
            settings,
            self.source,
            self.status,
            self.sdl,
            self.pools,
            ready=self.reachable,
            on_reconfigured=self._reconfigure,
        )
        self.alarm_rules = AlarmRules(self.platform.alarms, self.status, self.table, self.clock)
        self.status.events.listener = self.alarm_rules.on_event
        self.ingest = IndicationIngest(
            self.table,
            self.controller,
            self.actuator,
            self.status,
            plan_of=lambda meid: self.nodes.plan(meid) if self.nodes is not None else None,
            on_indication=lambda meid, sub_id: (
                self.nodes is not None and self.nodes.on_indication(meid, sub_id)
            ),
        )
        self.transport_choice = choose_transport(settings.rmr_transport)
        self.nodes: E2Nodes | None = None
        self.radio: RadioLoop | None = None
        self.transport: RmrTransport | None = None
        self.http_port = settings.http_port
        self.probed = False
        self._stopping = asyncio.Event()
        for peer in ("runtime", "telemetry", "redis", SUBMGR):
            self.status.peers.expect(peer)
        self.status.metrics.build.info({"version": _version()})
        self.status.metrics.transport.info(
            {"name": self.transport_choice.name, "reason": self.transport_choice.reason}
        )

    def stop(self) -> None:
        """End :meth:`run` in good order; a second call changes nothing."""
        self._stopping.set()

    def reachable(self) -> bool:
        """Whether the platform's services can reach this pod: in a cluster, once its probe has succeeded."""
        probed = self.probed or not os.environ.get("KUBERNETES_SERVICE_HOST")
        return probed and not self.not_ready_reason()

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
        with bound_socket(settings.http_host, settings.http_port) as http_socket:
            self.http_port = http_socket.getsockname()[1]
            config = uvicorn.Config(
                create_http_app(self), log_config=None, access_log=False, lifespan="off", backlog=128
            )
            config.timeout_graceful_shutdown = 1
            server = QuietServer(config)
            await self._open_ric_side()
            assert self.transport is not None
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

    async def _open_ric_side(self) -> None:
        """RMR, and with its port what needs one: subscriptions, registration, control."""
        settings, choice = self.settings, self.transport_choice
        control = RicControl(
            lambda message: self.transport is not None and self.transport.send(message),
            requestor_id=settings.rc_requestor_id,
            on_event=self.status.events.add,
        )

        def answered(message: RmrMessage, received_ns: int) -> None:
            control.on_message(message, received_ns)

        dispatch = RmrDispatch(
            self.status,
            {
                messages.RIC_INDICATION: self.ingest.on_message,
                messages.A1_POLICY_REQ: self.platform.on_a1_request,
                messages.RIC_CONTROL_ACK: answered,
                messages.RIC_CONTROL_FAILURE: answered,
            },
        )
        _log.info("RMR transport chosen", extra={"transport": choice.name, "reason": choice.reason})
        self.transport = await choice.open(settings.rmr_host, settings.rmr_port, dispatch.on_message)
        self.nodes = E2Nodes(
            settings,
            self.sdl,
            self.status,
            self.table,
            rnib=self.rnib_sdl,
            rmr_port=self.transport.port,
            http_port=self.http_port,
            ready=self.reachable,
        )
        self.platform.connect(self.transport, self.http_port)
        self.radio = RadioLoop(
            settings, self.table, self.nodes.functions, self.ingest.users, control, clock=self.clock
        )
        self.nodes.on_reconnected = self.radio.slices.forget
        self._watch_counters(control)

    def _watch_counters(self, control: RicControl) -> None:
        transport, nodes, radio, platform = self.transport, self.nodes, self.radio, self.platform
        assert transport is not None
        assert nodes is not None
        assert radio is not None
        watch = self.status.metrics.parts.watch
        watch("rmr", lambda: transport.counters)
        watch("subscriptions", lambda: nodes.subscriptions.counters)
        watch("rnib", lambda: nodes.rnib.counters if nodes.rnib is not None else None)
        watch("metric_trust", lambda: self.table.sources.counters)
        watch("a1", lambda: platform.a1.handler.counters)
        watch("alarms", lambda: platform.alarms.counters)
        watch("config", lambda: platform.config.counters if platform.config is not None else None)
        watch("appmgr", lambda: platform.registration.counters if platform.registration else None)
        watch("control", lambda: control.counters)
        watch("slice_quotas", lambda: radio.slices.counters)

    def _work(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        assert self.nodes is not None
        assert self.radio is not None
        return [
            ("actuator", self.actuator.run),
            ("site", self.site_watch.watch_models),
            ("telemetry", self.site_watch.consume_telemetry),
            ("updates", self.coordinator.run),
            ("state", self.keeper.run),
            ("sdl", self.sdl.watch),
            ("subscriptions", self.nodes.run),
            ("radio_resources", self.radio.run),
            ("housekeeping", self._housekeeping),
            *self.platform.work(),
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
            if self.nodes is not None:
                self.alarm_rules.look(self.nodes.subscriptions, self.platform.registration)
            self.update_gauges()

    async def _drain(self, workers: list[asyncio.Task[None]]) -> None:
        """No new indications; what was decided is sent; subscriptions deleted; state written."""
        self.status.events.add("shutdown", "shutting down")
        assert self.transport is not None
        assert self.nodes is not None
        assert self.radio is not None
        await self.platform.leave(DRAIN_S / 2)
        by_name = {task.get_name(): task for task in workers}
        by_name["subscriptions"].cancel()
        await asyncio.wait([by_name["subscriptions"]], timeout=1.0)
        await self.nodes.close(DRAIN_S)
        await self.radio.slices.close()
        await self.transport.close()
        if self.status.peers.is_up("runtime") and not await self.actuator.flush(DRAIN_S / 2):
            _log.warning("directives were not all acknowledged before the shutdown")
        for task in workers:
            task.cancel()
        await asyncio.wait(workers, timeout=DRAIN_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.keeper.write(), DRAIN_S / 2)
        await self.platform.close()
        for layer in (self.sdl, self.rnib_sdl):
            if layer is not None:
                await layer.close()
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

    def _reconfigure(self, settings: XAppSettings, changed: frozenset[str]) -> None:
        """Follow the live settings of a changed file. Raises ValueError, and then nothing changed."""
        self.pools.configure(configured_policy(settings))
        self.settings = settings
        self.controller.stale_after_s = settings.stale_after_s
        logging.getLogger().setLevel(settings.log_level)
        if self.nodes is not None:
            self.nodes.configure(settings)
        if self.radio is not None:
            self.radio.configure(settings)
        self.status.events.add("reconfigured", f"settings in force: {', '.join(sorted(changed))}")

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
            subscriptions=self.nodes.phases() if self.nodes else {},
            tuf=self.tuf_versions,
        )

    def _restore(self, snapshot: Snapshot) -> None:
        self.planner.restore(snapshot.planner, self.clock())
        for group, family, number in snapshot.assigned:
            self.coordinator.assign(group, family, number)
        for report in snapshot.capabilities:
            if report.user not in self.site_watch.capabilities:
                self.site_watch.fold_capability(report)


def _version() -> str:
    try:
        return version("semcom-xapp")
    except PackageNotFoundError:
        return "unknown"
