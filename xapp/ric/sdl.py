"""The RIC's shared data layer (Redis) for an asyncio program that must not stop when Redis does.

``ricxappframe``'s ``SDLWrapper`` blocks, has no socket timeout and may raise when it is constructed without
a server. So it lives in one daemon thread; callers wait for an answer at most ``timeout_s`` and at most
``max_waiting`` of them wait. A call that is stuck in the thread is left behind with its thread, and a new
thread and connection take over.

States: *available* after a call succeeded, *unavailable* at first and after one failed. While unavailable,
calls fail at once between attempts (delays double from 0.1 s to 5 s); :meth:`Sdl.watch` makes the attempts,
so recovery is noticed without traffic. Only get, set and remove are used: compare-and-set and publish need a
Redis module that a stock server lacks.

Settings come from the environment, as everywhere in the RIC: ``DBAAS_SERVICE_HOST``, ``DBAAS_SERVICE_PORT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
_PROBE_KEY = "probe"

_log = logging.getLogger(__name__)

T = TypeVar("T")


class SdlUnavailable(RuntimeError):
    """The data layer did not do it; the message says why: not reachable, too slow, too many calls."""


class SdlRejected(ValueError):
    """The data layer refused the call itself, e.g. a key of the wrong type; retrying does not help."""


def _open_wrapper() -> Any:
    """A connection as the environment says; it may be lazy, and may raise without a server."""
    if not (os.environ.get("DBAAS_SERVICE_HOST") or os.environ.get("DBAAS_CLUSTER_ADDR_LIST")):
        raise ConnectionError("DBAAS_SERVICE_HOST is not set: it names the Redis of the RIC")
    # Delayed: the import pulls redis.
    from ricxappframe.xapp_sdl import SDLWrapper  # noqa: PLC0415

    return SDLWrapper(use_fake_sdl=False)


class _Worker:
    """One daemon thread with one connection, doing calls in order."""

    def __init__(self, open_wrapper: Callable[[], Any], max_waiting: int) -> None:
        self._open_wrapper = open_wrapper
        self._calls: queue.Queue[tuple[Callable[[Any], Any], Future[Any]] | None] = queue.Queue(max_waiting)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sdl", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[Any], T]) -> Future[T]:
        """Queue ``call(wrapper)``.

        Raises:
            queue.Full: too many calls wait.
        """
        future: Future[T] = Future()
        self._calls.put_nowait((call, future))
        return future

    def stop(self) -> None:
        """End the thread after the calls it has; never waits."""
        self._stopping = True
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)

    def _run(self) -> None:
        wrapper: Any = None
        while (item := self._calls.get()) is not None:
            call, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if wrapper is None:
                    wrapper = self._open_wrapper()
                result = call(wrapper)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            if self._stopping and self._calls.empty():
                return


def _is_rejection(error: BaseException) -> bool:
    """The call was wrong, not the connection."""
    if isinstance(error, (TypeError, ValueError)):
        return True
    return type(error).__name__ in ("SdlTypeError", "RejectedByBackend")


class Sdl:
    """Keys and values of one namespace.

    Args:
        namespace: SDL namespace.
        timeout_s: longest wait of a call.
        max_waiting: calls that may wait for the thread; further ones fail at once.
        on_change: called with the new availability and a line of detail, on the event loop.
        open_wrapper: makes the ``SDLWrapper``; replaced in tests.

    Attributes:
        errors: calls that failed, rejections included.
        reconnects: times it became available again after a failure.
    """

    def __init__(
        self,
        *,
        namespace: str = "semcom",
        timeout_s: float = 1.0,
        max_waiting: int = 64,
        on_change: Callable[[bool, str], None] | None = None,
        open_wrapper: Callable[[], Any] = _open_wrapper,
    ) -> None:
        self.errors = 0
        self.reconnects = 0
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._on_change = on_change
        self._open_wrapper = open_wrapper
        self._worker: _Worker | None = None
        self._available = False
        self._announced = False
        self._was_available = False
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before = float("-inf")
        self._cause = "not yet connected"

    @property
    def available(self) -> bool:
        """The last call that reached the data layer succeeded."""
        return self._available

    async def get(self, key: str) -> bytes | None:
        """Value of ``key``, None if there is none.

        Raises:
            SdlUnavailable, SdlRejected.
        """
        value = await self._call(lambda wrapper: wrapper.get(self._namespace, key, usemsgpack=False))
        return None if value is None else bytes(value)

    async def set(self, key: str, value: bytes) -> None:
        """Store ``value`` under ``key``.

        Raises:
            SdlUnavailable, SdlRejected.
        """
        await self._call(lambda wrapper: wrapper.set(self._namespace, key, value, usemsgpack=False))

    async def delete(self, key: str) -> None:
        """Remove ``key``; no error if there is none.

        Raises:
            SdlUnavailable, SdlRejected.
        """
        await self._call(lambda wrapper: wrapper.delete(self._namespace, key))

    async def probe(self) -> bool:
        """Ask the data layer something cheap, back-off or not; True if it answered."""
        self._not_before = float("-inf")
        try:
            await self.get(_PROBE_KEY)
        except (SdlUnavailable, SdlRejected):
            return False
        return True

    async def watch(self, interval_s: float = 1.0) -> None:
        """Probe until cancelled: every ``interval_s`` while available, else with the back-off's delays."""
        while True:
            await self.probe()
            await asyncio.sleep(
                interval_s if self._available else max(self._not_before - time.monotonic(), 0.01)
            )

    async def close(self) -> None:
        """Let go of the thread and its connection. Does not wait for a stuck call."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    async def _call(self, call: Callable[[Any], T]) -> T:
        if time.monotonic() < self._not_before:
            self.errors += 1
            raise SdlUnavailable(f"shared data layer is unavailable: {self._cause}")
        if self._worker is None:
            self._worker = _Worker(self._open_wrapper, self._max_waiting)
        worker = self._worker
        try:
            future = worker.submit(call)
        except queue.Full:
            self.errors += 1
            raise SdlUnavailable(f"{self._max_waiting} calls wait for the shared data layer") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await asyncio.wrap_future(future)
        except TimeoutError:
            self._failed(worker, f"no answer within {self._timeout_s:g} s")
            raise SdlUnavailable(f"shared data layer: {self._cause}") from None
        except Exception as error:
            if _is_rejection(error):
                self.errors += 1
                raise SdlRejected(f"shared data layer refused the call: {error}") from error
            self._failed(worker, str(error) or repr(error))
            raise SdlUnavailable(f"shared data layer: {self._cause}") from error
        self._succeeded()
        return result

    def _succeeded(self) -> None:
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before = float("-inf")
        if self._available:
            return
        self._available = True
        self.reconnects += self._was_available
        self._was_available = True
        self._announce("connected")

    def _failed(self, worker: _Worker, cause: str) -> None:
        self.errors += 1
        self._cause = cause
        self._not_before = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        if self._worker is worker:
            # A fresh thread and connection next time: this one may hang, or hold dead sockets.
            worker.stop()
            self._worker = None
        if self._available or not self._announced:
            self._available = False
            self._announce(cause)

    def _announce(self, detail: str) -> None:
        self._announced = True
        _log.log(
            logging.INFO if self._available else logging.WARNING,
            "shared data layer is %s: %s",
            "available" if self._available else "unavailable",
            detail,
        )
        if self._on_change is not None:
            self._on_change(self._available, detail)


class SdlKey:
    """One key of the shared data layer, as a store for e.g. a subscription's ids.

    Args:
        sdl: the namespace.
        key: name of the key.
    """

    def __init__(self, sdl: Sdl, key: str) -> None:
        self._sdl = sdl
        self._key = key

    async def load(self) -> bytes | None:
        """The value, None if there is none. Raises as :meth:`Sdl.get`."""
        return await self._sdl.get(self._key)

    async def save(self, value: bytes | None) -> None:
        """Replace the value; None removes it. Raises as :meth:`Sdl.set`."""
        if value is None:
            await self._sdl.delete(self._key)
        else:
            await self._sdl.set(self._key, value)
