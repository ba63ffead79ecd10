"""Message buffers of librmr (``rmr_mbuf_t``) as :class:`RmrMessage`, and back, through ``ricxappframe.rmr``.

The binding (3.2.2) is used for the structure and the calls it gets right. Its ``get_payload`` copies byte by
byte, its setters take 0 for "not given" (subscription id 0 is lost), its ``rmr_get_meid`` parses JSON at
every call, and it lacks ``rmr_set_low_latency``, ``rmr_set_fack``, ``rmr_get_srcip`` and
``rmr_get_rx_debug_info``: these are called here directly.

Source: librmr 4.9, ``rmr.h``, ``mbuf_api.c``, ``rmr_debug_si.c``.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from ricxappframe.rmr import exceptions, rmr
from ricxappframe.rmr.rmrclib.rmrclib import rmr_c_lib

from xapp.ric.rmr.frame import (
    MEID_BYTES,
    SOURCE_BYTES,
    XID_BYTES,
    ReturnPath,
    RmrFrameError,
    RmrMessage,
)

RMR_OK: Final = 0
RMR_ERR_NOENDPT: Final = 2
RMR_ERR_RETRY: Final = 10

Buffer = Any
"""``ctypes`` pointer to an ``rmr_mbuf_t``; false when it is null."""


class _RxDebug(ctypes.Structure):
    """``rmr_rx_debug_t``."""

    _fields_ = [("drop", ctypes.c_uint64), ("enqueue", ctypes.c_uint64)]


def _function(name: str, restype: Any, *argtypes: Any) -> Any:
    """A C function with types of our own, or None where this librmr lacks it."""
    try:
        function = rmr_c_lib[name]  # by index: a new object, the binding's own stays as it is
    except AttributeError:
        return None
    function.restype = restype
    function.argtypes = argtypes
    return function


_buffer_p = ctypes.POINTER(rmr.rmr_mbuf_t)
_get_meid = _function("rmr_get_meid", ctypes.c_void_p, _buffer_p, ctypes.c_char_p)
_get_src = _function("rmr_get_src", ctypes.c_void_p, _buffer_p, ctypes.c_char_p)
_get_srcip = _function("rmr_get_srcip", ctypes.c_void_p, _buffer_p, ctypes.c_char_p)
_bytes2meid = _function("rmr_bytes2meid", ctypes.c_int, _buffer_p, ctypes.c_char_p, ctypes.c_int)
_set_low_latency = _function("rmr_set_low_latency", None, ctypes.c_void_p)
_set_fack = _function("rmr_set_fack", None, ctypes.c_void_p)
_get_rx_debug_info = _function("rmr_get_rx_debug_info", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def set_low_latency(context: int) -> None:
    """TCP without delay and with quick acknowledgements, as far as this librmr can."""
    for tune in (_set_low_latency, _set_fack):
        if tune is not None:
            tune(context)


def dropped_by_library(context: int) -> int:
    """Messages lost in librmr's receive ring so far; 0 where this librmr does not say."""
    lost = _RxDebug()
    if _get_rx_debug_info is not None:
        _get_rx_debug_info(context, ctypes.byref(lost))
    return int(lost.drop)


def read_message(buffer: Buffer, origin: ReturnPath) -> RmrMessage:
    """Copy of a received buffer.

    Raises:
        RmrFrameError: the payload length contradicts the buffer; librmr lets some such frames pass.
    """
    fields = buffer.contents
    length, space = fields.len, rmr.rmr_payload_size(buffer)
    if not 0 <= length <= space:
        raise RmrFrameError(f"payload of {length} bytes in a buffer of {space}")
    return RmrMessage(
        mtype=fields.mtype,
        payload=ctypes.string_at(fields.payload, length),
        sub_id=fields.sub_id,
        meid=_text(_get_meid, buffer, MEID_BYTES),
        xid=ctypes.string_at(fields.xaction, XID_BYTES).split(b"\0", 1)[0],
        src=_text(_get_src, buffer, SOURCE_BYTES),
        src_ip=_text(_get_srcip, buffer, SOURCE_BYTES) if _get_srcip is not None else "",
        origin=origin,
    )


def new(context: int, message: RmrMessage) -> Buffer:
    """A buffer to send ``message`` by its route.

    Raises:
        MemoryError: librmr has none.
    """
    try:
        buffer = rmr.rmr_alloc_msg(context, max(len(message.payload), 1))
    except exceptions.BadBufferAllocation as error:  # a BaseException
        raise MemoryError("librmr has no message buffer") from error
    _write(buffer, message)
    ctypes.memmove(buffer.contents.xaction, message.xid.ljust(XID_BYTES, b"\0"), XID_BYTES)
    return buffer


def answer(received: Buffer, to: RmrMessage, message: RmrMessage) -> Buffer:
    """A clone of the buffer that held ``to``, to return ``message`` to its sender.

    The clone keeps what a caller waiting in ``rmr_call`` compares: call id and all of the transaction id.

    Raises:
        MemoryError: librmr has none.
    """
    buffer = rmr.rmr_realloc_payload(received, max(len(message.payload), 1), False, True)
    if not buffer:
        raise MemoryError("librmr has no message buffer")
    _write(buffer, message)
    if message.xid not in (b"", to.xid):
        ctypes.memmove(buffer.contents.xaction, message.xid.ljust(XID_BYTES, b"\0"), XID_BYTES)
    return buffer


def _write(buffer: Buffer, message: RmrMessage) -> None:
    fields = buffer.contents
    fields.mtype = message.mtype
    fields.sub_id = message.sub_id
    fields.len = len(message.payload)
    ctypes.memmove(fields.payload, message.payload, len(message.payload))
    meid = message.meid.encode()
    _bytes2meid(buffer, meid, len(meid))


def _text(getter: Any, buffer: Buffer, size: int) -> str:
    field = ctypes.create_string_buffer(size + 1)
    getter(buffer, field)
    return field.value.decode("utf-8", "replace")
