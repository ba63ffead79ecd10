"""The REST interface of the subscription manager, call by call; no rules and no state.

Two HTTP servers run in the manager's pod: subscriptions on port 8088, everything else (health, metrics, and
the lists by xApp, ``pkg/control/debug_rest_if.go``) on port 8080. Both are addressed with ``/ric/v1``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from xapp.ric.subscription_counters import Cause

SUBSCRIPTIONS_PATH: Final = "/ric/v1/subscriptions"
XAPP_SUBSCRIPTIONS_PATH: Final = "/ric/v1/get_xapp_rest_restsubscriptions"
MAX_ANSWER_BYTES: Final = 8 << 20
"""The longest answer is the list of all subscriptions: at most 65534, some 100 bytes each."""


class SubmgrError(Exception):
    """A call failed: ``cause`` for the counters, the message for people.

    ``answered``: the manager was there and refused.
    """

    def __init__(self, cause: Cause, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.answered = answered


@dataclass(frozen=True)
class E2Subscription:
    """One entry of the list of E2 subscriptions: instance id, node, ``host:port`` of the RMR receivers."""

    instance_id: int
    meid: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True)
class RestSubscription:
    """One subscription of one xApp service: its id, node, E2 event instances, and whether it is worked on."""

    identifier: str
    meid: str
    instances: frozenset[int]
    busy: bool


class SubmgrApi:
    """Calls to one subscription manager; each takes at most ``timeout_s``, however slowly bytes drip in.

    Args:
        base_url: of the subscription interface, e.g. ``http://service-ricplt-submgr-http.ricplt:8088``.
        http: shared client.
        timeout_s: for a whole call.
        admin_url: of the manager's other server, e.g. the same host with port 8080; None: ``base_url``.
    """

    def __init__(
        self, base_url: str, http: httpx.AsyncClient, *, timeout_s: float = 5.0, admin_url: str | None = None
    ) -> None:
        self._url = base_url.rstrip("/") + SUBSCRIPTIONS_PATH
        self._lists_url = (admin_url or base_url).rstrip("/") + XAPP_SUBSCRIPTIONS_PATH
        self._http = http
        self._timeout_s = timeout_s

    async def subscribe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST; the 201's JSON object.

        Raises:
            SubmgrError.
        """
        status, content = await self._call("POST", self._url, body)
        answer = _parsed(status, content)
        if not isinstance(answer, dict):
            raise SubmgrError(Cause.BAD_ANSWER, f"answer is no JSON object: {content[:200]!r}", answered=True)
        return answer

    async def delete(self, identifier: str) -> None:
        """DELETE. The manager answers 204 at once, also for an id it does not know, and does it afterwards.

        Raises:
            SubmgrError: among others 400 while it works on the request.
        """
        status, content = await self._call("DELETE", f"{self._url}/{quote(identifier, safe='')}")
        if status != 404 and not 200 <= status < 300:
            raise _refusal(status, content)

    async def e2_subscriptions(self) -> list[E2Subscription]:
        """All E2 subscriptions of the RIC. Malformed entries are left out.

        Raises:
            SubmgrError.
        """
        answer = _parsed(*await self._call("GET", self._url))
        found = []
        for entry in answer if isinstance(answer, list) else []:
            match entry:
                case {"SubscriptionId": int(instance), "Meid": str(meid), "ClientEndpoint": list(endpoints)}:
                    found.append(E2Subscription(instance, meid, tuple(map(str, endpoints))))
        return found

    async def rest_subscriptions(self, host: str) -> list[RestSubscription]:
        """Subscriptions whose ``ClientEndpoint.Host`` is ``host``.

        Raises:
            SubmgrError: ``HTTP_404`` where this manager has no such list.
        """
        answer = _parsed(*await self._call("GET", f"{self._lists_url}/{quote(host, safe='')}"))
        found = []
        for identifier, entry in answer.items() if isinstance(answer, dict) else ():
            match entry:
                case {"Meid": str(meid)}:
                    instances = entry.get("InstanceIds") or ()
                    busy = bool(entry.get("SubReqOngoing") or entry.get("SubDelReqOngoing"))
                    numbers = frozenset(number for number in instances if isinstance(number, int))
                    found.append(RestSubscription(identifier, meid, numbers, busy))
        return found

    async def _call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(method, url, json=body, timeout=self._timeout_s) as answer,
            ):
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise SubmgrError(Cause.BAD_ANSWER, f"answer of more than {MAX_ANSWER_BYTES} bytes")
                return answer.status_code, bytes(content)
        except (TimeoutError, httpx.TimeoutException):
            raise SubmgrError(Cause.TIMEOUT, f"{method} {url}: no answer in {self._timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise SubmgrError(Cause.CONNECTION, f"{method} {url}: {error!r}") from error
        except httpx.HTTPError as error:
            # The peer closed or broke the connection in the middle of the exchange.
            raise SubmgrError(Cause.PROTOCOL, f"{method} {url}: {error!r}") from error


def _refusal(status: int, content: bytes) -> SubmgrError:
    text = content[:200].decode(errors="replace")
    return SubmgrError(Cause.of_status(status), f"HTTP {status}: {text}", answered=True)


def _parsed(status: int, content: bytes) -> Any:
    if not 200 <= status < 300:
        raise _refusal(status, content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise SubmgrError(Cause.BAD_ANSWER, f"answer is no JSON: {content[:200]!r}", answered=True) from None
