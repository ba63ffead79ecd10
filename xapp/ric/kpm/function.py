"""The RANfunction-Description of KPM: which report styles an E2 node offers, and the measurements of each
(O-RAN.WG3.E2SM-KPM clause 8.2.2.1). It comes with the E2 setup; the R-NIB keeps it.

Real nodes vary: OAI offers style 4 alone, srsRAN styles 1 to 5; some number their measurements, some have no
styles at all. So nothing is required but the name of the function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from xapp.ric.asn1 import decode_prefix
from xapp.ric.kpm.schema import RAN_FUNCTION, encode_kpm_pdu, kpm_schema
from xapp.ric.kpm.versions import KpmVersion, is_kpm_oid, kpm_version_of_oid

ASSUMED_KPM_VERSION: KpmVersion = "2.03"
"""Taken where the OID proves none: OAI's and FlexRIC's default, and for conditions also srsRAN's layout."""


@dataclass(frozen=True, slots=True)
class EventTriggerStyle:
    """A way to trigger reports; KPM has style 1, periodic, in format 1."""

    style: int
    name: str
    event_format: int


@dataclass(frozen=True, slots=True)
class OfferedMeasurement:
    """A measurement that a style offers.

    Attributes:
        name: always there.
        number: ``measID``, 1..65536, by which it may be asked for too; None if the node gave none.
    """

    name: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class ReportStyle:
    """A way to report.

    Attributes:
        style: number to ask for it with.
        name: for people.
        action_format: of the ActionDefinition, 1..5.
        measurements: offered, in the node's order.
        header_format, message_format: of the indications.
    """

    style: int
    name: str
    action_format: int
    measurements: tuple[OfferedMeasurement, ...]
    header_format: int
    message_format: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measurements."""
        return tuple(measurement.name for measurement in self.measurements)


@dataclass(frozen=True, slots=True)
class KpmRanFunction:
    """What an E2 node says about its KPM.

    Attributes:
        short_name: ``ORAN-E2SM-KPM``.
        oid: E2SM OID.
        description: for people.
        instance: None if the node gave none.
        event_trigger_styles, report_styles: empty if the node gave none.
        version: layout to subscribe with.
        version_source: ``given`` by the caller, proven by the ``oid``, or ``assumed``
            (:data:`ASSUMED_KPM_VERSION`). FlexRIC's dialect cannot be told: give it.
    """

    short_name: str
    oid: str
    description: str = ""
    instance: int | None = None
    event_trigger_styles: tuple[EventTriggerStyle, ...] = ()
    report_styles: tuple[ReportStyle, ...] = ()
    version: KpmVersion = ASSUMED_KPM_VERSION
    version_source: Literal["given", "oid", "assumed"] = field(default="assumed", compare=False)

    @property
    def is_kpm(self) -> bool:
        """The OID or the short name says KPM; other service models describe themselves in the same way."""
        return is_kpm_oid(self.oid) or "KPM" in self.short_name.upper()

    def style(self, number: int) -> ReportStyle | None:
        """Report style ``number``, None if it is not offered."""
        return next((style for style in self.report_styles if style.style == number), None)


def _report_style(item: dict[str, Any]) -> ReportStyle:
    return ReportStyle(
        item["ric-ReportStyle-Type"],
        item["ric-ReportStyle-Name"],
        item["ric-ActionFormat-Type"],
        tuple(
            OfferedMeasurement(offered["measName"], offered.get("measID"))
            for offered in item["measInfo-Action-List"]
        ),
        item["ric-IndicationHeaderFormat-Type"],
        item["ric-IndicationMessageFormat-Type"],
    )


def decode_ran_function(data: bytes, version: KpmVersion | None = None) -> KpmRanFunction:
    """The RANfunction-Description in ``data``.

    Extension additions are skipped, and bytes behind the description ignored (some nodes send their whole
    buffer).

    Args:
        version: of the node, if known from elsewhere; told by the OID, or assumed, if None.

    Raises:
        E2DecodeError: malformed.
    """
    value, _used = decode_prefix(kpm_schema().ran_function, data)
    name = value["ranFunction-Name"]
    proven = kpm_version_of_oid(name["ranFunction-E2SM-OID"])
    return KpmRanFunction(
        name["ranFunction-ShortName"],
        name["ranFunction-E2SM-OID"],
        name["ranFunction-Description"],
        name.get("ranFunction-Instance"),
        tuple(
            EventTriggerStyle(
                item["ric-EventTriggerStyle-Type"],
                item["ric-EventTriggerStyle-Name"],
                item["ric-EventTriggerFormat-Type"],
            )
            for item in value.get("ric-EventTriggerStyle-List", ())
        ),
        tuple(_report_style(item) for item in value.get("ric-ReportStyle-List", ())),
        version or proven or ASSUMED_KPM_VERSION,
        "given" if version else "oid" if proven else "assumed",
    )


def encode_ran_function(function: KpmRanFunction) -> bytes:
    """The RANfunction-Description that says ``function``, as an E2 node sends it.

    Raises:
        E2EncodeError: a name is empty or too long, a list is too long.
    """
    name: dict[str, Any] = {
        "ranFunction-ShortName": function.short_name,
        "ranFunction-E2SM-OID": function.oid,
        "ranFunction-Description": function.description,
    }
    if function.instance is not None:
        name["ranFunction-Instance"] = function.instance
    value: dict[str, Any] = {"ranFunction-Name": name}
    if function.event_trigger_styles:
        value["ric-EventTriggerStyle-List"] = [
            {
                "ric-EventTriggerStyle-Type": trigger.style,
                "ric-EventTriggerStyle-Name": trigger.name,
                "ric-EventTriggerFormat-Type": trigger.event_format,
            }
            for trigger in function.event_trigger_styles
        ]
    if function.report_styles:
        value["ric-ReportStyle-List"] = [
            {
                "ric-ReportStyle-Type": style.style,
                "ric-ReportStyle-Name": style.name,
                "ric-ActionFormat-Type": style.action_format,
                "measInfo-Action-List": [
                    {"measName": offered.name}
                    if offered.number is None
                    else {"measName": offered.name, "measID": offered.number}
                    for offered in style.measurements
                ],
                "ric-IndicationHeaderFormat-Type": style.header_format,
                "ric-IndicationMessageFormat-Type": style.message_format,
            }
            for style in function.report_styles
        ]
    return encode_kpm_pdu(RAN_FUNCTION, value, function.version)
