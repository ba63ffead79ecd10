"""E2SM-KPM, the service model of measurements: indications to values, and the definitions a subscription
needs.

Belongs here: the octet strings that E2AP carries for KPM (O-RAN.WG3.E2SM-KPM v2.00 to v5.00 and FlexRIC's
dialect: one wire family, see :mod:`~xapp.ric.kpm.versions`). Does not: the E2AP envelope
(:mod:`xapp.ric.e2ap`) or any judgement about a measurement (``telemetry``).

Names: ``decode_kpm_indication`` (bytes to :class:`KpmIndication`, message formats 1 to 3, the hot path),
``encode_event_trigger``, ``encode_action_definition`` (for subscriptions), ``encode_indication_header``,
``encode_indication_message`` and ``MeasurementList`` (for the lab's E2 node).
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
from xapp.ric.kpm.model import KpmHeader, KpmIndication, MatchedMeasurement, UeId, UeReport, Value
from xapp.ric.kpm.versions import KpmVersion

__all__ = [
    "E2DecodeError",
    "E2EncodeError",
    "KpmHeader",
    "KpmIndication",
    "KpmVersion",
    "MatchedMeasurement",
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
