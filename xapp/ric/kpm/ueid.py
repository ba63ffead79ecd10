"""The UEID choice of the E2SM common information elements (O-RAN.WG3.E2SM clause 6.2.2.6)."""

from __future__ import annotations

from xapp.ric.aper import AperReader
from xapp.ric.kpm.model import UE_KINDS, UeId


def _plmn(reader: AperReader) -> None:
    reader.octets(3)


def _guami(reader: AperReader) -> None:
    extended = reader.bits(1)
    _plmn(reader)
    reader.bits(24)  # AMF region 8, set 10, pointer 6
    if extended:
        reader.skip_extensions()


def _gummei(reader: AperReader) -> None:
    extended = reader.bits(1)
    _plmn(reader)
    reader.bits(24)  # MME group 16, code 8
    if extended:
        reader.skip_extensions()


def _uint32(reader: AperReader) -> int:
    return reader.sized_uint(2)


def _bit_string(reader: AperReader, count: int) -> None:
    """BIT STRING longer than 16 bits: aligned."""
    reader.align()
    reader.bits(count)


def _id_list(reader: AperReader, count: int) -> None:
    """F1AP or E1AP identifiers: SEQUENCE OF SEQUENCE {INTEGER (0..4294967295), ...}."""
    for _ in range(count):
        extended = reader.bits(1)
        _uint32(reader)
        if extended:
            reader.skip_extensions()


def _e1ap_list(reader: AperReader) -> None:
    _id_list(reader, reader.uint(2) + 1)


def _node_id(reader: AperReader, sizes: tuple[int, ...], index_bits: int) -> None:
    """Global node id: PLMN and a choice of BIT STRINGs of the given sizes or an unknown extension."""
    extended = reader.bits(1)
    _plmn(reader)
    if reader.bits(1):
        reader.small_index()
        reader.octet_string()
    else:
        index = reader.bits(index_bits)
        if index >= len(sizes):
            raise reader.error(f"node id alternative {index}: 0..{len(sizes) - 1} are known")
        _bit_string(reader, sizes[index])
    if extended:
        reader.skip_extensions()


def _global_gnb_id(reader: AperReader) -> None:
    extended = reader.bits(1)
    _plmn(reader)
    if reader.bits(1):
        reader.small_index()
        reader.octet_string()
    else:
        length = 22 + reader.bits(4)
        if length > 32:
            raise reader.error(f"gNB id of {length} bits: 22..32 are legal")
        _bit_string(reader, length)
    if extended:
        reader.skip_extensions()


def _x2ap_extension(reader: AperReader) -> None:
    reader.extensible_uint(0, 16)


def _gnb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(5)
    value = reader.sized_uint(3)
    _guami(reader)
    ran_ue_id = None
    if options:
        if options & 16:
            _id_list(reader, reader.bits(2) + 1)
        if options & 8:
            _e1ap_list(reader)
        if options & 4:
            ran_ue_id = reader.octets(8)
        if options & 2:
            _uint32(reader)
        if options & 1:
            _global_gnb_id(reader)
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _gnb_part(reader: AperReader) -> tuple[int, bytes | None]:
    extended, option = reader.bits(1), reader.bits(1)
    value = _uint32(reader)
    ran_ue_id = reader.octets(8) if option else None
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _ng_enb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(3)
    value = reader.sized_uint(3)
    _guami(reader)
    if options & 4:
        _uint32(reader)
    if options & 2:
        _uint32(reader)
    if options & 1:
        _node_id(reader, (20, 18, 21), 2)
    if extended:
        reader.skip_extensions()
    return value, None


def _ng_enb_du(reader: AperReader) -> tuple[int, bytes | None]:
    extended = reader.bits(1)
    value = _uint32(reader)
    if extended:
        reader.skip_extensions()
    return value, None


def _en_gnb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(4)
    value = reader.uint(2)
    if options & 8:
        _x2ap_extension(reader)
    _node_id(reader, (20, 28), 1)
    if options & 4:
        _uint32(reader)
    if options & 2:
        _e1ap_list(reader)
    ran_ue_id = reader.octets(8) if options & 1 else None
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _enb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(3)
    value = _uint32(reader)
    _gummei(reader)
    if options & 4:
        reader.uint(2)
    if options & 2:
        _x2ap_extension(reader)
    if options & 1:
        _node_id(reader, (20, 28), 1)
    if extended:
        reader.skip_extensions()
    return value, None


_ALTERNATIVES = (_gnb, _gnb_part, _gnb_part, _ng_enb, _ng_enb_du, _en_gnb, _enb)


def read_ue_id(reader: AperReader) -> UeId:
    """The next UEID; optional parts other than the RAN UE id are skipped.

    Raises:
        E2DecodeError: malformed.
    """
    reader.field = "ueID"
    if reader.bits(1):
        index = reader.small_index()
        reader.octet_string()
        return UeId("extension", index)
    index = reader.bits(3)
    if index >= len(_ALTERNATIVES):
        raise reader.error(f"UEID alternative {index}: 0..{len(_ALTERNATIVES) - 1} are known")
    value, ran_ue_id = _ALTERNATIVES[index](reader)
    return UeId(UE_KINDS[index], value, ran_ue_id)
