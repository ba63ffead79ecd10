"""Where the wire transport's route table comes from: the seed file and the route manager.

``RMR_SEED_RT``     file with the first table. It is read again when it changes, until a route manager speaks
                    (librmr: once, or every minute where there is no route manager).
``RMR_RTG_SVC``     route manager: ``-1`` none; ``4561`` or ``tcp:4561`` it connects to this port;
                    ``host:port`` this process connects, and asks for a table until one arrives.
``RMR_CTL_PORT``    port on which the manager may connect, 4561 unless set. If it is set and ``RMR_RTG_SVC``
                    is not, the manager is ``routemgr:4561``.
``RMR_RTREQ_FREQ``  seconds between two requests, 1..300, else 5.

With neither ``RMR_RTG_SVC`` nor ``RMR_CTL_PORT``, librmr listens on 4561; here, nothing is opened: two
processes on one machine would collide. Set ``RMR_RTG_SVC=4561`` for the same.

Tables come in messages of type 20, whole records in each, over any connection; each finished table is
answered with type 22, ``OK`` or ``ERR``, its id and the reason, to the sender. The request is type 21 with
``<name> ts=<Unix seconds>``. Both texts end with a newline and a zero byte.

Source: librmr 4.9, ``rtc_static.c``, ``rt_generic_static.c`` (``send_update_req``, ``send_rt_ack``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.routes import RouteTable, RouteTableReader, TableOutcome, parse_endpoint
from xapp.ric.rmr.sender import RmrSender
from xapp.ric.rmr.server import FrameServer
from xapp.ric.rmr.transport import QuietLog, TransportCounters

CONTROL_PORT = 4561
MANAGER = "routemgr:4561"
_MAX_SEED_BYTES = 4 << 20
_BACKOFF_S = (0.5, 15.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Where route tables come from.

    Attributes:
        seed: file with the first table.
        control_port: port to listen on for the route manager; None: not. 0 takes a free one.
        manager: host and port of a route manager to ask.
        request_period_s: between two requests.
        reload_period_s: between two looks at the seed file.
    """

    seed: Path | None = None
    control_port: int | None = None
    manager: tuple[str, int] | None = None
    request_period_s: float = 5.0
    reload_period_s: float = 5.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> RoutingSettings:
        """As RMR's environment variables say.

        Raises:
            ValueError: names the variable that is malformed.
        """
        seed = environment.get("RMR_SEED_RT", "")
        service = environment.get("RMR_RTG_SVC", "").strip()
        control = environment.get("RMR_CTL_PORT", "").strip()
        port = _port("RMR_CTL_PORT", control) if control else CONTROL_PORT
        frequency = environment.get("RMR_RTREQ_FREQ", "").strip()
        period = int(frequency) if frequency.isdecimal() and 1 <= int(frequency) <= 300 else 5
        if not service:
            service = MANAGER if control else "-1"
        listen: int | None = port
        manager: tuple[str, int] | None = None
        if service.startswith("-"):
            listen = None
        elif ":" not in service or service.startswith("tcp:"):
            listen = _port("RMR_RTG_SVC", service.removeprefix("tcp:"))
        else:
            try:
                manager = parse_endpoint(service)
            except ValueError as error:
                raise ValueError(f"RMR_RTG_SVC: {error}, or a port, or -1") from error
        return cls(Path(seed) if seed else None, listen, manager, float(period))


class RouteSource:
    """Keeps the route table up to date.

    Args:
        reader: holds the table; its owner may share it.
        source: host part of this process's name.
        data_name: ``host:port`` of the data port, for requests.
    """

    def __init__(
        self,
        settings: RoutingSettings,
        reader: RouteTableReader,
        counters: TransportCounters,
        log: QuietLog,
        *,
        source: str,
        data_name: str,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._counters = counters
        self._log = log
        self._source = source
        self._data_name = data_name
        self._seed_text: str | None = None
        self._manager_spoke = asyncio.Event()
        self._server: FrameServer | None = None
        self._manager: RmrSender | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def table(self) -> RouteTable:
        """The table in force."""
        return self._reader.table

    @property
    def control_port(self) -> int:
        """Bound port for the route manager; 0 for none."""
        return self._server.port if self._server is not None else 0

    async def start(self, host: str) -> None:
        """Read the seed, then listen and ask. What fails is logged and counted: the xApp can do without."""
        settings = self._settings
        if settings.seed is not None:
            await self._load_seed(settings.seed)
            self._tasks.append(asyncio.create_task(self._watch_seed(settings.seed), name="rmr-seed"))
        if settings.control_port is not None:
            await self._listen(host, settings.control_port)
        if settings.manager is not None:
            name = f"{self._source}:{self.control_port or settings.control_port or CONTROL_PORT}"
            # Totals of its own: these are no messages of the xApp.
            self._manager = RmrSender(
                *settings.manager, name, "", 4, _BACKOFF_S, self.take, TransportCounters()
            )
            self._manager.start()
            self._tasks.append(asyncio.create_task(self._request(self._manager), name="rmr-routes"))

    async def close(self) -> None:
        """Stop all of it."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        if self._manager is not None:
            await self._manager.close()
        if self._server is not None:
            await self._server.close()

    def take(self, message: RmrMessage, received_ns: int) -> None:
        """A message from the route manager. Never raises an ``Exception``."""
        if message.mtype != messages.RMRRM_TABLE_DATA:
            self._log.warning("route type", "message type %d from the route manager", message.mtype)
            return
        self._manager_spoke.set()
        outcomes = self._feed(message.payload.decode("utf-8", "replace"), seed=False)
        for outcome in outcomes:
            state = "OK" if outcome.taken else "ERR"
            text = f"{state} {outcome.table_id[:256] or '<id-missing>'} {outcome.reason}\n\0"
            answer = RmrMessage(messages.RMRRM_TABLE_STATE, text.encode())
            if message.origin is not None:
                message.origin.send_back(message, answer)

    def _feed(self, text: str, *, seed: bool) -> list[TableOutcome]:
        outcomes = self._reader.feed(text, seed=seed)
        where = "seed" if seed else "route manager"
        for outcome in outcomes:
            if outcome.taken:
                self._counters.route_tables += 1
                table = self._reader.table
                _log.info(
                    "RMR route table taken from %s: %d routes, %d meids (%s)",
                    where, len(table.routes), len(table.owners), outcome.table_id,
                )  # fmt: skip
            else:
                self._counters.route_errors += 1
                self._log.warning("routes", "RMR route table from %s refused: %s", where, outcome.reason)
        for problem in self._reader.problems:
            self._counters.route_errors += 1
            self._log.warning("records", "RMR route record from %s left out: %s", where, problem)
        return outcomes

    async def _listen(self, host: str, port: int) -> None:
        server = FrameServer(self.take, TransportCounters(), self._log)
        try:
            await server.listen(host, port)
        except OSError as error:
            self._counters.route_errors += 1
            _log.error("RMR route port %d cannot be opened, tables are not received: %s", port, error)
            return
        server.source = f"{self._source}:{server.port}"
        self._server = server

    async def _load_seed(self, path: Path) -> None:
        try:
            text = await asyncio.to_thread(_read_text, path)
        except OSError as error:
            self._log.warning("seed", "RMR_SEED_RT %s cannot be read: %s", path, error)
            return
        if text == self._seed_text or self._manager_spoke.is_set():
            return
        self._seed_text = text
        if not self._feed(text, seed=True):
            self._counters.route_errors += 1
            self._log.warning("seed", "RMR_SEED_RT %s holds no table from newrt|start to newrt|end", path)

    async def _watch_seed(self, path: Path) -> None:
        while not self._manager_spoke.is_set():
            await asyncio.sleep(self._settings.reload_period_s)
            await self._load_seed(path)

    async def _request(self, manager: RmrSender) -> None:
        while not self._manager_spoke.is_set():
            if await manager.wait_connected(self._settings.request_period_s):
                text = f"{self._data_name} ts={int(time.time())}\n\0"
                manager.send(RmrMessage(messages.RMRRM_REQ_TABLE, text.encode(), sub_id=0))
            await asyncio.sleep(self._settings.request_period_s)


def _port(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"{variable}={text!r}: a port from 1 to 65535 is expected")
    return int(text)


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_SEED_BYTES).decode("utf-8", "replace")
