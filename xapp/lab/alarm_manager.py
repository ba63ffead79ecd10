"""An emulated OSC alarm manager: an RMR port that takes alarms, and its REST side.

As the real one (ric-plt/alarm-go, ``manager/cmd``): RMR type 13111 and no other; an alarm without a
definition is dropped; RAISE of an active alarm is ignored unless its severity differs, CLEAR of an unknown
one too; it answers nothing. Definitions posted to it live in memory and are gone after a restart. (The real
one keeps active alarms in a file, where it has a volume for it; here they are gone too.)
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xapp.http_server import read_body
from xapp.ric.alarms import RIC_ALARM_UPDATE
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.wire import WireTransport

MAX_ACTIVE: Final = 1000
_MAX_BODY_BYTES: Final = 1 << 20

_log = logging.getLogger(__name__)


class _Alarm(msgspec.Struct):
    managedObjectId: str
    applicationId: str
    specificProblem: int
    perceivedSeverity: str
    identifyingInfo: str
    AlarmAction: str
    AlarmTime: int
    additionalInfo: str = ""

    @property
    def identity(self) -> tuple[str, str, int, str]:
        return self.managedObjectId, self.applicationId, self.specificProblem, self.identifyingInfo


class _Definition(msgspec.Struct):
    alarmId: int
    alarmText: str = ""
    eventType: str = ""


class _Definitions(msgspec.Struct):
    alarmdefinitions: list[_Definition]


class LabAlarmManager:
    """See the module docstring. Make one with :meth:`start`.

    Attributes:
        definitions: by number. active: alarms by identity.
        taken, undefined, malformed: messages by what became of them; ``taken`` counts repetitions too.
        lose: so many messages are received and forgotten.
    """

    def __init__(self) -> None:
        self.definitions: dict[int, _Definition] = {}
        self.active: dict[tuple[str, str, int, str], _Alarm] = {}
        self.taken = self.undefined = self.malformed = 0
        self.lose = 0
        self._host = ""
        self._transport: WireTransport | None = None

    @classmethod
    async def start(cls, host: str = "127.0.0.1", port: int = 0) -> LabAlarmManager:
        """Open the RMR port.

        Raises:
            OSError: the address cannot be bound.
        """
        manager = cls()
        manager._host = host
        manager._transport = await WireTransport.listen(host, port, manager._consume, source="alarmmanager")
        return manager

    @property
    def port(self) -> int:
        """The RMR port; 0 while it is away."""
        return 0 if self._transport is None else self._transport.port

    async def restart(self, *, keep_definitions: bool = False) -> None:
        """Lose connections, alarms and, unless its own file has them, definitions; the same port again."""
        port = self.port
        await self.close()
        self.active.clear()
        if not keep_definitions:
            self.definitions.clear()
        self._transport = await WireTransport.listen(self._host, port, self._consume, source="alarmmanager")

    async def close(self) -> None:
        """Close the port."""
        if self._transport is not None:
            await self._transport.close()
            self._transport = None

    def define(self, body: bytes) -> None:
        """Take definitions; one that exists stays as it is.

        Raises:
            msgspec.DecodeError: they are none.
        """
        for definition in msgspec.json.decode(body, type=_Definitions).alarmdefinitions:
            self.definitions.setdefault(definition.alarmId, definition)

    def create_app(self) -> Starlette:
        """Its REST interface."""
        return Starlette(
            routes=[
                Route("/ric/v1/alarms/active", self._list),
                Route("/ric/v1/alarms/define", self._define, methods=["POST"]),
            ]
        )

    async def _list(self, _request: Request) -> Response:
        return JSONResponse([self._notification(alarm) for alarm in self.active.values()])

    def _notification(self, alarm: _Alarm) -> dict[str, Any]:
        definition = self.definitions[alarm.specificProblem]
        return {**msgspec.to_builtins(alarm), **msgspec.to_builtins(definition)}

    async def _define(self, request: Request) -> Response:
        try:
            self.define(await read_body(request, _MAX_BODY_BYTES))
        except ValueError as error:
            return JSONResponse({"error": f"Invalid data in request body. {error}"}, 400)
        return Response()

    def _consume(self, message: RmrMessage, _received_ns: int) -> None:
        if self.lose > 0:
            self.lose -= 1
            return
        if message.mtype != RIC_ALARM_UPDATE:
            _log.info("unknown message type %d, discarded", message.mtype)
            return
        try:
            alarm = msgspec.json.decode(message.payload, type=_Alarm)
        except msgspec.DecodeError as error:
            self.malformed += 1
            _log.warning("alarm is malformed: %s", error)
            return
        if alarm.specificProblem not in self.definitions:
            self.undefined += 1
            return
        self.taken += 1
        if alarm.AlarmAction == "CLEAR":
            self.active.pop(alarm.identity, None)
        elif alarm.AlarmAction == "RAISE" and len(self.active) < MAX_ACTIVE:
            known = self.active.get(alarm.identity)
            if known is None or known.perceivedSeverity != alarm.perceivedSeverity:
                self.active[alarm.identity] = alarm
