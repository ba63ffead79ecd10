"""HTTP to a site: every answer bounded in time and size, every failure one of three errors.

What may get better (no connection, 408, 429, 5xx) is tried again with growing, jittered waits, not earlier
than the site asks, until the time of the call is used up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
import msgspec

from codec_runtime.client.errors import BadAnswerError, SiteRefusedError, SiteUnavailableError
from codec_runtime.contract.paths import MESSAGEPACK

AnswerT = TypeVar("AnswerT")
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0
MESSAGE_LIMIT: Final = 16 << 20


@dataclass(frozen=True)
class Reply:
    """Body and headers of an answer with status 2xx."""

    body: bytes
    headers: httpx.Headers


class SiteConnection:
    """Requests to one site.

    Args:
        http: client whose base URL is the site.
        timeout_s: of a call with all its attempts.
        attempt_s: of one attempt.
    """

    def __init__(self, http: httpx.AsyncClient, *, timeout_s: float = 10.0, attempt_s: float = 5.0) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._attempt_s = attempt_s
        self._chance = random.Random(0)
        self.retries = 0

    async def get(self, path: str, kind: type[AnswerT], **query: str) -> AnswerT:
        """A MessagePack message.

        Raises:
            SiteError.
        """
        reply = await self.call("GET", path, limit=MESSAGE_LIMIT, query=query)
        try:
            return msgspec.msgpack.decode(reply.body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BadAnswerError(f"{path}: {error}") from error

    async def post(self, path: str, message: Any) -> None:
        """Send a MessagePack message, of which no answer is wanted; errors as of :meth:`get`."""
        body = msgspec.msgpack.encode(message)
        await self.call("POST", path, limit=MESSAGE_LIMIT, body=body, headers={"Content-Type": MESSAGEPACK})

    async def call(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request, tried again while that may help.

        Args:
            limit: bytes of the answer.

        Raises:
            SiteUnavailableError: time is up. SiteRefusedError. BadAnswerError: too long.
        """
        wait = _FIRST_WAIT_S
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_s
        while True:
            try:
                async with asyncio.timeout_at(min(deadline, clock() + self._attempt_s)):
                    return await self._attempt(method, path, limit, body, headers or {}, query or {})
            except TimeoutError:
                failure = SiteUnavailableError(f"{method} {path}: no answer in time")
            except httpx.TransportError as error:
                failure = SiteUnavailableError(f"{method} {path}: {type(error).__name__}: {error}")
            except SiteUnavailableError as error:
                failure = error
            pause = max(wait * self._chance.uniform(0.5, 1.0), failure.wait_s)
            if clock() + pause >= deadline:
                raise failure
            self.retries += 1
            await asyncio.sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT_S)

    async def _attempt(
        self, method: str, path: str, limit: int, body: bytes, headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> Reply:
        async with self._http.stream(
            method, path, content=body or None, headers=dict(headers), params=dict(query) or None,
            timeout=self._attempt_s,
        ) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > limit:
                    raise BadAnswerError(f"{path}: more than {limit} bytes")
                parts.append(part)
        data = b"".join(parts)
        if response.is_success:
            return Reply(data, response.headers)
        said, name = _reason(data)
        text = f"{method} {path}: HTTP {response.status_code}: {said}"
        if response.status_code in _LATER:
            asked = response.headers.get("Retry-After", "")
            raise SiteUnavailableError(text, float(asked) if asked.isdigit() and len(asked) < 4 else 0.0)
        raise SiteRefusedError(text, response.status_code, name)


class _Refusal(msgspec.Struct):
    error: str = ""
    name: str = ""


def _reason(body: bytes) -> tuple[str, str]:
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except msgspec.MsgspecError:
        return body[:200].decode("utf-8", "replace"), ""
    return refusal.error, refusal.name
