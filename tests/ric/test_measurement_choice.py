"""What is subscribed to, by what base stations really offer, and what their values become."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.kpm.function import KpmRanFunction, OfferedMeasurement, ReportStyle, encode_ran_function
from xapp.ric.measurement_choice import SubscriptionPlan, choose_measurements
from xapp.ric.measurement_names import KNOWN, Carrier
from xapp.ric.rnib import RanFunction
from xapp.telemetry.user_table import RANGES

KPM_OID = "1.3.6.1.4.1.53148.1.2.2.2"
RC = RanFunction(id=3, definition=b"", revision=1, oid="1.3.6.1.4.1.53148.1.1.2.3")

SRSRAN_25 = ("RRU.PrbAvailDl", "RRU.PrbUsedDl", "RRU.PrbTotDl", "DRB.RlcSduDelayDl", "DRB.UEThpDl")
SRSRAN_24 = ("CQI", "RSRP", "RSRQ", *SRSRAN_25)
OAI_MARCH_2024 = (
    "DRB.PdcpSduVolumeDL",
    "DRB.RlcSduDelayDl",
    "DRB.UEThpDl",
    "DRB.UEThpUl",
    "RRU.PrbTotDl",
    "RRU.PrbTotUl",
)
OAI_2026 = (
    *OAI_MARCH_2024,
    "CARR.PDSCHMCSDist",
    "CARR.PUSCHMCSDist",
    "L1M.SS-RSRP",
    "MR.NRScSSSINR",
    "RRC.ConnMean",
)


def style(number: int, names: Sequence[str]) -> ReportStyle:
    return ReportStyle(number, f"style {number}", number, tuple(map(OfferedMeasurement, names)), 1, 3)


def kpm(*styles: ReportStyle, oid: str = KPM_OID, id: int = 2) -> RanFunction:
    description = KpmRanFunction("ORAN-E2SM-KPM", KPM_OID, "KPM Monitor", report_styles=styles)
    return RanFunction(id, encode_ran_function(description), 1, oid)


def choose(*styles: ReportStyle, **options: Any) -> SubscriptionPlan | None:
    return choose_measurements("gnb", [RC, kpm(*styles)], **options)


def chosen(*styles: ReportStyle, **options: Any) -> SubscriptionPlan:
    plan = choose(*styles, **options)
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("offered", "source", "asked"),
    [
        (("SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl"), "SINR", None),
        (("RRC.ConnMean", "DRB.UEThpDl", "CQI"), "CQI", ("CQI", "DRB.UEThpDl")),
        (("Viavi.UE.Rsrp", "RRU.PrbUsedDl", "DRB.UEThpDl"), "RSRP", None),
        (("Viavi.UE.RsSinr", "Viavi.UE.Rsrp", "DRB.UECqiDl"), "SINR", None),
        (SRSRAN_25, "PROXY", ("DRB.UEThpDl", "RRU.PrbTotDl")),
        (OAI_2026, "PROXY", ("DRB.UEThpDl", "RRU.PrbTotDl")),
    ],
)
def test_best_source_is_taken_and_the_rest_asked_for_too(
    offered: tuple[str, ...], source: str, asked: tuple[str, ...] | None
) -> None:
    plan = chosen(style(4, offered))
    assert plan.source == source
    assert sorted(plan.measurements) == sorted(asked or offered)


@pytest.mark.parametrize(
    ("styles", "best"),
    [((1, 2, 3, 4, 5), 4), ((1, 2, 3, 5), 5), ((3, 2, 1), 3), ((1, 2), 2), ((1,), 1), ((4, 9), 4)],
)
def test_style_by_what_is_offered(styles: tuple[int, ...], best: int) -> None:
    plan = chosen(*(style(number, ("CQI",)) for number in styles))
    assert (plan.style_type, plan.action_format) == (best, best)
    assert plan.needs_user_ids == (best in (2, 5))
    assert plan.per_user == (best != 1)
    assert plan.source == ("CQI" if best != 1 else "none")


def test_a_style_with_a_source_goes_before_one_without() -> None:
    assert chosen(style(4, ("DRB.UEThpDl",)), style(2, ("CQI",))).style_type == 2
    assert chosen(style(4, ("DRB.UEThpDl",))).source == "none"


def test_srsran_is_not_asked_for_what_it_takes_from_the_first_user() -> None:
    many = chosen(style(4, SRSRAN_24), style(2, SRSRAN_24))
    assert (many.style_type, many.source) == (4, "PROXY")
    assert not {"CQI", "RSRP", "RSRQ"} & set(many.measurements)
    assert "srsRAN" in many.notes[0]
    one = chosen(style(2, SRSRAN_24))
    assert one.source == "CQI"
    assert "RSRP" not in one.measurements


def test_unoffered_names_can_be_asked_for() -> None:
    plan = chosen(style(4, SRSRAN_25), ask_for=("CQI",))
    assert plan.source == "CQI"
    assert "CQI" in plan.measurements


def test_blocks_of_early_oai_are_sums_over_the_period_in_either_spacing() -> None:
    for spacing in (15, 30):
        carrier = Carrier(blocks=100, spacing_khz=spacing, downlink_share=0.5)
        plan = chosen(style(4, OAI_MARCH_2024), carrier=carrier, period_ms=100)
        all_blocks = 100 * 100 * spacing / 15 * 0.5
        columns = plan.columns({"RRU.PrbTotDl": [all_blocks, all_blocks / 4]})
        assert list(columns["RRU.PrbTotDl"]) == pytest.approx([100.0, 25.0])
    assert chosen(style(4, OAI_2026)).readings["RRU.PrbTotDl"].unit == "percent"
    percent = chosen(style(4, OAI_MARCH_2024), units={"RRU.PrbTotDl": "percent"})
    assert percent.readings["RRU.PrbTotDl"].unit == "percent"


@pytest.mark.parametrize(
    ("name", "value", "metric", "canonical"),
    [
        ("SINR", 12.5, "SINR", 12.5),
        # ns-3 logs "SINR -0.616781" beside "3gpp 45" and "-13.7703" beside "19"
        ("L3servingSINR3gpp_cell_3_UEID_00004", 45, "SINR", pytest.approx(-0.617, abs=0.3)),
        ("L3servingSINR3gpp_cell_3_UEID_00004", 19, "SINR", pytest.approx(-13.77, abs=0.3)),
        ("RRU.PrbUsedDl", 53, "RRU.PrbTotDl", 50.0),
        ("DRB.RlcSduTransmittedVolumeDL", 200, "DRB.UEThpDl", pytest.approx(2000.0)),
        ("DRB.PdcpSduVolumeDL", 1, "DRB.UEThpDl", pytest.approx(10_000.0)),
        ("DRB.UEThpDl[fiveQI=9]", 7, "DRB.UEThpDl", 7.0),
    ],
)
def test_values_become_canonical(name: str, value: float, metric: str, canonical: object) -> None:
    plan = chosen(style(4, ("CQI",)), period_ms=100)
    (found,) = plan.columns({name: [value]}).items()
    assert found[0] == metric
    assert found[1][0] == canonical


@pytest.mark.parametrize(
    ("name", "unit", "values", "canonical"),
    [
        # first and last bin of TS 38.133 tables 10.1.16.1-1 and 10.1.6.1-1: -23..-22.5 and 39.5..40 dB, ...
        ("SINR", "sinr-index", (1, 126), (-22.75, 39.75)),
        ("RSRP", "rsrp-index", (1, 126), (-155.5, -30.5)),
        ("DRB.UEThpDl", "Mbit/s", (1, 2), (1000.0, 2000.0)),
    ],
)
def test_units_can_be_overridden(
    name: str, unit: str, values: tuple[float, ...], canonical: tuple[float, ...]
) -> None:
    plan = chosen(style(4, (name,)), units={name: unit})
    assert list(plan.columns({name: values})[name]) == pytest.approx(canonical)
    assert plan.notes == ()


def test_assumed_units_are_told() -> None:
    assert "Viavi.UE.RsSinr (dB) is an assumption" in chosen(style(4, ("Viavi.UE.RsSinr",))).notes[0]
    assert chosen(style(4, ("SINR",))).notes == ()


def test_several_names_of_one_metric_fill_each_other() -> None:
    plan = chosen(style(4, ("SINR",)))
    columns = plan.columns(
        {
            "L3servingSINR3gpp_cell_1_UEID_1": [127, None],
            "L3servingSINR3gpp_cell_1_UEID_2": [None, 0],
            "L3neighSINRListOf_UEID_1_of_Cell_2": [5, 5],
        }
    )
    assert set(columns) == {"SINR"}
    assert list(columns["SINR"]) == pytest.approx([40.0, -23.0])


def test_proxy_needs_throughput_and_blocks() -> None:
    assert chosen(style(4, SRSRAN_25)).proxy_hz == pytest.approx(106 * 12 * 30e3)
    assert chosen(style(4, ("CQI", "DRB.UEThpDl"))).proxy_hz == 0.0


def test_nothing_of_use_gives_no_plan() -> None:
    assert choose(style(4, ("RRC.ConnMean", "MR.NRScSSSINR"))) is None
    assert choose() is None
    assert choose_measurements("gnb", [RC]) is None
    assert choose_measurements("gnb", [kpm(style(4, ("CQI",)), oid=RC.oid)]) is None
    assert choose_measurements("gnb", [kpm(style(4, ("CQI",)), oid="1.3.6.1.4.1.53148.1.1.2.2")]) is None


def test_an_undecodable_description_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    bad = RanFunction(1, b"\xff", 1, KPM_OID)
    assert choose_measurements("gnb-7", [bad]) is None
    assert caplog.records[0].__dict__["e2_node"] == "gnb-7"
    good = kpm(style(4, ("CQI",)), oid="", id=9)
    plan = choose_measurements("gnb", [bad, good], version="flexric")
    assert plan is not None
    assert (plan.ran_function_id, plan.version) == (9, "flexric")


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="report period 0 ms"):
        choose(style(4, ("CQI",)), period_ms=0)
    with pytest.raises(ValueError, match="unit 'furlong' of CQI"):
        choose(style(4, ("CQI",)), units={"CQI": "furlong"})
    with pytest.raises(ValueError, match="downlink_share=0"):
        Carrier(downlink_share=0.0)


def test_canonical_names_are_the_tables() -> None:
    assert {known.metric for known in KNOWN} <= set(RANGES)


NAMES = st.lists(
    st.sampled_from([*SRSRAN_24, *OAI_2026, *(known.name for known in KNOWN)]) | st.just("X.Unknown"),
    min_size=1,
)


@settings(max_examples=40)
@given(st.lists(st.builds(style, st.integers(0, 7), NAMES), max_size=7))
def test_a_plan_asks_only_for_what_its_style_offers(styles: list[ReportStyle]) -> None:
    plan = choose(*styles)
    if plan is None:
        return
    assert plan.measurements
    assert any(
        found.style == plan.style_type and set(plan.measurements) <= set(found.names) for found in styles
    )
    metrics = [reading.metric for reading in plan.readings.values()]
    assert len(metrics) == len(set(metrics))


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from([k.name for k in KNOWN]), st.none() | st.floats())
)
def test_any_report_gives_columns_of_one_length(reported: dict[str, float | None]) -> None:
    columns = chosen(style(4, ("CQI",))).columns({name: [value] for name, value in reported.items()})
    assert set(columns) <= set(RANGES)
    assert all(column.shape == (1,) and column.dtype == np.float64 for column in columns.values())
    assert all(
        math.isnan(columns[k.metric][0])
        for k in KNOWN
        if set(reported) == {k.name} and reported[k.name] is None
    )
