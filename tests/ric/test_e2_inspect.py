"""Any E2 message as a tree: real samples, captures, text in every dress, hostile bytes."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from e2_captures import EXPORTED, RAW_SCTP, USER_8, ethernet, exported, ip, pcap, pcapng, sctp, tcp
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from xapp.ric.aper import E2DecodeError
from xapp.ric.e2ap import RicIndication, encode_ric_indication
from xapp.ric.inspect import (
    E2AP_PDU,
    Embedded,
    InputError,
    Message,
    inspect_message,
    pdu_name,
    read_messages,
    to_json,
)
from xapp.ric.inspect.render import plmn_text, render
from xapp.ric.inspect.sources import read_argument
from xapp.ric.kpm import MeasurementList, encode_indication_header, encode_indication_message
from xapp.ric.kpm.function import KpmRanFunction, encode_ran_function
from xapp.ric.kpm.schema import INDICATION_HEADER, INDICATION_MESSAGE, RAN_FUNCTION, encode_kpm_pdu
from xapp.ric.rmr.frame import RmrMessage, encode_frame

REPOSITORY = Path(__file__).parents[2]
SAMPLES = (
    Path(os.environ.get("SEMCOM_DATA", REPOSITORY.parent / "shared" / "data")) / "e2" / "real_samples.json"
)
CAPTURED = json.loads(SAMPLES.read_text()) if SAMPLES.exists() else []
VECTORS = json.loads((Path(__file__).parent / "kpm_schema_vectors.json").read_text())["messages"]

HEADER = encode_indication_header(1.7e9, sender_name="gnb")
MESSAGE = encode_indication_message(
    [(5, (12.5, 70000)), (6, (None, 0))], MeasurementList(["SINR", "DRB.UEThpDl"]), granularity_ms=100
)
INDICATION = encode_ric_indication(RicIndication(123, 7, 2, 1, 0, HEADER, MESSAGE, 3))
ROWS = [
    {"ue": "ue-5", "measurement": "SINR", "label": "", "value": 12.5},
    {"ue": "ue-5", "measurement": "DRB.UEThpDl", "label": "", "value": 70000},
    {"ue": "ue-6", "measurement": "SINR", "label": "", "value": None},
    {"ue": "ue-6", "measurement": "DRB.UEThpDl", "label": "", "value": 0},
]


def printed(message: Message) -> str:
    """As the terminal shows it."""
    shown = io.StringIO()
    Console(file=shown, width=160).print(render(message))
    return shown.getvalue()


@pytest.mark.skipif(not CAPTURED, reason=f"no captures at {SAMPLES}")
@pytest.mark.parametrize("sample", CAPTURED, ids=lambda sample: sample["name"])
def test_real_messages_decode_as_expected(sample: dict[str, Any]) -> None:
    octets = bytes.fromhex(sample["hex"])
    if sample["expected"] is None and sample["pdu"] == INDICATION_MESSAGE:
        with pytest.raises(E2DecodeError, match="size 0") as caught:
            inspect_message(octets)
        assert caught.value.field.endswith("measCondUEidList[0].measType.measName")
        assert caught.value.offset == 115
        return
    message = inspect_message(octets)
    assert message.pdu.startswith(sample["pdu"])
    if sample["expected"] is not None:
        assert to_json(message.tree) == sample["expected"]


def test_an_indication_is_expanded_and_its_values_are_rows() -> None:
    message = inspect_message(INDICATION)
    assert (message.pdu, message.version) == (E2AP_PDU, "3.00")
    assert message.rows == ROWS
    outcome, envelope = message.tree
    assert outcome == "initiatingMessage"
    parts = dict(part["value"] for part in envelope["value"][1]["protocolIEs"])
    assert parts["RICrequestID"] == {"ricRequestorID": 123, "ricInstanceID": 7}
    header = parts["RICindicationHeader"]
    assert isinstance(header, Embedded)
    assert (header.octets, header.pdu, header.version) == (HEADER, INDICATION_HEADER, "3.00")
    assert to_json(header)["value"]["indicationHeader-formats"][1]["senderName"] == "gnb"


def test_a_short_time_stamp_tells_the_older_version() -> None:
    header = encode_indication_header(1.7e9, stamp_bytes=4)
    message = inspect_message(encode_ric_indication(RicIndication(1, 2, 3, 4, 0, header, MESSAGE)))
    assert message.version == "2.03"


def test_an_octet_string_that_no_service_model_reads_is_kept_with_the_reason() -> None:
    message = inspect_message(encode_ric_indication(RicIndication(1, 2, 3, 4, 0, b"\xff" * 3, MESSAGE)))
    parts = dict(part["value"] for part in message.tree[1]["value"][1]["protocolIEs"])
    assert to_json(parts["RICindicationHeader"])["hex"] == "ffffff"
    assert INDICATION_HEADER in parts["RICindicationHeader"].error
    assert message.rows == ROWS


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['version']} {v['pdu'][9:]} {v['hex'][:8]}")
def test_messages_of_every_version_are_read_when_the_version_is_said(vector: dict[str, Any]) -> None:
    octets = bytes.fromhex(vector["hex"])
    if vector["pdu"] == RAN_FUNCTION:
        with pytest.raises(E2DecodeError, match="not KPM"):  # the vectors' names are noise
            inspect_message(octets, version=vector["version"], pdu=vector["pdu"])
        return
    message = inspect_message(octets, version=vector["version"], pdu=vector["pdu"])
    assert to_json(message.tree) == vector["value"]
    assert printed(message).startswith(message.pdu)


def test_flexrics_dialect_is_never_guessed_but_hinted_at() -> None:
    value = {
        "indicationMessage-formats": (
            "indicationMessage-Format3",
            {
                "ueMeasReportList": [
                    {
                        "ueID": ("gNB-DU-UEID", {"gNB-CU-UE-F1AP-ID": 3}),
                        "measReport": {"measData": [{"measRecord": [("integer", 4)]}]},
                    }
                ]
            },
        )
    }
    octets = encode_kpm_pdu(INDICATION_MESSAGE, value, "flexric")
    assert inspect_message(octets, version="flexric").rows == [
        {"ue": "gnb-du-3", "measurement": "#0", "label": "", "value": 4}
    ]
    with pytest.raises(E2DecodeError, match="--kpm flexric"):
        inspect_message(octets, pdu=INDICATION_MESSAGE)


def test_a_description_names_its_service_model() -> None:
    kpm = KpmRanFunction("ORAN-E2SM-KPM", "1.3.6.1.4.1.53148.1.3.2.2", "KPM")
    assert inspect_message(encode_ran_function(kpm)).pdu == RAN_FUNCTION


def test_rows_of_conditions_name_who_met_them() -> None:
    def user(number: int) -> dict[str, Any]:
        return {"ueID": ("gNB-CU-UP-UEID", {"gNB-CU-CP-UE-E1AP-ID": number})}

    condition = {"matchingCondChoice": ("measLabel", {"fiveQI": 9, "sUM": "true"})}
    item = {"measType": ("measID", 4), "matchingCond": [condition], "matchingUEidList": [user(1), user(2)]}
    content = {
        "measData": [{"measRecord": [("integer", 10), ("noValue", None)]}, {"measRecord": [("real", 0.5)]}],
        "measCondUEidList": [item],
    }
    octets = encode_kpm_pdu(
        INDICATION_MESSAGE, {"indicationMessage-formats": ("indicationMessage-Format2", content)}
    )
    assert inspect_message(octets).rows == [
        {"ue": "gnb-cu-up-1", "measurement": "measID:4", "label": "fiveQI=9,sUM", "value": 10, "period": 0},
        {"ue": "gnb-cu-up-2", "measurement": "measID:4", "label": "fiveQI=9,sUM", "value": None, "period": 0},
        {"ue": None, "measurement": "#0", "label": "", "value": 0.5, "period": 1},
    ]


SPACED = MESSAGE.hex(" ")
WRAPPED = "\n".join(MESSAGE.hex()[i : i + 32] for i in range(0, len(MESSAGE.hex()), 32))
DUMP = "\n".join(f"{i:08x}: {MESSAGE[i : i + 16].hex(' ', 2)}  ....E2.a" for i in range(0, len(MESSAGE), 16))
DRESSES = {
    "plain": MESSAGE.hex(),
    "upper case": MESSAGE.hex().upper(),
    "spaces": SPACED,
    "colons": MESSAGE.hex(":"),
    "0x": "0x" + SPACED.replace(" ", ", 0x"),
    "backslash x": "".join(f"\\x{octet:02x}" for octet in MESSAGE),
    "lines": WRAPPED,
    "hex dump": DUMP,
    "base64": base64.b64encode(MESSAGE).decode(),
    "base64 in lines": base64.encodebytes(MESSAGE).decode(),
    "comment": "# from the lab\n" + MESSAGE.hex() + "\n",
}


@pytest.mark.parametrize("dress", DRESSES)
def test_text_in_any_dress_is_one_message(dress: str) -> None:
    assert [source.octets for source in read_messages(DRESSES[dress].encode())] == [MESSAGE]


def test_a_binary_file_is_one_message() -> None:
    assert [source.octets for source in read_messages(INDICATION)] == [INDICATION]


def test_lines_are_messages_and_a_bad_one_says_where() -> None:
    text = f"{HEADER.hex()}\n\n{MESSAGE.hex()}\nnonsense!\n{INDICATION.hex()}\n"
    sources = list(read_messages(text.encode()))
    assert [source.octets for source in sources] == [HEADER, MESSAGE, b"", INDICATION]
    assert [source.where for source in sources] == ["line 1", "line 3", "line 4", "line 5"]
    assert "no hex digit" in sources[2].error


@pytest.mark.parametrize("text", ["", "   \n# only a comment\n", "hello, world", "abc"])
def test_no_message_is_said_so(text: str) -> None:
    with pytest.raises(InputError, match=r"expected|neither"):
        list(read_messages(text.encode()))


def capture_of_sctp() -> list[bytes]:
    """One message whole, one in two chunks of two packets, a repeated chunk, another protocol."""
    whole, rest = INDICATION, HEADER + INDICATION
    return [
        ethernet(ip(132, sctp([(3, 1, whole), (2, 2, rest[:20])]))),
        ethernet(ip(132, sctp([(2, 2, rest[:20])])), vlan=True),
        ethernet(ip(132, sctp([(1, 3, rest[20:])]))),
        ethernet(ip(132, sctp([(3, 1, whole)], protocol=60, ports=(38412, 38412)))),
        ethernet(ip(132, sctp([(3, 9, MESSAGE)], ports=(1, 2)), version=6)),
        ethernet(ip(17, b"12345678")),
    ]


@pytest.mark.parametrize("write", [pcap, pcapng, lambda frames: pcap(frames, order=">")])
def test_e2ap_is_found_in_captures_of_sctp(write: Any) -> None:
    sources = list(read_messages(write(capture_of_sctp())))
    assert [source.octets for source in sources] == [INDICATION, HEADER + INDICATION, MESSAGE]
    assert sources[1].where == "packet 3, SCTP 10.0.0.1:36421 -> 10.0.0.2:5000"


def test_a_capture_of_bare_sctp_is_read() -> None:
    content = pcap([sctp([(3, 1, INDICATION)])], link=RAW_SCTP)
    assert [source.octets for source in read_messages(content)] == [INDICATION]


@pytest.mark.parametrize(
    ("frames", "link"),
    [
        ([INDICATION, b"\x7f other"], USER_8),
        ([exported(INDICATION), exported(INDICATION, b"e2ap\0\0\0\0"), exported(b"\0\1", b"udp")], EXPORTED),
    ],
)
def test_srsrans_own_captures_are_read(frames: list[bytes], link: int) -> None:
    sources = list(read_messages(pcap(frames, link=link)))
    assert sources
    assert {source.octets for source in sources} == {INDICATION}
    assert sources[0].where == "packet 1"


def test_exported_pdus_that_end_early_are_left_out() -> None:
    whole = exported(INDICATION)
    frames = [whole[:size] for size in range(13)]
    with pytest.raises(InputError, match="without E2AP"):
        list(read_messages(pcap(frames, link=EXPORTED)))


def test_an_empty_argument_is_no_folder() -> None:
    with pytest.raises(InputError, match="nothing to read"):
        list(read_messages(read_argument(" ")))


def test_rmr_frames_are_found_whatever_the_segments() -> None:
    frames = b"".join(
        encode_frame(RmrMessage(mtype=12050, payload=payload, sub_id=7, meid="gnb_1"))
        for payload in (INDICATION, b"<not e2ap>", INDICATION)
    )
    cuts = [frames[:500], frames[500:900], frames[900:]]
    numbers = [0xFFFFFF00 + sum(map(len, cuts[:i])) for i in range(3)]
    segments = [
        tcp(1, b"GET / HTTP/1.1"),
        *(tcp(numbers[i], cuts[i]) for i in (0, 2, 1, 1)),  # out of order, and one sent again
    ]
    sources = list(read_messages(pcapng([ethernet(ip(6, segment)) for segment in segments])))
    assert [source.octets for source in sources] == [INDICATION, INDICATION]
    assert "RMR 10.0.0.1:40000 -> 10.0.0.2:4560, type 12050, sub id 7, meid gnb_1" in sources[0].where


def test_a_capture_without_e2ap_is_said_so() -> None:
    with pytest.raises(InputError, match="SCTP"):
        list(read_messages(pcap([ethernet(ip(17, b"12345678"))])))


@settings(max_examples=60)
@given(st.sampled_from([pcap, pcapng]), st.data())
def test_broken_captures_raise_only_input_errors(write: Any, data: st.DataObject) -> None:
    content = bytearray(write(capture_of_sctp()))
    for offset in data.draw(st.lists(st.integers(4, len(content) - 1), max_size=6)):
        content[offset] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        list(read_messages(bytes(content[: data.draw(st.integers(0, len(content)))])))


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_garbage_raises_only_decode_errors(octets: bytes) -> None:
    with contextlib.suppress(E2DecodeError):
        inspect_message(octets)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(4, len(INDICATION) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_e2ap_raises_only_decode_errors(changes: list[tuple[int, int]]) -> None:
    octets = bytearray(INDICATION)
    for offset, value in changes:
        octets[offset] = value
    with contextlib.suppress(E2DecodeError):
        to_json(inspect_message(bytes(octets)).tree)
    assert inspect_message(INDICATION).rows == ROWS  # an error leaves nothing behind


def test_a_time_is_readable_also_where_the_header_has_nothing_else() -> None:
    assert "2023-11-14 22:13:20.000000 UTC" in printed(inspect_message(encode_indication_header(1.7e9)))


def test_names_of_pdus_may_be_short() -> None:
    assert pdu_name("header") == pdu_name("e2sm-kpm-indicationheader") == INDICATION_HEADER
    with pytest.raises(ValueError, match="are known"):
        pdu_name("nothing")


@pytest.mark.parametrize(
    ("octets", "text"), [("00f110", "001-01"), ("13f184", "311-48"), ("130014", "310-410")]
)
def test_plmn_is_read_as_people_write_it(octets: str, text: str) -> None:
    assert plmn_text(bytes.fromhex(octets)) == text
