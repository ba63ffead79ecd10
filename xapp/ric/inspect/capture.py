"""E2AP messages in pcap and pcapng files.

Found: SCTP DATA chunks with a payload protocol of E2AP (70 to 72) or on its ports 36421 and 36422, fragments
joined; RMR frames (SI95) on any TCP connection whose payload is an E2AP-PDU; and the packets of srsRAN's own
captures, which are E2AP without a network around it: behind Wireshark's tags of an exported PDU (link type
252, srsRAN of 2026 ``pcap_file_writer.cpp``), or bare (user link type 155, srsRAN before, ``dlt_pcap.h``).
IP fragments are not joined. A file that ends early gives what is whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from xapp.ric.inspect.e2ap import looks_like_e2ap
from xapp.ric.rmr.frame import FrameReader, RmrFrameError, RmrMessage

E2AP_PAYLOAD_PROTOCOLS = frozenset((70, 71, 72))
E2AP_PORTS = frozenset((36421, 36422))

_PCAP_ORDERS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_SCTP, _TCP = 132, 6
_DATA_CHUNK = 0
_TAG_DISSECTOR = 12
_FIRST, _LAST = 2, 1

# Link-layer types: octets before the network layer's protocol number, None where there is only IP.
_ETHERNET, _SLL, _SLL2, _RAW_SCTP = 1, 113, 276, 248
_RAW_IP = frozenset((12, 14, 101, 228, 229))
_LOOPBACK = frozenset((0, 108))
_EXPORTED = 252
_USER = range(147, 163)
_ETHERTYPES = (0x0800, 0x86DD)
_VLAN = (0x8100, 0x88A8, 0x9100)
_MAX_WAITING_SEGMENTS = 256


def is_capture(content: bytes) -> bool:
    """``content`` starts as pcap or pcapng does."""
    return content[:4] in _PCAP_ORDERS or content[:4] == _PCAPNG


def _pcap(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Link type and octets of each packet."""
    order = _PCAP_ORDERS[content[:4]]
    if len(content) < 24:
        return
    (link,) = struct.unpack_from(order + "I", content, 20)
    at = 24
    while at + 16 <= len(content):
        (size,) = struct.unpack_from(order + "I", content, at + 8)
        if at + 16 + size > len(content):
            return
        yield link & 0xFFFF, content[at + 16 : at + 16 + size]
        at += 16 + size


def _pcapng(content: bytes) -> Iterator[tuple[int, bytes]]:
    at, order = 0, "<"
    links: list[int] = []
    while at + 12 <= len(content):
        if content[at : at + 4] == _PCAPNG:
            order = "<" if content[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        kind, size = struct.unpack_from(order + "II", content, at)
        if size < 12 or at + size > len(content):
            return
        body = content[at + 8 : at + size - 4]
        if kind == _INTERFACE and len(body) >= 2:
            links.append(struct.unpack_from(order + "H", body)[0])
        elif kind == _ENHANCED and len(body) >= 20:
            interface, _high, _low, captured = struct.unpack_from(order + "4I", body)
            if interface < len(links):
                yield links[interface], body[20 : 20 + captured]
        elif kind == _SIMPLE and links and len(body) >= 4:
            yield links[0], body[4 : 4 + struct.unpack_from(order + "I", body)[0]]
        at += (size + 3) & ~3


def _network(link: int, packet: bytes) -> bytes | None:
    """The IP packet in a link-layer frame."""
    if link in _RAW_IP:
        return packet
    if link in _LOOPBACK:
        return packet[4:]
    if link == _SLL2:
        return packet[20:] if int.from_bytes(packet[:2], "big") in _ETHERTYPES else None
    if link not in (_ETHERNET, _SLL):
        return None
    at = 12 if link == _ETHERNET else 14
    while (ethertype := int.from_bytes(packet[at : at + 2], "big")) in _VLAN:
        at += 4
    return packet[at + 2 :] if ethertype in _ETHERTYPES else None


def _transport(packet: bytes) -> tuple[int, str, str, bytes] | None:
    """Protocol, source, destination and payload of an IP packet; None for fragments and for what is no IP."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        if int.from_bytes(packet[6:8], "big") & 0x3FFF:
            return None
        total = int.from_bytes(packet[2:4], "big") or len(packet)
        header = (packet[0] & 15) * 4
        source, target = (str(ip_address(packet[at : at + 4])) for at in (12, 16))
        return packet[9], source, target, packet[header:total]
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        protocol, at = packet[6], 40
        while protocol in (0, 43, 60) and at + 8 <= len(packet):
            protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
        source, target = (str(ip_address(packet[start : start + 16])) for start in (8, 24))
        return protocol, source, target, packet[at:]
    return None


@dataclass(slots=True)
class _SctpStream:
    """DATA chunks of one stream in one direction: a message under assembly, chunks already seen."""

    parts: list[bytes] = field(default_factory=list)
    last: int = -1
    seen: set[int] = field(default_factory=set)

    def take(self, flags: int, number: int, data: bytes) -> bytes | None:
        """A message that is whole now; chunks repeated, or following a lost one, are dropped."""
        if number in self.seen:
            return None
        self.seen.add(number)
        if flags & _FIRST:
            self.parts = [data]
        elif self.parts and number == (self.last + 1) & 0xFFFFFFFF:
            self.parts.append(data)
        else:
            self.parts = []
            return None
        self.last = number
        if not flags & _LAST:
            return None
        message, self.parts = b"".join(self.parts), []
        return message


@dataclass(slots=True)
class _TcpStream:
    """One direction of a TCP connection that may carry RMR frames."""

    reader: FrameReader | None = None
    expected: int = 0
    waiting: dict[int, bytes] = field(default_factory=dict)

    def take(self, sequence: int, data: bytes) -> list[RmrMessage]:
        """Frames that are whole now. Starts, also again, at a segment that begins as a frame does."""
        if self.reader is None:
            if len(data) < 9 or data[8] != ord("$"):
                return []
            self.reader, self.expected, self.waiting = FrameReader(), sequence, {}
        ahead = (sequence - self.expected) & 0xFFFFFFFF
        if ahead >= 1 << 31:  # sent again: keep what is new
            data = data[(1 << 32) - ahead :]
            ahead = 0
        elif ahead:
            if len(self.waiting) < _MAX_WAITING_SEGMENTS:
                self.waiting[sequence] = data
            else:
                self.reader = None
            return []
        messages: list[RmrMessage] = []
        while data:
            self.expected = (self.expected + len(data)) & 0xFFFFFFFF
            try:
                messages += self.reader.feed(data)
            except RmrFrameError as error:
                self.reader = None
                return messages + error.completed
            data = self.waiting.pop(self.expected, b"")
        return messages


class _Streams:
    """Everything under assembly in one capture."""

    def __init__(self) -> None:
        self._sctp: dict[tuple[str, str, int], _SctpStream] = {}
        self._tcp: dict[tuple[str, str], _TcpStream] = {}

    def sctp(self, source: str, target: str, packet: bytes) -> Iterator[tuple[bytes, str]]:
        """E2AP in an SCTP packet."""
        if len(packet) < 12:
            return
        ports = struct.unpack_from(">HH", packet)
        ends = (f"{source}:{ports[0]}", f"{target}:{ports[1]}")
        at = 12
        while at + 4 <= len(packet):
            kind, flags, size = struct.unpack_from(">BBH", packet, at)
            if size < 4 or at + size > len(packet):
                return
            if kind == _DATA_CHUNK and size >= 16:
                number, stream, _order, protocol = struct.unpack_from(">IHHI", packet, at + 4)
                if protocol in E2AP_PAYLOAD_PROTOCOLS or E2AP_PORTS.intersection(ports):
                    assembly = self._sctp.setdefault((*ends, stream), _SctpStream())
                    message = assembly.take(flags, number, packet[at + 16 : at + size])
                    if message is not None:
                        yield message, f"SCTP {ends[0]} -> {ends[1]}"
            at += (size + 3) & ~3

    def tcp(self, source: str, target: str, packet: bytes) -> Iterator[tuple[bytes, str]]:
        """E2AP in RMR frames in a TCP segment."""
        if len(packet) < 20:
            return
        source_port, target_port, sequence = struct.unpack_from(">HHI", packet)
        data = packet[(packet[12] >> 4) * 4 :]
        ends = (f"{source}:{source_port}", f"{target}:{target_port}")
        if not data:
            return
        for message in self._tcp.setdefault(ends, _TcpStream()).take(sequence, data):
            if looks_like_e2ap(message.payload):
                yield (
                    message.payload,
                    f"RMR {ends[0]} -> {ends[1]}, type {message.mtype}, sub id {message.sub_id},"
                    f" meid {message.meid or '-'}",
                )


def _bare(link: int, packet: bytes) -> bytes | None:
    """E2AP in a packet without a network, None if it is something else."""
    if link in _USER:
        return packet if looks_like_e2ap(packet) else None
    at, dissector = 0, b""
    while at + 4 <= len(packet):
        tag, size = struct.unpack_from(">HH", packet, at)
        at += 4
        if tag == 0:
            named = dissector.rstrip(b"\0") == b"e2ap" and at < len(packet)
            return packet[at:] if named or looks_like_e2ap(packet[at:]) else None
        if tag == _TAG_DISSECTOR:
            dissector = packet[at : at + size]
        at += size
    return None


def captured_messages(content: bytes) -> Iterator[tuple[bytes, str]]:
    """E2AP messages of a capture, each with ``packet <number>`` and, where they are known, the ends:
    ``packet <number>, <protocol> <from> -> <to>``."""
    streams = _Streams()
    packets = _pcapng(content) if content[:4] == _PCAPNG else _pcap(content)
    for number, (link, packet) in enumerate(packets, start=1):
        if link == _EXPORTED or link in _USER:
            bare = _bare(link, packet)
            if bare is not None:
                yield bare, f"packet {number}"
            continue
        if link == _RAW_SCTP:
            found = streams.sctp("", "", packet)
        else:
            inner = _network(link, packet)
            transport = _transport(inner) if inner is not None else None
            if transport is None:
                continue
            protocol, source, target, payload = transport
            if protocol == _SCTP:
                found = streams.sctp(source, target, payload)
            elif protocol == _TCP:
                found = streams.tcp(source, target, payload)
            else:
                continue
        for message, where in found:
            yield message, f"packet {number}, {where}"
