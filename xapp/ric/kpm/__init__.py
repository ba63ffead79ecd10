"""E2SM-KPM, the service model of measurements: indications to values, and the definitions a subscription
needs.

Belongs here: the octet strings that E2AP carries for KPM (O-RAN.WG3.E2SM-KPM v2.03, v3.00 to v5.00: one wire
family). Does not: the E2AP envelope (:mod:`xapp.ric.e2ap`) or any judgement about a measurement
(``telemetry``).

Names: ``decode_kpm_indication`` (bytes to :class:`KpmIndication`), ``encode_event_trigger``,
``encode_action_definition`` (for subscriptions), ``encode_indication_header``, ``encode_indication_message``
and ``MeasurementList`` (for the lab's E2 node).
"""

from xapp.ric.aper import E2DecodeError, E2EncodeError
from xapp.ric.kpm.decode import decode_kpm_indication
from xapp.ric.kpm.encode import (
    encode_action_definition,
    encode_event_trigger,
    encode_indication_header,
    encode_indication_message,
)
from xapp.ric.kpm.measurements import MeasurementList
from xapp.ric.kpm.model import KpmHeader, KpmIndication, UeId, UeReport, Value

__all__ = [
    "E2DecodeError",
    "E2EncodeError",
    "KpmHeader",
    "KpmIndication",
    "MeasurementList",
    "UeId",
    "UeReport",
    "Value",
    "decode_kpm_indication",
    "encode_action_definition",
    "encode_event_trigger",
    "encode_indication_header",
    "encode_indication_message",
]
