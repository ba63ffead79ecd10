"""Which RMR transport: librmr where it is installed, else the wire transport; either can be demanded."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Literal, cast

from xapp.ric.rmr.transport import TransportName, TransportOpener
from xapp.ric.rmr.wire import WireTransport

TransportKind = Literal["auto", "librmr", "wire"]

LIBRARY = "librmr_si.so"
_MODULE = "xapp.ric.rmr.librmr"


class TransportUnavailableError(RuntimeError):
    """librmr was demanded and cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class TransportChoice:
    """The chosen transport.

    Attributes:
        name: ``librmr`` or ``wire``.
        reason: a sentence for the log.
        open: opens it.
    """

    name: TransportName
    reason: str
    open: TransportOpener


def choose_transport(kind: TransportKind = "auto") -> TransportChoice:
    """Choose; nothing is opened yet.

    Args:
        kind: ``auto``: librmr where ``librmr_si.so`` loads, else wire.

    Raises:
        TransportUnavailableError: ``librmr`` was demanded and does not load.
        ValueError: another ``kind``.
    """
    if kind == "wire":
        return TransportChoice("wire", "wire was demanded", WireTransport.open)
    if kind not in ("auto", "librmr"):
        raise ValueError(f"RMR transport {kind!r}: auto, librmr or wire is expected")
    obstacle = _obstacle()
    if obstacle is None:
        module = importlib.import_module(_MODULE)
        opener = cast(TransportOpener, module.LibrmrTransport.open)
        reason = f"{LIBRARY} is installed" if kind == "auto" else "librmr was demanded"
        return TransportChoice("librmr", reason, opener)
    if kind == "librmr":
        raise TransportUnavailableError(f"RMR transport librmr was demanded: {obstacle}")
    return TransportChoice("wire", obstacle, WireTransport.open)


def _obstacle() -> str | None:
    """What keeps librmr from being used; None for nothing."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        return f"{LIBRARY} does not load: {error}"
    try:
        importlib.import_module(_MODULE)
    except (ImportError, OSError, AttributeError) as error:
        return f"{LIBRARY} loads, the binding ricxappframe.rmr does not: {error}"
    return None
