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
from xapp.alarm_rules import AlarmRules
from xapp.delivery.push import PushOptions
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DIRECTED
from xapp.e2_nodes import SUBMGR, E2Nodes
from xapp.http_api import create_http_app
from xapp.http_server import QuietServer, bound_socket
from xapp.ingest import IndicationIngest
from xapp.part_metrics import watch_parts
from xapp.persistence import StateKeeper
from xapp.policy.pair_watch import PairWatch
from xapp.policy.site_pools import SitePools
from xapp.process_state import restore_snapshot, take_snapshot
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
from xapp.rollout.actions import Delivery
from xapp.rollout.admin import AdminListener
from xapp.rollout.driver import RolloutDriver
from xapp.rollout.options import alignment_gate_settings, gate_settings, plan_settings
from xapp.rollout.population import population
from xapp.settings import XAppSettings
from xapp.site_reports import SiteReports
from xapp.sites import SharedParts, Sites
from xapp.split_loop import UsersByCut
from xapp.status import Status
from xapp.telemetry.user_table import UserTable
from xapp.updates.coordinator import UpdateCoordinator
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.federation import RoundSettings
from xapp.updates.planner import PlannerSettings, UpdatePlanner
from xapp.updates.restoration import LostBundles

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
        self.pools = SitePools(configured_policy(settings), max(len(settings.sites), 1))
        self.repository = TufRepository(settings.repository_path, settings.key_path, layout=DIRECTED)
        self.tuf_versions = self.repository.versions()
        self.planner = UpdatePlanner(
            PlannerSettings(
                budget_s=settings.update_budget_s,
                job_timeout_s=settings.update_budget_s * settings.job_timeout_factor + 30.0,
                collect_s=settings.update_collect_s,
                min_pictures=settings.update_min_pictures,
                cooldown_s=settings.update_cooldown_s,
                backoff_max_s=settings.update_backoff_max_s,
                min_gain_db=settings.min_gain_db,
            ),
            f"xapp-{self.instance}",
        )
        reports = SiteReports(self.planner)
        self.sites = Sites(
            SharedParts(
                settings=settings,
                table=self.table,
                status=self.status,
                pools=self.pools,
                issuer=f"xapp-{self.instance}",
                listener=reports,
                clock=self.clock,
                capabilities={},
            )
        )
        self.sdl = Sdl(namespace=settings.sdl_namespace, on_change=self._sdl_changed)
        self.rollouts = RolloutDriver(
            self.sites,
            self.repository,
            self.sdl,
            self.status,
            plan_settings(settings),
            gate_settings(settings),
            alignment_gates=alignment_gate_settings(settings),
            population=lambda order: population(self.table, self.sites, order),
            assign=self._assign,
            switched=self._switched,
            delivery=Delivery(PushOptions.of(settings), self.status.deliveries.on_progress),
        )
        self.coordinator = UpdateCoordinator(
            self.sites,
            self.repository,
            self.planner,
            self.table,
            self.status,
            rollouts=self.rollouts,
            make_detector=lambda: GroupDriftDetector(
                min_samples=settings.drift_min_samples, threshold=settings.drift_threshold
            ),
            rounds=RoundSettings.of(settings),
            min_gain_rsum=settings.min_gain_rsum,
        )
        reports.coordinator, reports.rollouts = self.coordinator, self.rollouts
        self.rnib_sdl = RnibSdl() if settings.discover else None
        self.keeper = StateKeeper(
            self.sdl,
            take=lambda: take_snapshot(self),
            restore=lambda snapshot: restore_snapshot(self, snapshot),
            period_s=settings.snapshot_period_s,
        )
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
        self.status.metrics.registry.register(UsersByCut([link.splits for link in self.sites.links]))
        self.pair_watch = PairWatch(self.table, self.status.events.add, self.status.metrics.registry)
        self.ingest = IndicationIngest(
            self.table,
            self.status,
            site_of=self.sites.by_meid,
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
        for link in self.sites.links:
            link.expect_peers()
        for peer in ("redis", SUBMGR):
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
        watch_parts(self, self.nodes, self.radio, control)

    def _work(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        assert self.nodes is not None
        assert self.radio is not None
        return [
            *(part for link in self.sites.links for part in link.work()),
            ("updates", self.coordinator.run),
            ("rollouts", self.rollouts.run),
            ("lost_bundles", LostBundles(self.sites, self.rollouts, self.status).run),
            ("admin", AdminListener(self.settings, self.rollouts).run),
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
                self.sites.capabilities.pop(user, None)
            for link in self.sites.links:
                link.forget_departed(self.clock())
            self.tuf_versions = await asyncio.to_thread(self.repository.versions)
            if self.nodes is not None:
                self.alarm_rules.look(self.nodes.subscriptions, self.platform.registration)
            self.pair_watch.look()
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
        if not all(await asyncio.gather(*(link.flush(DRAIN_S / 2) for link in self.sites.links))):
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
        await self.sites.close()

    def update_gauges(self) -> None:
        """Bring gauges up to date that nobody sets on the hot path."""
        metrics, table = self.status.metrics, self.table
        active = int(np.count_nonzero(table.active(self.clock(), self.settings.stale_after_s)))
        metrics.users.labels("active").set(active)
        metrics.users.labels("stale").set(len(table) - active)
        for name, count in table.out_of_range.items():
            metrics.out_of_range.labels(name).set(count)
        for link in self.sites.links:
            if link.controller.last is not None:
                metrics.mean_prefix.labels(link.label).set(link.controller.last.mean_prefix)
                metrics.predicted_miss.labels(link.label).set(link.controller.last.predicted_miss)

    def _reconfigure(self, settings: XAppSettings, changed: frozenset[str]) -> None:
        """Follow the live settings of a changed file. Raises ValueError, and then nothing changed."""
        self.pools.configure(configured_policy(settings))
        self.settings = settings
        for link in self.sites.links:
            link.controller.stale_after_s = settings.stale_after_s
            link.splits.controller.configure(settings.split, settings.stale_after_s)
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

    def _assign(self, site: str, group: str, family: str, version: int) -> None:
        """All users of a group at a site get a version from the next decision on."""
        self.coordinator.assign(site, group, family, version)

    def _switched(self, users: list[str]) -> None:
        """What was learned of their content was learned with another version."""
        rows = [row for row in map(self.table.row, users) if row is not None]
        self.table.forget_content(np.array(rows, np.int64))


def _version() -> str:
    try:
        return version("semcom-xapp")
    except PackageNotFoundError:
        return "unknown"
