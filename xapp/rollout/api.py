"""HTTP of the roll-outs: reading for everybody, commands for operators.

::

    GET  /semcom/v1/rollouts                      all that are remembered, newest first
    GET  /semcom/v1/rollouts/{id}                 one, with its history
    POST /semcom/v1/rollouts                      start: {"group", "decoder", "version"[, "parent", "by"]}
    POST /semcom/v1/rollouts/{id}/{command}       pause, resume, abort or rollback: {"by"}

Commands change what users are served with. They are taken over mutual TLS, or from this machine by a listener
that is bound to loopback; then only with the content type ``application/json`` and a loopback ``Host``, which
a web page in a browser on this machine cannot send.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xapp.http_server import BodyTooLargeError, is_loopback, read_body
from xapp.rollout.driver import RolloutDriver
from xapp.rollout.moves import Command, IllegalMoveError
from xapp.rollout.orders import RolloutConflictError, RolloutOrder
from xapp.rollout.views import history_view, rollout_view

ROLLOUTS: Final = "/semcom/v1/rollouts"
MAX_BODY_BYTES: Final = 4096

_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", re.ASCII)

Guard = Callable[[Request], str]
"""Why a command is not taken from there; empty when it is."""


class _Start(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: str
    decoder: str
    version: int
    parent: int | None = None
    by: str = ""


class _By(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    by: str = ""


def loopback_guard(host: str) -> Guard:
    """Commands from this machine alone.

    Args:
        host: that the listener is bound to.
    """

    def guard(request: Request) -> str:
        if not is_loopback(host):
            return f"this listener is bound to {host}: use the admin listener (admin_host, admin_port)"
        if request.client is None or not is_loopback(request.client.host):
            return "commands are taken from this machine alone"
        # Not request.url: what cannot be parsed is the server's own address there.
        named = _HOST.fullmatch(request.headers.get("host", ""))
        if named is None or not is_loopback(named["name"].strip("[]")):
            return "the Host header does not name this machine"
        return ""

    return guard


def mtls_guard(request: Request) -> str:
    """The listener has asked for a client certificate already."""
    return ""


def rollout_routes(driver: RolloutDriver, guard: Guard, clock: Callable[[], float]) -> list[Route]:
    """The routes, for either listener; ``clock`` is the driver's."""

    def view(rollout_id: str) -> dict[str, Any]:
        rollout = driver.get(rollout_id)
        assert rollout is not None
        return rollout_view(rollout, driver.evidence.readings.get(rollout_id, []), clock())

    async def listing(request: Request) -> Response:
        return _json({"rollouts": [view(rollout.id) for rollout in reversed(driver.rollouts)]})

    async def one(request: Request) -> Response:
        rollout = driver.get(request.path_params["id"])
        if rollout is None:
            return _error(404, f"no roll-out {request.path_params['id'][:40]}")
        return _json(view(rollout.id) | {"history": history_view(rollout)})

    async def start(request: Request) -> Response:
        body = await _body(request, guard, _Start)
        if isinstance(body, Response):
            return body
        parent = driver.version_of(body.group, body.decoder) if body.parent is None else body.parent
        if parent is None:
            return _error(409, f"no site serves decoder {body.decoder}")
        order = RolloutOrder(group=body.group, family=body.decoder, version=body.version, parent=parent)
        if order.bundle not in await driver.signed.call(driver.signed.repository.bundles):
            return _error(409, f"{order.bundle} is not in the repository: publish it first")
        try:
            rollout = driver.start(order)
        except RolloutConflictError as error:
            return _error(409, str(error))
        await driver.remember()
        return _json(view(rollout.id), 201)

    async def command(request: Request) -> Response:
        what, rollout_id = request.path_params["command"], request.path_params["id"]
        if what not in get_args(Command):
            return _error(404, f"{what[:40]}: one of {', '.join(get_args(Command))} is needed")
        body = await _body(request, guard, _By)
        if isinstance(body, Response):
            return body
        peer = request.client.host if request.client is not None else "unknown"
        try:
            driver.command(rollout_id, what, f"{body.by[:80] or 'operator'} ({peer})")
        except KeyError:
            return _error(404, f"no roll-out {rollout_id[:40]}")
        except (IllegalMoveError, RolloutConflictError) as error:
            return _error(409, str(error))
        await driver.remember()
        return _json(view(rollout_id))

    return [
        Route(ROLLOUTS, listing),
        Route(ROLLOUTS, start, methods=["POST"]),
        Route(ROLLOUTS + "/{id}", one),
        Route(ROLLOUTS + "/{id}/{command}", command, methods=["POST"]),
    ]


async def _body(request: Request, guard: Guard, kind: Any) -> Any:
    """The decoded body, or the answer that refuses it."""
    if reason := guard(request):
        return _error(403, reason)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error(415, "content type application/json is needed")
    try:
        return msgspec.json.decode(await read_body(request, MAX_BODY_BYTES) or b"{}", type=kind)
    except BodyTooLargeError as error:
        return _error(413, str(error))
    except msgspec.DecodeError as error:
        return _error(400, str(error))


def _error(status: int, reason: str) -> Response:
    return _json({"error": reason}, status)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
