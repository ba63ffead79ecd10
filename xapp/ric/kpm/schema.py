"""ASN.1 of the E2SM-KPM messages: the contents of E2AP's octet strings, for every version and dialect.

``kpm_schema("3.00").action_definition`` is a type for :func:`xapp.ric.asn1.decode` and
:func:`~xapp.ric.asn1.encode`. Older schemas know the extension additions of newer versions too: a node
may send them to anyone. Only root components differ (:mod:`xapp.ric.kpm.versions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from xapp.ric.asn1 import (
    Asn1Type,
    E2DecodeError,
    Sequence,
    choice,
    decode,
    encode,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)
from xapp.ric.kpm.schema_common import (
    CGI,
    RAN_FUNCTION_NAME,
    RIC_FORMAT_TYPE,
    RIC_STYLE_NAME,
    RIC_STYLE_TYPE,
    UEID,
)
from xapp.ric.kpm.schema_measurements import (
    DIST_MEASUREMENT_BIN_RANGE_LIST,
    GRANULARITY_PERIOD,
    MATCHING_UEID_PER_SUB_LIST,
    MEASUREMENT_DATA,
    MEASUREMENT_INFO_ACTION_LIST,
    MEASUREMENT_INFO_LIST,
    added,
    matching_ue_condition_list,
    measurement_condition_list,
    measurement_condition_ueid_list,
)
from xapp.ric.kpm.versions import DEFAULT_KPM_VERSION, KpmLayout, KpmVersion, kpm_layout

MAX_RIC_STYLES: Final = 63
MAX_UE_MEAS_REPORT: Final = 65535

EVENT_TRIGGER: Final = "E2SM-KPM-EventTriggerDefinition"
ACTION_DEFINITION: Final = "E2SM-KPM-ActionDefinition"
INDICATION_HEADER: Final = "E2SM-KPM-IndicationHeader"
INDICATION_MESSAGE: Final = "E2SM-KPM-IndicationMessage"
RAN_FUNCTION: Final = "E2SM-KPM-RANfunction-Description"

KPM_PDUS: Final = (EVENT_TRIGGER, ACTION_DEFINITION, INDICATION_HEADER, INDICATION_MESSAGE, RAN_FUNCTION)
"""Names of the messages, as the specification has them."""

_EVENT_TRIGGER = sequence(
    EVENT_TRIGGER,
    field(
        "eventDefinition-formats",
        choice(
            "eventDefinition-formats",
            field(
                "eventDefinition-Format1",
                sequence(f"{EVENT_TRIGGER}-Format1", field("reportingPeriod", integer(1, 4294967295)), ...),
            ),
            ...,
        ),
    ),
    ...,
)

_RAN_FUNCTION = sequence(
    RAN_FUNCTION,
    field("ranFunction-Name", RAN_FUNCTION_NAME),
    optional(
        "ric-EventTriggerStyle-List",
        sequence_of(
            sequence(
                "RIC-EventTriggerStyle-Item",
                field("ric-EventTriggerStyle-Type", RIC_STYLE_TYPE),
                field("ric-EventTriggerStyle-Name", RIC_STYLE_NAME),
                field("ric-EventTriggerFormat-Type", RIC_FORMAT_TYPE),
                ...,
            ),
            1,
            MAX_RIC_STYLES,
        ),
    ),
    optional(
        "ric-ReportStyle-List",
        sequence_of(
            sequence(
                "RIC-ReportStyle-Item",
                field("ric-ReportStyle-Type", RIC_STYLE_TYPE),
                field("ric-ReportStyle-Name", RIC_STYLE_NAME),
                field("ric-ActionFormat-Type", RIC_FORMAT_TYPE),
                field("measInfo-Action-List", MEASUREMENT_INFO_ACTION_LIST),
                field("ric-IndicationHeaderFormat-Type", RIC_FORMAT_TYPE),
                field("ric-IndicationMessageFormat-Type", RIC_FORMAT_TYPE),
                ...,
            ),
            1,
            MAX_RIC_STYLES,
        ),
    ),
    ...,
)


def _action_definition(layout: KpmLayout) -> Sequence:
    format1 = sequence(
        f"{ACTION_DEFINITION}-Format1",
        field("measInfoList", MEASUREMENT_INFO_LIST),
        field("granulPeriod", GRANULARITY_PERIOD),
        optional("cellGlobalID", CGI),
        *added(layout, optional("distMeasBinRangeInfo", DIST_MEASUREMENT_BIN_RANGE_LIST)),
    )
    format2 = sequence(
        f"{ACTION_DEFINITION}-Format2", field("ueID", UEID), field("subscriptInfo", format1), ...
    )
    format3 = sequence(
        f"{ACTION_DEFINITION}-Format3",
        field("measCondList", measurement_condition_list(layout)),
        field("granulPeriod", GRANULARITY_PERIOD),
        optional("cellGlobalID", CGI),
        ...,
    )
    format4 = sequence(
        f"{ACTION_DEFINITION}-Format4",
        field("matchingUeCondList", matching_ue_condition_list(layout)),
        field("subscriptionInfo", format1),
        ...,
    )
    format5 = sequence(
        f"{ACTION_DEFINITION}-Format5",
        field("matchingUEidList", MATCHING_UEID_PER_SUB_LIST),
        field("subscriptionInfo", format1),
        ...,
    )
    formats = choice(
        "actionDefinition-formats",
        field("actionDefinition-Format1", format1),
        field("actionDefinition-Format2", format2),
        field("actionDefinition-Format3", format3),
        *added(
            layout, field("actionDefinition-Format4", format4), field("actionDefinition-Format5", format5)
        ),
    )
    return sequence(
        ACTION_DEFINITION,
        field("ric-Style-Type", RIC_STYLE_TYPE),
        field("actionDefinition-formats", formats),
        ...,
    )


def _indication_header(timestamp_octets: int) -> Sequence:
    format1 = sequence(
        f"{INDICATION_HEADER}-Format1",
        field("colletStartTime", octet_string(timestamp_octets)),
        optional("fileFormatversion", printable_string(0, 15, ...)),
        optional("senderName", printable_string(0, 400, ...)),
        optional("senderType", printable_string(0, 8, ...)),
        optional("vendorName", printable_string(0, 32, ...)),
        ...,
    )
    formats = choice("indicationHeader-formats", field("indicationHeader-Format1", format1), ...)
    return sequence(INDICATION_HEADER, field("indicationHeader-formats", formats), ...)


def _indication_message(layout: KpmLayout) -> Sequence:
    format1 = sequence(
        f"{INDICATION_MESSAGE}-Format1",
        field("measData", MEASUREMENT_DATA),
        optional("measInfoList", MEASUREMENT_INFO_LIST),
        optional("granulPeriod", GRANULARITY_PERIOD),
        ...,
    )
    format2 = sequence(
        f"{INDICATION_MESSAGE}-Format2",
        field("measData", MEASUREMENT_DATA),
        field("measCondUEidList", measurement_condition_ueid_list(layout)),
        optional("granulPeriod", GRANULARITY_PERIOD),
        ...,
    )
    report = sequence("UEMeasurementReportItem", field("ueID", UEID), field("measReport", format1), ...)
    format3 = sequence(
        f"{INDICATION_MESSAGE}-Format3",
        field("ueMeasReportList", sequence_of(report, 1, MAX_UE_MEAS_REPORT)),
        ...,
    )
    formats = choice(
        "indicationMessage-formats",
        field("indicationMessage-Format1", format1),
        field("indicationMessage-Format2", format2),
        *added(layout, field("indicationMessage-Format3", format3)),
    )
    return sequence(INDICATION_MESSAGE, field("indicationMessage-formats", formats), ...)


@dataclass(frozen=True, slots=True)
class KpmSchema:
    """The messages of one version.

    Attributes:
        header_other: the indication header with a time stamp of the other length, 4 for 8 octets and 8 for 4.
    """

    version: KpmVersion
    event_trigger: Sequence
    action_definition: Sequence
    indication_header: Sequence
    indication_message: Sequence
    ran_function: Sequence
    header_other: Sequence

    @property
    def pdus(self) -> dict[str, Asn1Type]:
        """Types by :data:`KPM_PDUS`."""
        return dict(
            zip(
                KPM_PDUS,
                (
                    self.event_trigger,
                    self.action_definition,
                    self.indication_header,
                    self.indication_message,
                    self.ran_function,
                ),
                strict=True,
            )
        )


@cache
def kpm_schema(version: KpmVersion = DEFAULT_KPM_VERSION) -> KpmSchema:
    """Schema of a version."""
    layout = kpm_layout(version)
    return KpmSchema(
        version,
        _EVENT_TRIGGER,
        _action_definition(layout),
        _indication_header(layout.timestamp_octets),
        _indication_message(layout),
        _RAN_FUNCTION,
        _indication_header(12 - layout.timestamp_octets),
    )


def decode_kpm_pdu(pdu: str, data: bytes, version: KpmVersion = DEFAULT_KPM_VERSION) -> Any:
    """Value of a whole KPM message.

    An indication header is read with the time stamp, 4 or 8 octets, that its length fits: nodes mix them with
    every version.

    Args:
        pdu: one of :data:`KPM_PDUS`.

    Raises:
        E2DecodeError: malformed.
        KeyError: there is no such message.
    """
    schema = kpm_schema(version)
    kind = schema.pdus[pdu]
    try:
        return decode(kind, data)
    except E2DecodeError as error:
        if pdu != INDICATION_HEADER:
            raise
        try:
            return decode(schema.header_other, data)
        except E2DecodeError:
            raise error from None


def encode_kpm_pdu(pdu: str, value: Any, version: KpmVersion = DEFAULT_KPM_VERSION) -> bytes:
    """Encoding of a whole KPM message, for what has no encoder of its own (an E2 node's messages in tests).

    Raises:
        E2EncodeError: ``value`` is no such message.
        KeyError: there is no such message.
    """
    return encode(kpm_schema(version).pdus[pdu], value)
