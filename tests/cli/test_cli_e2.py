"""`semcom e2 decode`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xapp.cli import app
from xapp.ric.e2ap import RicIndication, encode_ric_indication
from xapp.ric.kpm import (
    MeasurementList,
    encode_action_definition,
    encode_indication_header,
    encode_indication_message,
)

RUNNER = CliRunner()
HEADER = encode_indication_header(1.7e9, sender_name="gnb")
MESSAGE = encode_indication_message([(5, (12.5,))], MeasurementList(["SINR"]), granularity_ms=100)
INDICATION = encode_ric_indication(RicIndication(123, 7, 2, 1, 0, HEADER, MESSAGE))


def test_help_teaches_by_example() -> None:
    result = RUNNER.invoke(app, ["e2", "decode", "--help"])
    assert result.exit_code == 0
    assert "semcom e2 decode e2.pcapng --json" in result.output
    assert "flexric" in result.output


def test_hex_is_printed_as_a_tree_with_its_values() -> None:
    result = RUNNER.invoke(app, ["e2", "decode", INDICATION.hex()])
    assert result.exit_code == 0
    for line in ("RICindication", "RANfunctionID 2", "amf-UE-NGAP-ID 5", "001-01", "2023-11-14", "100 ms"):
        assert line in result.output
    assert result.output.splitlines()[-1].split() == ["ue-5", "SINR", "12.5"]


def test_json_is_one_object() -> None:
    result = RUNNER.invoke(app, ["e2", "decode", MESSAGE.hex(" "), "--json"])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown.keys() == {"pdu", "version", "tree", "rows"}
    assert (shown["pdu"], shown["version"]) == ("E2SM-KPM-IndicationMessage", "3.00")
    assert shown["rows"] == [{"ue": "ue-5", "measurement": "SINR", "label": "", "value": 12.5}]


def test_only_indication_messages_have_rows() -> None:
    shown = json.loads(RUNNER.invoke(app, ["e2", "decode", HEADER.hex(), "--json"]).stdout)
    assert shown.keys() == {"pdu", "version", "tree"}


def test_a_file_of_lines_gives_an_object_a_line_and_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    file = tmp_path / "messages.hex"
    file.write_text(f"{HEADER.hex()}\n{MESSAGE.hex()[:-8]}\n{INDICATION.hex()}\n")
    result = RUNNER.invoke(app, ["e2", "decode", str(file), "--json"])
    assert result.exit_code == 1
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first["pdu"] == "E2SM-KPM-IndicationHeader"
    assert second.keys() >= {"error", "offset", "field"}
    assert second["source"] == "line 2"
    assert third["rows"][0]["value"] == 12.5


def test_a_message_that_is_none_says_where_and_what() -> None:
    octets = MESSAGE[:10]
    result = RUNNER.invoke(app, ["e2", "decode", octets.hex(), "--pdu", "message", "--json"])
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert shown["field"].startswith("E2SM-KPM-IndicationMessage.indicationMessage-formats")
    assert isinstance(shown["offset"], int)
    plain = RUNNER.invoke(app, ["e2", "decode", octets.hex(), "--pdu", "message"])
    assert plain.exit_code == 1
    assert f"at byte {shown['offset']}" in plain.output


def test_standard_input_is_read() -> None:
    for arguments in (["-"], []):
        result = RUNNER.invoke(app, ["e2", "decode", *arguments, "--json"], input=MESSAGE.hex() + "\n")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["rows"]


def test_a_binary_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "indication.bin"
    file.write_bytes(INDICATION)
    assert json.loads(RUNNER.invoke(app, ["e2", "decode", str(file), "--json"]).stdout)["pdu"] == "E2AP-PDU"


def test_the_version_chooses_the_layout() -> None:
    octets = encode_action_definition(["A"], 100, version="flexric").hex()
    told = RUNNER.invoke(app, ["e2", "decode", octets, "--kpm", "FlexRIC", "--json"])
    assert json.loads(told.stdout)["version"] == "flexric"
    untold = RUNNER.invoke(app, ["e2", "decode", octets, "--pdu", "action", "--json"])
    assert json.loads(untold.stdout).get("version") != "flexric"


@pytest.mark.parametrize(
    ("arguments", "cause"), [(["00", "--kpm", "9.9"], "2.03"), (["00", "--pdu", "nothing"], "header")]
)
def test_wrong_options_are_told_what_is_known(arguments: list[str], cause: str) -> None:
    result = RUNNER.invoke(app, ["e2", "decode", *arguments])
    assert result.exit_code == 2
    assert cause in result.output


def test_what_is_neither_file_nor_message_is_said_so() -> None:
    result = RUNNER.invoke(app, ["e2", "decode", "no/such/file.pcap", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["field"] == "input"
