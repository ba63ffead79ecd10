"""E2SM-RC, the service model of RAN control: what a RIC asks of an E2 node, and what the node says it did.

Belongs here: the octet strings that E2AP carries for RC (O-RAN.WG3.E2SM-RC, one wire family from v1.03 to
v3.00) and the one action this project asks for: style 2 "Radio Resource Allocation Control", action 6
"Slice-level PRB quota". Does not: the E2AP envelope (:mod:`xapp.ric.e2ap_control`), matching of answers to
requests (:mod:`xapp.ric.control`), what to ask for (:mod:`xapp.policy.radio_resources`).

Any RC message as a tree of plain values: ``decode_header(raw)``, ``decode_message(raw)``,
``decode_outcome(raw)``, ``decode_function(raw)`` (RANfunction-Description); value notation of
:mod:`xapp.ric.asn1`. They raise :class:`xapp.ric.aper.E2DecodeError`, nothing else; ``encode_...`` go back.

Typed, for the control loop: :class:`SliceId`, :class:`PrbQuota`, ``quota_header`` and ``quota_message`` with
``parse_quota_...`` back, and ``parse_function`` (which control styles and actions a node offers).
"""

from xapp.ric.rc.codec import (
    decode_function,
    decode_header,
    decode_message,
    decode_outcome,
    encode_function,
    encode_header,
    encode_message,
    encode_outcome,
)
from xapp.ric.rc.function import RC_OID, ControlStyle, RcFunction, parse_function
from xapp.ric.rc.slice_quota import (
    NO_SD,
    NotAQuota,
    PrbQuota,
    QuotaGroup,
    SliceId,
    parse_quota_header,
    parse_quota_message,
    quota_groups,
    quota_header,
    quota_message,
)

__all__ = [
    "NO_SD",
    "RC_OID",
    "ControlStyle",
    "NotAQuota",
    "PrbQuota",
    "QuotaGroup",
    "RcFunction",
    "SliceId",
    "decode_function",
    "decode_header",
    "decode_message",
    "decode_outcome",
    "encode_function",
    "encode_header",
    "encode_message",
    "encode_outcome",
    "parse_function",
    "parse_quota_header",
    "parse_quota_message",
    "quota_groups",
    "quota_header",
    "quota_message",
]
