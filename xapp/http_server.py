"""HTTP inside a larger program: a server that leaves the signals to it, a bound socket, a bounded body,
what loopback is."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import uvicorn
from starlette.requests import Request


class BodyTooLargeError(ValueError):
    """A request body exceeds its limit (HTTP 413)."""


class QuietServer(uvicorn.Server):
    """uvicorn inside a larger program: signals belong to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening-to-be TCP socket; the context manager closes it.

    Raises:
        OSError: the address cannot be bound; names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"HTTP {host}:{port}: {error.strerror}") from error
    return bound


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback; other names are not looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; no more than ``limit`` bytes of it are kept in memory.

    Raises:
        BodyTooLargeError: it is longer.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLargeError(f"more than {limit} bytes")
    return bytes(body)
