"""RMR messages as bytes: the SI95 transport header and RMR message header version 3.

A frame on the TCP stream is, without anything between frames::

    50 bytes   transport header: frame length in the sender's byte order (little endian wherever RMR runs),
               the same length big endian, the marker ``$``, 41 bytes that receivers ignore
    280 bytes  RMR header, all integers big endian (offsets from its start):
                 0 message type   4 payload length   8 header version (3)
                12 transaction id[32]   44 sender id[32]   76 source name[64]   140 managed element id[32]
               172 alignment[4]  176 timestamp[16]  192 flags (these in the sender's byte order)
               196 len0 (RMR header)  200 len1 (trace)  204 len2 (data 1)  208 len3 (data 2)
               212 subscription id (-1 none)  216 source address[64]
    len1+len2+len3 bytes of trace and call data, then the payload

The frame length counts everything, the transport header included. librmr always reserves 4 bytes of data 1
(a call id); so does :func:`encode_frame`, and :func:`decode_frame` accepts any lengths. When the two copies
of the frame length differ, librmr takes the first one (it means an old peer returned the frame to its
sender). Flag 4 marks a message whose sender waits in ``rmr_call``: it takes as the answer only a frame with
the flag off, the same call id (first byte of data 1) and the same 32 bytes of transaction id.

Source: librmr 4.9, ``rmr_agnostic.h`` (``uta_mhdr_t``, ``HFL_CALL_MSG``), ``sr_si_static.c``,
``mt_call_si_static.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Protocol

NO_SUBSCRIPTION = -1
HEADER_VERSION = 3
TRANSPORT_HEADER_BYTES = 50
RMR_HEADER_BYTES = 280
MIN_FRAME_BYTES = TRANSPORT_HEADER_BYTES + RMR_HEADER_BYTES
MAX_FRAME_BYTES = 4 << 20
MEID_BYTES = 32
XID_BYTES = 32
SOURCE_BYTES = 64

_SIZE_FIELD_BYTES = 9
_MARKER = ord("$")
_CALL_ID_BYTES = 4
_FLAG_CALL = 0x04
_INT32 = range(-(2**31), 2**31)
_TRANSPORT_HEADER = struct.Struct(">4sIc41x")
_RMR_HEADER = struct.Struct(">iIi32s32s64s32s4x16x4s4Ii64s")


class ReturnPath(Protocol):
    """The way back to where a message came from."""

    def send_back(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Send ``message`` as the answer to ``to``; False if it was not taken."""


@dataclass(frozen=True, slots=True)
class RmrMessage:
    """One RMR message.

    Attributes:
        mtype: message type, see :mod:`xapp.ric.rmr.messages`.
        payload: bytes of the upper protocol.
        sub_id: subscription id, ``NO_SUBSCRIPTION`` (-1) for none. 0 is a valid id: test with ``== -1``, not
            truth.
        meid: managed element id, i.e. the E2 node's name; at most 31 bytes of UTF-8.
        xid: transaction id, at most 32 bytes, ends before a zero byte (librmr senders leave junk after it).
        src: ``name:port`` of the sender; at most 63 bytes.
        src_ip: ``address:port`` of the sender; at most 63 bytes.
        call: 32 bytes of transaction id and the call id, if the sender waits for the answer in ``rmr_call``;
            empty otherwise. In a message to send: what the answer must repeat.
        origin: the way back, set by the transport that received the message.
    """

    mtype: int
    payload: bytes
    sub_id: int = NO_SUBSCRIPTION
    meid: str = ""
    xid: bytes = b""
    src: str = ""
    src_ip: str = ""
    call: bytes = field(default=b"", compare=False, repr=False)
    origin: ReturnPath | None = field(default=None, compare=False, repr=False)


class RmrFrameError(ValueError):
    """Bytes are no RMR frame, or a message does not fit one.

    Attributes:
        completed: messages that the same read finished before the bad frame; they are good.
    """

    def __init__(self, message: str, completed: list[RmrMessage] | None = None) -> None:
        super().__init__(message)
        self.completed = completed if completed is not None else []


def _text_field(name: str, value: str, size: int) -> bytes:
    """UTF-8 of ``value``, leaving room for the terminating zero that C peers need."""
    raw = value.encode()
    if len(raw) >= size:
        raise RmrFrameError(f"{name} is {len(raw)} bytes, at most {size - 1} fit: {value!r}")
    return raw


def check_message(message: RmrMessage) -> None:
    """Whether ``message`` fits a frame, whoever makes it.

    Raises:
        RmrFrameError: a field is too long or out of range, or the frame would exceed ``MAX_FRAME_BYTES``.
    """
    if len(message.xid) > XID_BYTES:
        raise RmrFrameError(f"transaction id is {len(message.xid)} bytes, at most {XID_BYTES} fit")
    if MIN_FRAME_BYTES + _CALL_ID_BYTES + len(message.payload) > MAX_FRAME_BYTES:
        raise RmrFrameError(f"payload of {len(message.payload)} bytes: the frame limit is {MAX_FRAME_BYTES}")
    if message.mtype not in _INT32 or message.sub_id not in _INT32:
        raise RmrFrameError(f"message type {message.mtype} or sub_id {message.sub_id}: 32 bits are sent")
    _text_field("meid", message.meid, MEID_BYTES)
    _text_field("src", message.src, SOURCE_BYTES)
    _text_field("src_ip", message.src_ip, SOURCE_BYTES)


def encode_frame(message: RmrMessage) -> bytes:
    """Bytes of ``message`` as librmr would send it.

    Raises:
        RmrFrameError: see :func:`check_message`.
    """
    check_message(message)
    length = MIN_FRAME_BYTES + _CALL_ID_BYTES + len(message.payload)
    header = _RMR_HEADER.pack(
        message.mtype,
        len(message.payload),
        HEADER_VERSION,
        message.call[:XID_BYTES] or message.xid,
        b"",
        message.src.encode(),
        message.meid.encode(),
        bytes(4),
        RMR_HEADER_BYTES,
        0,
        _CALL_ID_BYTES,
        0,
        message.sub_id,
        message.src_ip.encode(),
    )
    transport = _TRANSPORT_HEADER.pack(length.to_bytes(4, "little"), length, b"$")
    call_data = message.call[XID_BYTES:].ljust(_CALL_ID_BYTES, b"\0")
    return b"".join((transport, header, call_data, message.payload))


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def decode_frame(frame: bytes, origin: ReturnPath | None = None) -> RmrMessage:
    """The message in one whole frame, transport header included.

    Args:
        origin: becomes the message's.

    Raises:
        RmrFrameError: the frame is short, of another header version, or its length fields contradict its
            size.
    """
    if len(frame) < MIN_FRAME_BYTES:
        raise RmrFrameError(f"frame of {len(frame)} bytes: an RMR frame has at least {MIN_FRAME_BYTES}")
    fields = _RMR_HEADER.unpack_from(frame, TRANSPORT_HEADER_BYTES)
    mtype, payload_bytes, version, xid, _sid, src, meid, flags, len0, len1, len2, len3, sub_id, src_ip = (
        fields
    )
    if version != HEADER_VERSION:
        raise RmrFrameError(f"RMR header version {version}: only version {HEADER_VERSION} is spoken here")
    if len0 < RMR_HEADER_BYTES:
        raise RmrFrameError(f"RMR header length {len0}: version {HEADER_VERSION} has {RMR_HEADER_BYTES}")
    start = TRANSPORT_HEADER_BYTES + len0 + len1 + len2 + len3
    if start + payload_bytes > len(frame):
        raise RmrFrameError(
            f"headers {len0}+{len1}+{len2}+{len3} and payload {payload_bytes} exceed {len(frame)} bytes"
        )
    call = b""
    if flags[0] & _FLAG_CALL and len2:
        call_data = TRANSPORT_HEADER_BYTES + len0 + len1
        call = xid + frame[call_data : call_data + 1]
    return RmrMessage(
        mtype=mtype,
        payload=bytes(frame[start : start + payload_bytes]),
        sub_id=sub_id,
        meid=_text(meid),
        xid=xid.split(b"\0", 1)[0],
        src=_text(src),
        src_ip=_text(src_ip),
        call=call,
        origin=origin,
    )


def _frame_length(size_field: bytes | bytearray) -> int:
    """Length announced by the first 9 bytes of a frame; the host-order copy counts, as in librmr."""
    return int.from_bytes(size_field[:4], "little")


class FrameReader:
    """Cuts one TCP stream into messages, whatever the sizes of the reads.

    Args:
        max_frame_bytes: longest frame accepted. librmr has no limit; a hostile length must not reserve
            memory.
        origin: becomes the messages'.

    After an error the stream has lost its framing: close the connection and start a new reader.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES, origin: ReturnPath | None = None) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._origin = origin
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of an unfinished frame that wait for more."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[RmrMessage]:
        """Take the bytes of one read and return the messages that are now whole, in order.

        Raises:
            RmrFrameError: a frame is malformed or too long; ``completed`` has the messages before it.
        """
        buffer = self._buffer
        buffer += data
        messages: list[RmrMessage] = []
        start = 0
        while len(buffer) - start >= _SIZE_FIELD_BYTES:
            size_field = buffer[start : start + _SIZE_FIELD_BYTES]
            length = _frame_length(size_field)
            if size_field[-1] != _MARKER:
                raise RmrFrameError(
                    f"no '$' after the frame length (got 0x{size_field[-1]:02x}): no RMR SI95 peer",
                    messages,
                )
            if not MIN_FRAME_BYTES <= length <= self._max_frame_bytes:
                raise RmrFrameError(
                    f"frame length {length} is outside {MIN_FRAME_BYTES}..{self._max_frame_bytes}", messages
                )
            if len(buffer) - start < length:
                break
            try:
                messages.append(decode_frame(bytes(buffer[start : start + length]), self._origin))
            except RmrFrameError as error:
                raise RmrFrameError(str(error), messages) from error
            start += length
        del buffer[:start]
        return messages
