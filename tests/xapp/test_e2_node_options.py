"""What an operator says of single E2 nodes: it reaches the subscription and the decoding of indications."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xapp_laboratory import memory_sdl

from codec_runtime.contract.settings import SettingsError, load_settings
from xapp.actuator import Actuator
from xapp.e2_nodes import E2Nodes
from xapp.ingest import IndicationIngest
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.rate import AdaptiveRate
from xapp.radio_loop import RadioLoop
from xapp.ric.control import RicControl
from xapp.ric.e2ap import RicIndication, encode_ric_indication
from xapp.ric.kpm import UeId, encode_indication_header
from xapp.ric.kpm.action_definition import ueid_value
from xapp.ric.kpm.function import KpmRanFunction, OfferedMeasurement, ReportStyle, encode_ran_function
from xapp.ric.kpm.schema import ACTION_DEFINITION, INDICATION_MESSAGE, decode_kpm_pdu, encode_kpm_pdu
from xapp.ric.kpm.versions import KPM_VERSIONS
from xapp.ric.measurement_names import UNITS, Carrier
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rnib import E2NodeInfo, RanFunction, RnibChange
from xapp.ric.sdl import Sdl
from xapp.settings import E2NodeOptions, XAppSettings
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

__all__ = ["memory_sdl"]  # a fixture that every test uses

CONFIGURED, FOUND = "gnb_configured", "gnb_found"
SCHEMA = json.loads((Path(__file__).parents[2] / "descriptors" / "schema.json").read_text())


def read(**controls: Any) -> XAppSettings:
    return load_settings(XAppSettings, env_prefix="X", environ={}, overrides=controls)


def announced(name: str, *measurements: OfferedMeasurement) -> RnibChange:
    """The R-NIB tells of a node that offers style 4, of KPM 2."""
    offered = ReportStyle(4, "all users", 4, measurements, 1, 3)
    description = KpmRanFunction(
        "ORAN-E2SM-KPM", "1.3.6.1.4.1.53148.1.2.2.2", "KPM", report_styles=(offered,)
    )
    function = RanFunction(2, encode_ran_function(description), 1, description.oid)
    return RnibChange("appeared", E2NodeInfo(name, "GNB", "connected", (function,)))


class Bench:
    """The E2 side without a network."""

    def __init__(self, settings: XAppSettings) -> None:
        self.status, self.table = Status(), UserTable()
        self.nodes = E2Nodes(
            settings, Sdl(namespace="t"), self.status, self.table, rnib=None, rmr_port=4560, http_port=8080
        )
        controller = DirectiveController(self.table, DecoderCatalog(), AdaptiveRate(), 3.0)

        class Nowhere:
            async def push_directives(self, batch: Any) -> Any:
                raise ConnectionError

        actuator = Actuator(Nowhere(), "x", self.status, full=controller.full, on_rejected=lambda r: None)
        site = SimpleNamespace(index=0, controller=controller, actuator=actuator)
        self.ingest = IndicationIngest(
            self.table,
            self.status,
            site_of=lambda meid: site,
            plan_of=self.nodes.plan,
            on_indication=lambda meid, sub_id: True,
        )

    def asked(self, meid: str) -> bytes:
        """Action definition of the subscription."""
        return self.nodes.subscriptions.clients[meid].request.actions[0].definition


async def bench(**controls: Any) -> Bench:
    return Bench(read(**controls))


def flexric_indication(meid: str, sinr: float) -> RmrMessage:
    """SINR of user 5 as a FlexRIC 2.0.0 build writes it: format 3 is in the root of the choice."""
    report = {
        "measData": [{"measRecord": [("real", sinr)]}],
        "measInfoList": [
            {"measType": ("measName", "SINR"), "labelInfoList": [{"measLabel": {"noLabel": "true"}}]}
        ],
        "granulPeriod": 100,
    }
    users = [{"ueID": ueid_value(UeId("gnb", 5)), "measReport": report}]
    formats = ("indicationMessage-Format3", {"ueMeasReportList": users})
    message = encode_kpm_pdu(INDICATION_MESSAGE, {"indicationMessage-formats": formats}, "flexric")
    header = encode_indication_header(1.7e9, stamp_bytes=4)
    pdu = encode_ric_indication(RicIndication(1, 7, 2, 1, 0, header, message))
    return RmrMessage(messages.RIC_INDICATION, pdu, sub_id=7, meid=meid)


@pytest.mark.parametrize(("version", "snr_db"), [("flexric", 17.5), (None, None)])
@pytest.mark.parametrize("meid", [CONFIGURED, FOUND])
def test_flexrics_dialect_reaches_subscription_and_decoding(
    meid: str, version: str | None, snr_db: float | None
) -> None:
    async def main() -> None:
        options = {} if version is None else {"kpm_version": version}
        one = await bench(meids=[CONFIGURED], e2_nodes={CONFIGURED: options, FOUND: options})
        one.nodes.on_change(announced(FOUND, OfferedMeasurement("SINR")))
        asked = decode_kpm_pdu(ACTION_DEFINITION, one.asked(meid), version or "3.00")
        assert asked["ric-Style-Type"] == 4
        if version == "flexric":
            assert one.nodes.plans[meid].version == "flexric"
            with pytest.raises(ValueError, match="E2SM-KPM"):
                decode_kpm_pdu(ACTION_DEFINITION, one.asked(meid), "3.00")
        one.ingest.on_message(flexric_indication(meid, 17.5), 0)
        await asyncio.sleep(0)
        assert one.status.counters["decode_errors"] == (snr_db is None)
        assert [*one.table.snr_db] == ([] if snr_db is None else [snr_db])
        await one.nodes.close(0.1)

    asyncio.run(main())


def test_units_carrier_and_further_measurements_are_those_of_the_node() -> None:
    async def main() -> None:
        options = {
            "carrier": {"prbs": 51, "spacing_khz": 15, "downlink_share": 0.7},
            "units": {"DRB.UEThpDl": "Mbit/s"},
            "ask_for": ["CQI"],
        }
        offered = OfferedMeasurement("DRB.UEThpDl"), OfferedMeasurement("RRU.PrbUsedDl")
        one = await bench(meids=[CONFIGURED], e2_nodes={CONFIGURED: options, FOUND: options})
        one.nodes.on_change(announced(FOUND, *offered))
        one.nodes.on_change(announced("gnb_plain", *offered))
        for meid in (CONFIGURED, FOUND):
            plan = one.nodes.plans[meid]
            assert plan.carrier == Carrier(51, 15, 0.7)
            assert "CQI" in plan.measurements
            assert plan.columns({"DRB.UEThpDl": [2.0]})["DRB.UEThpDl"][0] == 2000.0
        plain = one.nodes.plans["gnb_plain"]
        assert "CQI" not in plain.measurements
        assert plain.carrier == Carrier()
        await one.nodes.close(0.1)

    asyncio.run(main())


def test_the_carrier_of_the_settings_is_that_of_nodes_without_their_own() -> None:
    settings = read(cell_prbs=24, subcarrier_spacing_khz=15, e2_nodes={FOUND: {"carrier": {"prbs": 273}}})
    assert settings.carrier(CONFIGURED) == Carrier(24, 15)
    assert settings.carrier(FOUND) == Carrier(273, 30)

    async def main() -> None:
        one = Bench(settings)
        one.nodes.on_change(announced(CONFIGURED, OfferedMeasurement("CQI")))
        assert one.nodes.plans[CONFIGURED].carrier == Carrier(24, 15)
        await one.nodes.close(0.1)

    asyncio.run(main())


def test_quotas_are_shares_of_the_nodes_own_carrier() -> None:
    settings = read(
        slices={"g": "00f110/1"},
        e2_nodes={FOUND: {"carrier": {"prbs": 53, "downlink_share": 0.5}}, CONFIGURED: {"carrier": {}}},
    )
    table, control = UserTable(), RicControl(lambda message: True, requestor_id=1)
    loop = RadioLoop(settings, table, {}, {}, control, clock=lambda: 1.0)
    percent = []
    for meid in (CONFIGURED, FOUND):
        (row,) = table.fold_indication(meid, [meid], {"SINR": [10.0]}, 1.0)
        table.group[row] = table.groups.index("g")
        table.prefix[row], table.sending_rate[row] = 6, 10.0
        (demand,) = loop.demands(meid)
        percent.append(demand.needed_percent)
    assert percent[1] == pytest.approx(4 * percent[0])  # half the blocks for half the time
    assert percent[0] > 0


def test_measurements_reported_by_number_are_read_as_what_the_node_calls_them() -> None:
    async def main() -> None:
        one = await bench(meids=[])
        one.nodes.on_change(announced(FOUND, OfferedMeasurement("CQI", 7), OfferedMeasurement("unknown", 8)))
        columns = one.nodes.plans[FOUND].columns({"measID:7": [9], "measID:8": [1], "measID:9": [2]})
        assert {name: [*values] for name, values in columns.items()} == {"CQI": [9.0]}
        assert "CQI" in one.nodes.plans[FOUND].columns({"measID:7[fiveQI=9]": [9]})
        await one.nodes.close(0.1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kpm_version": "2.1"}, "kpm_version"),
        ({"units": {"CQI": "furlong"}}, "units.CQI = 'furlong'"),
        ({"units": {"CQJ": "index"}}, "'CQJ'"),
        ({"ask_for": ["no such thing"]}, "'no such thing'"),
        ({"carrier": {"prbs": 276}}, "prbs = 276: 1..275"),
        ({"carrier": {"spacing_khz": 20}}, "spacing_khz"),
        ({"carrier": {"downlink_share": 0}}, "downlink_share = 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(e2_nodes={FOUND: options})
    assert told in str(caught.value)
    assert "e2_nodes" in str(caught.value)


def test_the_descriptors_schema_lists_the_same_options() -> None:
    entry = SCHEMA["properties"]["e2_nodes"]["additionalProperties"]
    properties = entry["properties"]
    assert set(properties) == set(E2NodeOptions.__struct_fields__)
    assert properties["kpm_version"]["enum"] == list(KPM_VERSIONS)
    assert properties["units"]["additionalProperties"]["enum"] == list(UNITS)
    assert entry["additionalProperties"] is properties["carrier"]["additionalProperties"] is False
