"""ASN.1 of measurements in E2SM-KPM: types, labels, bins, records, conditions (module E2SM-KPM-IEs, "IEs" and
"Lists"). What depends on the version is a function of :class:`~xapp.ric.kpm.versions.KpmLayout`."""

from __future__ import annotations

from types import EllipsisType
from typing import Final

from xapp.ric.asn1 import (
    BOOLEAN,
    INTEGER,
    NULL,
    REAL,
    Asn1Type,
    Choice,
    Field,
    SequenceOf,
    bit_string,
    choice,
    enumerated,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)
from xapp.ric.kpm.schema_common import (
    BEAM_ID,
    CGI,
    FIVE_QI,
    PLMN_IDENTITY,
    QCI,
    QOS_FLOW_IDENTIFIER,
    S_NSSAI,
    UEID,
)
from xapp.ric.kpm.versions import KpmLayout

MAX_MEASUREMENT_INFO: Final = 65535
MAX_LABEL_INFO: Final = 2147483647
MAX_MEASUREMENT_RECORD: Final = 65535
MAX_MEASUREMENT_VALUE: Final = 2147483647
MAX_CONDITION_INFO: Final = 32768
MAX_UEID: Final = 65535
MAX_BIN: Final = 65535

TRUE: Final = enumerated("true", ...)
LOGICAL_OR: Final = TRUE
BIN_INDEX: Final = integer(1, 65535, ...)
GRANULARITY_PERIOD: Final = integer(1, 4294967295)
MEASUREMENT_TYPE_NAME: Final = printable_string(1, 150, ...)
MEASUREMENT_TYPE_ID: Final = integer(1, 65536, ...)
MEASUREMENT_TYPE: Final = choice(
    "MeasurementType", field("measName", MEASUREMENT_TYPE_NAME), field("measID", MEASUREMENT_TYPE_ID), ...
)
MEASUREMENT_LABEL: Final = sequence(
    "MeasurementLabel",
    optional("noLabel", TRUE),
    optional("plmnID", PLMN_IDENTITY),
    optional("sliceID", S_NSSAI),
    optional("fiveQI", FIVE_QI),
    optional("qFI", QOS_FLOW_IDENTIFIER),
    optional("qCI", QCI),
    optional("qCImax", QCI),
    optional("qCImin", QCI),
    optional("aRPmax", integer(1, 15, ...)),
    optional("aRPmin", integer(1, 15, ...)),
    optional("bitrateRange", integer(1, 65535, ...)),
    optional("layerMU-MIMO", integer(1, 65535, ...)),
    optional("sUM", TRUE),
    optional("distBinX", BIN_INDEX),
    optional("distBinY", BIN_INDEX),
    optional("distBinZ", BIN_INDEX),
    optional("preLabelOverride", TRUE),
    optional("startEndInd", enumerated("start", "end", ...)),
    optional("min", TRUE),
    optional("max", TRUE),
    optional("avg", TRUE),
    ...,
    optional("ssbIndex", integer(1, 65535, ...)),
    optional("nonGoB-BFmode-Index", integer(1, 65535, ...)),
    optional("mIMO-mode-Index", integer(1, 2, ...)),
    optional("cellGlobalID", CGI),
    optional("beamID", BEAM_ID),
)


def added(layout: KpmLayout, *members: Field) -> tuple[Field | EllipsisType, ...]:
    """The extension marker and the additions behind it; before it in FlexRIC's dialect."""
    return (*members, ...) if layout.markers_moved else (..., *members)


TEST_EXPRESSION: Final = enumerated("equal", "greaterthan", "lessthan", "contains", "present", ...)


def _condition_value(layout: KpmLayout) -> Choice:
    return choice(
        "TestCond-Value",
        field("valueInt", INTEGER),
        field("valueEnum", INTEGER),
        field("valueBool", BOOLEAN),
        field("valueBitS", bit_string()),
        field("valueOctS", octet_string()),
        field("valuePrtS", printable_string()),
        *added(layout, field("valueReal", REAL)),
    )


_MATCH_COND_REPORT_LIST = sequence_of(
    sequence(
        "MatchCondReportItem",
        field(
            "measValueReportCond",
            sequence(
                "MeasValueReportCond",
                field("testExpr", TEST_EXPRESSION),
                field("testValue", _condition_value(KpmLayout())),
                ...,
            ),
        ),
        optional("logicalOR", LOGICAL_OR),
        ...,
    ),
    1,
    MAX_CONDITION_INFO,
)
MEASUREMENT_INFO_LIST: Final = sequence_of(
    sequence(
        "MeasurementInfoItem",
        field("measType", MEASUREMENT_TYPE),
        field(
            "labelInfoList",
            sequence_of(
                sequence("LabelInfoItem", field("measLabel", MEASUREMENT_LABEL), ...), 1, MAX_LABEL_INFO
            ),
        ),
        ...,
        optional("matchCondReportList", _MATCH_COND_REPORT_LIST),
    ),
    1,
    MAX_MEASUREMENT_INFO,
)

BIN_RANGE_VALUE: Final = choice("BinRangeValue", field("valueInt", INTEGER), field("valueReal", REAL), ...)
BIN_RANGE_LIST: Final = sequence_of(
    sequence(
        "BinRangeItem",
        field("binIndex", BIN_INDEX),
        field("startValue", BIN_RANGE_VALUE),
        field("endValue", BIN_RANGE_VALUE),
        ...,
    ),
    1,
    MAX_BIN,
)
BIN_RANGE_DEFINITION: Final = sequence(
    "BinRangeDefinition",
    field("binRangeListX", BIN_RANGE_LIST),
    optional("binRangeListY", BIN_RANGE_LIST),
    optional("binRangeListZ", BIN_RANGE_LIST),
    ...,
)
DIST_MEASUREMENT_BIN_RANGE_LIST: Final = sequence_of(
    sequence(
        "DistMeasurementBinRangeItem",
        field("measType", MEASUREMENT_TYPE),
        field("binRangeDef", BIN_RANGE_DEFINITION),
        ...,
    ),
    1,
    MAX_MEASUREMENT_INFO,
)

MEASUREMENT_RECORD_ITEM: Final = choice(
    "MeasurementRecordItem",
    field("integer", integer(0, 4294967295)),
    field("real", REAL),
    field("noValue", NULL),
    ...,
    field("notSatisfied", NULL),
)
MEASUREMENT_DATA: Final = sequence_of(
    sequence(
        "MeasurementDataItem",
        field("measRecord", sequence_of(MEASUREMENT_RECORD_ITEM, 1, MAX_MEASUREMENT_VALUE)),
        optional("incompleteFlag", TRUE),
        ...,
    ),
    1,
    MAX_MEASUREMENT_RECORD,
)
MEASUREMENT_INFO_ACTION_LIST: Final = sequence_of(
    sequence(
        "MeasurementInfo-Action-Item",
        field("measName", MEASUREMENT_TYPE_NAME),
        optional("measID", MEASUREMENT_TYPE_ID),
        ...,
        optional("binRangeDef", BIN_RANGE_DEFINITION),
    ),
    1,
    MAX_MEASUREMENT_INFO,
)


def _ue_list(name: str, lower: int = 1) -> SequenceOf:
    return sequence_of(sequence(name, field("ueID", UEID), ...), lower, MAX_UEID)


MATCHING_UEID_LIST: Final = _ue_list("MatchingUEidItem")
MATCHING_UEID_PER_SUB_LIST: Final = _ue_list("MatchingUEidPerSubItem", 2)
MATCHING_UEID_PER_GP: Final = sequence_of(
    sequence(
        "MatchingUEidPerGP-Item",
        field(
            "matchedPerGP",
            choice(
                "matchedPerGP",
                field("noUEmatched", TRUE),
                field("oneOrMoreUEmatched", _ue_list("MatchingUEidItem-PerGP")),
                ...,
            ),
        ),
        ...,
    ),
    1,
    MAX_MEASUREMENT_RECORD,
)


def _test_condition(layout: KpmLayout) -> Asn1Type:
    test_type = choice(
        "TestCond-Type",
        field("gBR", TRUE),
        field("aMBR", TRUE),
        field("isStat", TRUE),
        field("isCatM", TRUE),
        field("rSRP", TRUE),
        field("rSRQ", TRUE),
        *added(
            layout,
            field("ul-rSRP", TRUE),
            field("cQI", TRUE),
            field("fiveQI", TRUE),
            field("qCI", TRUE),
            field("sNSSAI", TRUE),
        ),
    )
    may = field if layout.test_mandatory else optional
    return sequence(
        "TestCondInfo",
        field("testType", test_type),
        may("testExpr", TEST_EXPRESSION),
        may("testValue", _condition_value(layout)),
        ...,
    )


def _matching_condition_list(layout: KpmLayout) -> SequenceOf:
    alternatives: Choice = choice(
        "MatchingCondItem" if layout.matching_cond_choice else "MatchingCondItem-Choice",
        field("measLabel", MEASUREMENT_LABEL),
        field("testCondInfo", _test_condition(layout)),
        ...,
    )
    if layout.matching_cond_choice:
        return sequence_of(alternatives, 1, MAX_CONDITION_INFO)
    item = sequence(
        "MatchingCondItem", field("matchingCondChoice", alternatives), optional("logicalOR", LOGICAL_OR), ...
    )
    return sequence_of(item, 1, MAX_CONDITION_INFO)


def measurement_condition_list(layout: KpmLayout) -> SequenceOf:
    """MeasurementCondList, of action definition format 3."""
    item = sequence(
        "MeasurementCondItem",
        field("measType", MEASUREMENT_TYPE),
        field("matchingCond", _matching_condition_list(layout)),
        *added(layout, optional("binRangeDef", BIN_RANGE_DEFINITION)),
    )
    return sequence_of(item, 1, MAX_MEASUREMENT_INFO)


def measurement_condition_ueid_list(layout: KpmLayout) -> SequenceOf:
    """MeasurementCondUEidList, of indication message format 2."""
    item = sequence(
        "MeasurementCondUEidItem",
        field("measType", MEASUREMENT_TYPE),
        field("matchingCond", _matching_condition_list(layout)),
        optional("matchingUEidList", MATCHING_UEID_LIST),
        *added(layout, optional("matchingUEidPerGP", MATCHING_UEID_PER_GP)),
    )
    return sequence_of(item, 1, MAX_MEASUREMENT_INFO)


def matching_ue_condition_list(layout: KpmLayout) -> SequenceOf:
    """MatchingUeCondPerSubList, of action definition format 4."""
    item = sequence(
        "MatchingUeCondPerSubItem",
        field("testCondInfo", _test_condition(layout)),
        ...,
        optional("logicalOR", LOGICAL_OR),
    )
    return sequence_of(item, 1, MAX_CONDITION_INFO)
