"""The REST side of the emulated A1 mediator: policy types, instances, statuses, with the real one's paths
and codes.

Source: O-RAN SC ric-plt/a1, ``api/swagger.yaml``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xapp.http_server import read_body
from xapp.lab.a1_mediator import A1Mediator

TYPES_PATH: Final = "/A1-P/v2/policytypes"

_MAX_BODY_BYTES: Final = 1 << 20

_Endpoint = Callable[[Request], Awaitable[Response]]
_Answer = Callable[[A1Mediator, dict[str, Any], Any], Response]
"""Called with the path parameters and the body; LookupError for what does not exist."""


def create_app(mediator: A1Mediator) -> Starlette:
    """The mediator's REST side as a web application."""
    one_type = TYPES_PATH + "/{type_id:int}"
    instance = one_type + "/policies/{instance_id}"
    routes: list[tuple[str, str, _Answer]] = [
        (TYPES_PATH, "GET", _list_types),
        (one_type, "GET", _get_type),
        (one_type, "PUT", _put_type),
        (one_type, "DELETE", _delete_type),
        (one_type + "/policies", "GET", _list_instances),
        (instance, "GET", _get_instance),
        (instance, "PUT", _put_instance),
        (instance, "DELETE", _delete_instance),
        (instance + "/status", "GET", _get_status),
    ]
    return Starlette(
        routes=[Route(path, _endpoint(mediator, answer), methods=[verb]) for path, verb, answer in routes]
    )


def _endpoint(mediator: A1Mediator, answer: _Answer) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        if mediator.misbehaviour.unavailable > 0:
            mediator.misbehaviour.unavailable -= 1
            return JSONResponse({"error": "unavailable"}, 503)
        try:
            body = json.loads(await read_body(request, _MAX_BODY_BYTES)) if request.method == "PUT" else None
        except ValueError as error:
            return JSONResponse({"error": f"the body cannot be read: {error}"}, 400)
        try:
            return answer(mediator, request.path_params, body)
        except LookupError:
            return JSONResponse({"error": "no such policy type or instance"}, 404)

    return endpoint


def _done(wrong: str, code: int) -> Response:
    return JSONResponse({"error": wrong}, 400) if wrong else Response(status_code=code)


def _list_types(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    return JSONResponse(sorted(mediator.types))


def _get_type(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    return JSONResponse(mediator.types[path["type_id"]])


def _put_type(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    return _done(mediator.put_type(path["type_id"], body if isinstance(body, dict) else {}), 201)


def _delete_type(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    if any(type_id == path["type_id"] for type_id, _ in mediator.instances):
        return _done("tried to delete a type that isn't empty", 204)
    del mediator.types[path["type_id"]]
    return _done("", 204)


def _list_instances(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    found = mediator.types[path["type_id"]]["policy_type_id"]
    return JSONResponse([instance for type_id, instance in mediator.instances if type_id == found])


def _get_instance(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    return JSONResponse(mediator.instances[path["type_id"], path["instance_id"]])


def _put_instance(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    return _done(mediator.put_instance(path["type_id"], path["instance_id"], body), 202)


def _delete_instance(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    mediator.delete_instance(path["type_id"], path["instance_id"])
    return _done("", 202)


def _get_status(mediator: A1Mediator, path: dict[str, Any], body: Any) -> Response:
    key = path["type_id"], path["instance_id"]
    if key not in mediator.instances:
        raise LookupError(key)
    return JSONResponse(mediator.status(*key))
