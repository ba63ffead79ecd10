"""Captures for the tests: E2AP messages in pcap and pcapng, over SCTP and in RMR frames over TCP."""

from __future__ import annotations

import struct
from ipaddress import ip_address

ETHERNET = 1
RAW_SCTP = 248
USER_8 = 155
"""What srsRAN up to 24.10 writes: bare E2AP."""
EXPORTED = 252


def sctp(
    chunks: list[tuple[int, int, bytes]], *, protocol: int = 70, ports: tuple[int, int] = (36421, 5000)
) -> bytes:
    """SCTP packet of DATA chunks (flags, transmission sequence number, data)."""
    packet = struct.pack(">HHII", *ports, 1, 0)
    for flags, number, data in chunks:
        packet += struct.pack(">BBHIHHI", 0, flags, 16 + len(data), number, 0, 0, protocol) + data
        packet += bytes(-len(data) % 4)
    return packet


def exported(message: bytes, dissector: bytes = b"e2ap") -> bytes:
    """Exported PDU of Wireshark, as srsRAN writes it: dissector name, end of the tags, message."""
    return struct.pack(">HH", 12, len(dissector)) + dissector + bytes(4) + message


def tcp(sequence: int, data: bytes, ports: tuple[int, int] = (40000, 4560)) -> bytes:
    """TCP segment."""
    return struct.pack(">HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, 0, 5 << 4, 0x18, 0, 0, 0) + data


def ip(protocol: int, payload: bytes, *, version: int = 4) -> bytes:
    """IP packet from host 1 to host 2."""
    if version == 4:
        ends = ip_address("10.0.0.1").packed + ip_address("10.0.0.2").packed
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + ends + payload
    ends = ip_address("fd00::1").packed + ip_address("fd00::2").packed
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def ethernet(packet: bytes, *, vlan: bool = False) -> bytes:
    """Ethernet frame around an IP packet."""
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    tag = struct.pack(">HH", 0x8100, 5) if vlan else b""
    return bytes(12) + tag + struct.pack(">H", kind) + packet


def pcap(frames: list[bytes], link: int = ETHERNET, order: str = "<") -> bytes:
    """A pcap file."""
    content = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for frame in frames:
        content += struct.pack(order + "IIII", 0, 0, len(frame), len(frame)) + frame
    return content


def pcapng(frames: list[bytes], link: int = ETHERNET) -> bytes:
    """A pcapng file: section, interface, enhanced packets."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = 12 + len(body)
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    content = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    content += block(1, struct.pack("<HHI", link, 0, 0))
    for frame in frames:
        content += block(6, struct.pack("<IIIII", 0, 0, 0, len(frame), len(frame)) + frame)
    return content
