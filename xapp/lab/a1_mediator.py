"""An emulated OSC A1 mediator: RMR towards one xApp. Its REST side is :mod:`xapp.lab.a1_rest`.

As the real one (ric-plt/a1, Go): every request value is a string; the RMR subscription id is the policy
type; an instance is checked against ``create_schema`` before it is sent; a query is answered by one CREATE
per instance, by nothing when there is none; instances and statuses outlive a restart. A response whose
``policy_type_id`` is no JSON number, or that lacks one of its strings, panics it: the text is kept in
:attr:`A1Mediator.panics`, its connections are closed, and it starts anew. ``legacy`` makes it the Python
mediator before 2022, which sends numbers and objects, answers queries on their own connection, and drops a
bad response.

It misbehaves on request (:class:`Misbehaviour`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xapp.ric.a1.messages import LARGEST_TYPE_ID, encode_request
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import FrameReader, RmrFrameError, RmrMessage, encode_frame

_MAX_TYPES, _MAX_INSTANCES, _QUEUE_FRAMES, _KEPT_RESPONSES = 100, 1000, 1024, 1000
_CONNECT_TIMEOUT_S = 2.0
_BACKOFF_S = (0.05, 1.0)

_log = logging.getLogger(__name__)

SchemaCheck = Callable[[Any, Any], str]
"""Called with an instance and a JSON schema; what is wrong, empty for nothing."""


def check_with_jsonschema(instance: Any, schema: Any) -> str:
    """A :data:`SchemaCheck`; without the package jsonschema (it comes with ``dev``) everything passes."""
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError:
        _log.warning("jsonschema is not installed: A1 instances are not checked by the mediator")
        return ""
    found = next(jsonschema.Draft7Validator(schema).iter_errors(instance), None)
    return "" if found is None else str(found.message)


@dataclass(slots=True)
class Misbehaviour:
    """What goes wrong from now on; fields may be changed at any time.

    Attributes:
        duplicate: every request is sent twice. hold: a request is kept back and sent after the next one.
        lose: so many requests are not sent. delay_s: before every request.
        unavailable: so many REST calls are answered 503. raw: payloads sent as requests before the next one.
        half_close: after the next request the sending side of the connection is closed.
    """

    duplicate: bool = False
    hold: bool = False
    lose: int = 0
    delay_s: float = 0.0
    unavailable: int = 0
    raw: list[bytes] = field(default_factory=list)
    half_close: bool = False


class A1Mediator:
    """See the module docstring. Make one with :meth:`start`.

    Attributes:
        types: policy type bodies. instances: contents by (type, instance). statuses: last status by the same.
        responses: the last responses, as they came. panics: why it stopped. dropped: messages it did not
        take.
        misbehaviour: see :class:`Misbehaviour`.
    """

    def __init__(self, xapp_host: str, xapp_port: int, *, legacy: bool, check: SchemaCheck) -> None:
        self.types: dict[int, dict[str, Any]] = {}
        self.instances: dict[tuple[int, str], Any] = {}
        self.statuses: dict[tuple[int, str], str] = {}
        self.responses: deque[dict[str, Any]] = deque(maxlen=_KEPT_RESPONSES)
        self.panics: list[str] = []
        self.dropped = 0
        self.queries = 0
        self.misbehaviour = Misbehaviour()
        self.port = 0
        self._xapp = xapp_host, xapp_port
        self._legacy = legacy
        self._check = check
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE_FRAMES)
        self._held: bytes | None = None
        self._host = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        xapp_host: str,
        xapp_port: int,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        legacy: bool = False,
        check: SchemaCheck = check_with_jsonschema,
    ) -> A1Mediator:
        """Open the RMR port and begin to connect to the xApp's.

        Raises:
            OSError: the address cannot be bound.
        """
        mediator = cls(xapp_host, xapp_port, legacy=legacy, check=check)
        mediator._host, mediator.port = host, port
        await mediator._listen()
        mediator._task = asyncio.create_task(mediator._send_all(), name="a1-mediator")
        return mediator

    async def close(self) -> None:
        """Close every connection and the port."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._hang_up()

    async def restart(self, away_s: float = 0.0) -> None:
        """Lose all connections and what was queued, not what is stored; the same port again after
        ``away_s``."""
        self._hang_up()
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        await asyncio.sleep(away_s)
        await self._listen()

    def put_type(self, policy_type_id: int, body: dict[str, Any]) -> str:
        """Create a policy type; what is wrong, empty for nothing."""
        fields = {"name": str, "description": str, "policy_type_id": int, "create_schema": dict}
        if not 1 <= policy_type_id <= LARGEST_TYPE_ID:
            return f"policy_type_id {policy_type_id}: 1..{LARGEST_TYPE_ID} is needed"
        if set(body) != set(fields) or not all(isinstance(body[key], kind) for key, kind in fields.items()):
            return f"the body needs {', '.join(fields)}, and nothing else"
        if body["policy_type_id"] != policy_type_id:
            return "Policytype Mismatch"
        if policy_type_id in self.types or len(self.types) >= _MAX_TYPES:
            return "Policy Type already exists"
        if "`" in json.dumps(body):  # the real one stores it, and cannot read it back (a Go raw string)
            return "a backtick makes the policy type unreadable"
        self.types[policy_type_id] = body
        return ""

    def put_instance(self, policy_type_id: int, instance_id: str, content: Any) -> str:
        """Create or replace an instance and tell the xApp; what is wrong, empty for nothing.

        Raises:
            LookupError: there is no such type.
        """
        wrong = self._check(content, self.types[policy_type_id]["create_schema"])
        if wrong:
            return wrong
        key = policy_type_id, instance_id
        operation = "UPDATE" if key in self.instances else "CREATE"
        if operation == "CREATE" and len(self.instances) >= _MAX_INSTANCES:
            return f"{_MAX_INSTANCES} instances exist"
        self.instances[key] = content
        self._send(self._request(operation, *key, content))
        return ""

    def delete_instance(self, policy_type_id: int, instance_id: str) -> None:
        """Forget an instance and tell the xApp.

        Raises:
            LookupError: there is no such instance.
        """
        del self.instances[policy_type_id, instance_id]
        self._send(self._request("DELETE", policy_type_id, instance_id, None))

    def status(self, policy_type_id: int, instance_id: str) -> dict[str, str]:
        """Enforcement status, as the REST side tells it."""
        if self.statuses.get((policy_type_id, instance_id)) == "OK":
            return {"enforceStatus": "ENFORCED", "enforceReason": ""}
        return {"enforceStatus": "NOT_ENFORCED", "enforceReason": "OTHER_REASON"}

    def _request(self, operation: str, policy_type_id: int, instance_id: str, content: Any) -> RmrMessage:
        if self._legacy:
            payload = json.dumps(
                {
                    "operation": operation,
                    "policy_type_id": policy_type_id,
                    "policy_instance_id": instance_id,
                    "payload": content,
                }
            ).encode()
        else:
            text = "" if content is None else json.dumps(content, separators=(",", ":"))
            payload = encode_request(operation, policy_type_id, instance_id, text)
        source = f"{self._host}:{self.port}"
        return RmrMessage(messages.A1_POLICY_REQ, payload, sub_id=policy_type_id, src=source)

    def _send(self, message: RmrMessage) -> None:
        if self.misbehaviour.lose > 0:
            self.misbehaviour.lose -= 1
            return
        raw = [RmrMessage(messages.A1_POLICY_REQ, payload) for payload in self.misbehaviour.raw]
        self.misbehaviour.raw = []
        frames = [encode_frame(each) for each in (*raw, message)]
        if self.misbehaviour.duplicate:
            frames.append(frames[-1])
        if self.misbehaviour.hold and self._held is None:
            self._held = frames.pop()
        elif self._held is not None:
            frames.append(self._held)
            self._held = None
        for frame in frames:
            if self._outgoing.full():
                self.dropped += 1
            else:
                self._outgoing.put_nowait(frame)

    async def _send_all(self) -> None:
        """Connect to the xApp, send what is queued, read what comes back; again when the connection is
        lost."""
        delay = _BACKOFF_S[0]
        frame: bytes | None = None
        while True:
            if frame is None:
                frame = await self._outgoing.get()
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(*self._xapp)
            except (OSError, TimeoutError):
                self.dropped += 1  # as librmr: no connection, no delivery
                frame = None
                await asyncio.sleep(delay)
                delay = min(2 * delay, _BACKOFF_S[1])
                continue
            delay = _BACKOFF_S[0]
            answers = asyncio.create_task(self._receive(reader, writer))
            try:
                frame = await self._pump(frame, writer, answers)
            except OSError:
                self.dropped += 1
                frame = None
            finally:
                answers.cancel()
                writer.close()

    async def _pump(
        self, frame: bytes, writer: asyncio.StreamWriter, answers: asyncio.Task[None]
    ) -> bytes | None:
        """Write until the connection ends; returns the frame that it did not take, if any.

        Raises:
            OSError: the connection broke under a frame.
        """
        while True:
            if self.misbehaviour.delay_s:
                await asyncio.sleep(self.misbehaviour.delay_s)
            if answers.done() or writer.transport.is_closing():
                return frame
            writer.write(frame)
            await writer.drain()
            if self.misbehaviour.half_close:
                self.misbehaviour.half_close = False
                writer.write_eof()
                await asyncio.wait({answers}, timeout=_CONNECT_TIMEOUT_S)
                return None
            waiting = asyncio.ensure_future(self._outgoing.get())
            done, _ = await asyncio.wait({waiting, answers}, return_when=asyncio.FIRST_COMPLETED)
            if waiting not in done:
                waiting.cancel()
                return None
            frame = waiting.result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._receive, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take messages of one connection until it ends."""
        self._writers.add(writer)
        frames = FrameReader()
        try:
            while data := await reader.read(65536):
                for message in frames.feed(data):
                    self._consume(message, writer)
        except (OSError, RmrFrameError) as error:
            _log.warning("A1 mediator: connection ends: %s", error)
        finally:
            self._writers.discard(writer)
            writer.close()

    def _consume(self, message: RmrMessage, writer: asyncio.StreamWriter) -> None:
        try:
            if message.mtype == messages.A1_POLICY_RESP:
                self._response(json.loads(message.payload))
            elif message.mtype == messages.A1_POLICY_QUERY:
                self._query(json.loads(message.payload), writer)
            else:
                self.dropped += 1
        except ValueError:  # no JSON, or no UTF-8
            self.dropped += 1
        except (KeyError, TypeError) as error:
            if self._legacy:
                self.dropped += 1
                return
            self.panics.append(f"interface conversion: {error}")
            _log.error("A1 mediator panics: %s", error)
            for connection in list(self._writers):
                connection.transport.abort()

    def _response(self, body: Any) -> None:
        """The real one asserts these types, and no others.

        Raises:
            KeyError, TypeError: it would panic.
        """
        key = int(_number(body, "policy_type_id")), _string(body, "policy_instance_id")
        _string(body, "handler_id")
        self.responses.append(body)
        self.statuses[key] = _string(body, "status")

    def _query(self, body: Any, writer: asyncio.StreamWriter) -> None:
        policy_type_id = int(_number(body, "policy_type_id"))
        self.queries += 1
        for (type_id, instance_id), content in list(self.instances.items()):
            if type_id != policy_type_id:
                continue
            request = self._request("CREATE", type_id, instance_id, content)
            if self._legacy:
                writer.write(encode_frame(request))
            else:
                self._send(request)


def _number(body: Any, name: str) -> float:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {type(value).__name__}, not float64")
    return value


def _string(body: Any, name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, not string")
    return value
