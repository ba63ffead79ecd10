"""The UEID choice of the E2SM common information elements (O-RAN.WG3.E2SM clause 6.2.2.6).

Seven alternatives, the same in every version from KPM v2.00 on (read up to E2SM-R004 v07.00, which adds only
``cell-RNTI`` as an extension of each), and an eighth way out: an alternative newer than this decoder, named
by its index. The optional parts other than the RAN UE id are checked and skipped.
"""

from __future__ import annotations

from xapp.ric.aper import AperReader
from xapp.ric.kpm.model import UE_KINDS, UeId

_MAX_E1AP_IDS = 65535


def _plmn(reader: AperReader) -> None:
    reader.octets(3)


def _guami(reader: AperReader) -> None:
    reader.field = "ueID.guami"
    extended = reader.bits(1)
    _plmn(reader)
    reader.bits(24)  # AMF region 8, set 10, pointer 6
    if extended:
        reader.skip_extensions()


def _gummei(reader: AperReader) -> None:
    reader.field = "ueID.gUMMEI"
    extended = reader.bits(1)
    _plmn(reader)
    reader.bits(24)  # MME group 16, code 8
    if extended:
        reader.skip_extensions()


def _uint32(reader: AperReader, name: str) -> int:
    reader.field = f"ueID.{name}"
    return reader.sized_uint(2)


def _amf_ue_ngap_id(reader: AperReader) -> int:
    reader.field = "ueID.amf-UE-NGAP-ID"
    octets = reader.bits(3) + 1
    if octets > 5:
        raise reader.error(f"{octets} octets: 1..5 are legal")
    return reader.uint(octets)


def _ran_ue_id(reader: AperReader) -> bytes:
    reader.field = "ueID.ran-UEID"
    return reader.octets(8)


def _bit_string(reader: AperReader, count: int) -> None:
    """BIT STRING longer than 16 bits: aligned."""
    reader.align()
    reader.bits(count)


def _id_list(reader: AperReader, count: int) -> None:
    """F1AP or E1AP identifiers: SEQUENCE OF SEQUENCE {INTEGER (0..4294967295), ...}."""
    for _ in range(count):
        extended = reader.bits(1)
        reader.sized_uint(2)
        if extended:
            reader.skip_extensions()


def _f1ap_list(reader: AperReader) -> None:
    reader.field = "ueID.gNB-CU-UE-F1AP-ID-List"
    _id_list(reader, reader.bits(2) + 1)


def _e1ap_list(reader: AperReader) -> None:
    reader.field = "ueID.gNB-CU-CP-UE-E1AP-ID-List"
    count = reader.uint(2) + 1
    if count > _MAX_E1AP_IDS:
        raise reader.error(f"{count} items: 1..{_MAX_E1AP_IDS} are legal")
    _id_list(reader, count)


def _node_id(reader: AperReader, name: str, sizes: tuple[int, ...], index_bits: int) -> None:
    """Global node id: PLMN and a choice of BIT STRINGs of the given sizes or an unknown extension."""
    reader.field = f"ueID.{name}"
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
    reader.field = "ueID.globalGNB-ID"
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


def _x2ap_id(reader: AperReader) -> int:
    reader.field = "ueID.m-eNB-UE-X2AP-ID"
    value = reader.uint(2)
    if value > 4095:
        raise reader.error(f"{value}: 0..4095 are legal")
    return value


def _x2ap_extension(reader: AperReader) -> None:
    reader.field = "ueID.m-eNB-UE-X2AP-ID-Extension"
    reader.extensible_uint(0, 16)


def _gnb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(5)
    value = _amf_ue_ngap_id(reader)
    _guami(reader)
    ran_ue_id = None
    if options:
        if options & 16:
            _f1ap_list(reader)
        if options & 8:
            _e1ap_list(reader)
        if options & 4:
            ran_ue_id = _ran_ue_id(reader)
        if options & 2:
            _uint32(reader, "m-NG-RAN-UE-XnAP-ID")
        if options & 1:
            _global_gnb_id(reader)
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _gnb_part(reader: AperReader, name: str) -> tuple[int, bytes | None]:
    extended, option = reader.bits(1), reader.bits(1)
    value = _uint32(reader, name)
    ran_ue_id = _ran_ue_id(reader) if option else None
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _gnb_du(reader: AperReader) -> tuple[int, bytes | None]:
    return _gnb_part(reader, "gNB-CU-UE-F1AP-ID")


def _gnb_cu_up(reader: AperReader) -> tuple[int, bytes | None]:
    return _gnb_part(reader, "gNB-CU-CP-UE-E1AP-ID")


def _ng_enb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(3)
    value = _amf_ue_ngap_id(reader)
    _guami(reader)
    if options & 4:
        _uint32(reader, "ng-eNB-CU-UE-W1AP-ID")
    if options & 2:
        _uint32(reader, "m-NG-RAN-UE-XnAP-ID")
    if options & 1:
        _node_id(reader, "globalNgENB-ID", (20, 18, 21), 2)
    if extended:
        reader.skip_extensions()
    return value, None


def _ng_enb_du(reader: AperReader) -> tuple[int, bytes | None]:
    extended = reader.bits(1)
    value = _uint32(reader, "ng-eNB-CU-UE-W1AP-ID")
    if extended:
        reader.skip_extensions()
    return value, None


def _en_gnb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(4)
    value = _x2ap_id(reader)
    if options & 8:
        _x2ap_extension(reader)
    _node_id(reader, "globalENB-ID", (20, 28), 1)
    if options & 4:
        _uint32(reader, "gNB-CU-UE-F1AP-ID")
    if options & 2:
        _e1ap_list(reader)
    ran_ue_id = _ran_ue_id(reader) if options & 1 else None
    if extended:
        reader.skip_extensions()
    return value, ran_ue_id


def _enb(reader: AperReader) -> tuple[int, bytes | None]:
    extended, options = reader.bits(1), reader.bits(3)
    value = _uint32(reader, "mME-UE-S1AP-ID")
    _gummei(reader)
    if options & 4:
        _x2ap_id(reader)
    if options & 2:
        _x2ap_extension(reader)
    if options & 1:
        _node_id(reader, "globalENB-ID", (20, 28), 1)
    if extended:
        reader.skip_extensions()
    return value, None


_ALTERNATIVES = (_gnb, _gnb_du, _gnb_cu_up, _ng_enb, _ng_enb_du, _en_gnb, _enb)


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


class UeIdCache:
    """Reads UE ids, building a :class:`UeId` only for those not seen lately; bounded.

    Known by their bytes are gNB-UEIDs without optional parts, which start and end at a byte boundary: the
    commonest ones by far.

    Args:
        size: ids kept; when more are seen all are dropped.
    """

    __slots__ = ("_known", "_size")

    def __init__(self, size: int = 8192) -> None:
        self._known: dict[bytes, UeId] = {}
        self._size = size

    def read_item_start(self, reader: AperReader) -> tuple[UeId, int]:
        """The extension bit of the list item that holds the id, and the id.

        Returns:
            The id, and the extension bit.
        """
        data, start = reader.data, reader.pos >> 3
        # 16 bits: no extension, alternative 0, no extension, no options, 3 bits of length, 2 of padding.
        if not reader.pos & 7 and len(data) > start + 9 and data[start] == 0 and data[start + 1] < 0x14:
            guami = start + 3 + (data[start + 1] >> 2)
            stop = guami + 7
            if stop <= len(data) and data[guami] < 0x80:
                reader.pos = stop << 3
                raw = data[start:stop]
                ue = self._known.get(raw)
                if ue is None:
                    if len(self._known) >= self._size:
                        self._known.clear()
                    ue = UeId("gnb", int.from_bytes(data[start + 2 : guami], "big"))
                    self._known[raw] = ue
                return ue, 0
        extended = reader.bits(1)
        return read_ue_id(reader), extended
