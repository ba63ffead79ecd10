"""The radio link of an emulated user: requests for inference wait as long as their bytes would take.

Other requests (directives, heads, reports) pass at once: they are the control plane's and small, or are
fetched beside the user's pictures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx


class EmulatedLink(httpx.AsyncBaseTransport):
    """A transport that delays requests to ``path``.

    Args:
        inner: that carries them.
        rates: bit/s (up, down) now.
        delay_s: one way.
        path: what is delayed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        rates: Callable[[], tuple[float, float]],
        delay_s: float,
        path: str,
    ) -> None:
        self._inner = inner
        self._rates = rates
        self._delay_s = delay_s
        self._path = path

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Up, answer, down."""
        if request.url.path != self._path:
            return await self._inner.handle_async_request(request)
        await asyncio.sleep(self._delay_s + 8.0 * len(await request.aread()) / self._rates()[0])
        response = await self._inner.handle_async_request(request)
        size = int(response.headers.get("Content-Length", "0"))
        await asyncio.sleep(self._delay_s + 8.0 * size / self._rates()[1])
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
