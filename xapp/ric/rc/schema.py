"""ASN.1 of E2SM-RC control: header, message, outcome (O-RAN.WG3.E2SM-RC v1.03, clause 9).

Later versions only add behind the extension markers: what they add reads as ``extension-<n>`` or is
skipped.
"""

from __future__ import annotations

from typing import Final

from xapp.ric.asn1 import (
    BOOLEAN,
    INTEGER,
    REAL,
    Choice,
    Field,
    Sequence,
    bit_string,
    choice,
    deferred,
    enumerated,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)
from xapp.ric.kpm.schema_common import RIC_STYLE_TYPE, UEID

MAX_PARAMETERS: Final = 65535
"""Items of a list of RAN parameters, and of a list value (maxnoofAssociatedRANParameters and its like)."""
MAX_OUTCOME_PARAMETERS: Final = 255
MAX_STYLES: Final = 63
MAX_ACTIONS: Final = 63

PARAMETER_ID: Final = integer(1, 4294967295, ...)
ACTION_ID: Final = integer(1, 65535, ...)
DECISION: Final = enumerated("accept", "reject", ...)

PARAMETER_VALUE: Final = choice(
    "RANParameter-Value",
    field("valueBoolean", BOOLEAN),
    field("valueInt", INTEGER),
    field("valueReal", REAL),
    field("valueBitS", bit_string()),
    field("valueOctS", octet_string()),
    field("valuePrintableString", printable_string()),
    ...,
)

# RANParameter-ValueType and RANParameter-STRUCTURE contain each other.
STRUCTURE: Final = sequence(
    "RANParameter-STRUCTURE",
    optional(
        "sequence-of-ranParameters",
        sequence_of(
            sequence(
                "RANParameter-STRUCTURE-Item",
                field("ranParameter-ID", PARAMETER_ID),
                field("ranParameter-valueType", deferred(lambda: VALUE_TYPE)),
                ...,
            ),
            1,
            MAX_PARAMETERS,
        ),
    ),
    ...,
)

VALUE_TYPE: Final[Choice] = choice(
    "RANParameter-ValueType",
    field(
        "ranP-Choice-ElementTrue",
        sequence(
            "RANParameter-ValueType-Choice-ElementTrue", field("ranParameter-value", PARAMETER_VALUE), ...
        ),
    ),
    field(
        "ranP-Choice-ElementFalse",
        sequence(
            "RANParameter-ValueType-Choice-ElementFalse", optional("ranParameter-value", PARAMETER_VALUE), ...
        ),
    ),
    field(
        "ranP-Choice-Structure",
        sequence("RANParameter-ValueType-Choice-Structure", field("ranParameter-Structure", STRUCTURE), ...),
    ),
    field(
        "ranP-Choice-List",
        sequence(
            "RANParameter-ValueType-Choice-List",
            field(
                "ranParameter-List",
                sequence(
                    "RANParameter-LIST",
                    field("list-of-ranParameter", sequence_of(STRUCTURE, 1, MAX_PARAMETERS)),
                    ...,
                ),
            ),
            ...,
        ),
    ),
    ...,
)


def _valued(name: str, lower: int, upper: int, value: Field) -> Field:
    """``ranP-List``: RAN parameters with a value or a value type."""
    item = sequence(name, field("ranParameter-ID", PARAMETER_ID), value, ...)
    return field("ranP-List", sequence_of(item, lower, upper))


_VALUE = field("ranParameter-value", PARAMETER_VALUE)
_TYPED_VALUE = field("ranParameter-valueType", VALUE_TYPE)


def _styles(name: str, actions: str, action: Sequence) -> Sequence:
    """Message and outcome format 2: a list of actions for each of a list of styles."""
    item = sequence(
        f"{name}-Style-Item",
        field("indicated-Control-Style-Type", RIC_STYLE_TYPE),
        field(actions, sequence_of(action, 1, MAX_ACTIONS)),
        ...,
    )
    return sequence(name, field("ric-ControlStyle-List", sequence_of(item, 1, MAX_STYLES)), ...)


CONTROL_HEADER: Final = sequence(
    "E2SM-RC-ControlHeader",
    field(
        "ric-controlHeader-formats",
        choice(
            "ric-controlHeader-formats",
            field(
                "controlHeader-Format1",
                sequence(
                    "E2SM-RC-ControlHeader-Format1",
                    field("ueID", UEID),
                    field("ric-Style-Type", RIC_STYLE_TYPE),
                    field("ric-ControlAction-ID", ACTION_ID),
                    optional("ric-ControlDecision", DECISION),
                    ...,
                ),
            ),
            ...,
            field(
                "controlHeader-Format2",
                sequence(
                    "E2SM-RC-ControlHeader-Format2",
                    optional("ueID", UEID),
                    optional("ric-ControlDecision", DECISION),
                    ...,
                ),
            ),
        ),
    ),
    ...,
)

_MESSAGE_FORMAT_1 = sequence(
    "E2SM-RC-ControlMessage-Format1",
    _valued("E2SM-RC-ControlMessage-Format1-Item", 0, MAX_PARAMETERS, _TYPED_VALUE),
    ...,
)

CONTROL_MESSAGE: Final = sequence(
    "E2SM-RC-ControlMessage",
    field(
        "ric-controlMessage-formats",
        choice(
            "ric-controlMessage-formats",
            field("controlMessage-Format1", _MESSAGE_FORMAT_1),
            ...,
            field(
                "controlMessage-Format2",
                _styles(
                    "E2SM-RC-ControlMessage-Format2",
                    "ric-ControlAction-List",
                    sequence(
                        "E2SM-RC-ControlMessage-Format2-ControlAction-Item",
                        field("ric-ControlAction-ID", ACTION_ID),
                        field("ranP-List", _MESSAGE_FORMAT_1),
                        ...,
                    ),
                ),
            ),
        ),
    ),
    ...,
)

CONTROL_OUTCOME: Final = sequence(
    "E2SM-RC-ControlOutcome",
    field(
        "ric-controlOutcome-formats",
        choice(
            "ric-controlOutcome-formats",
            field(
                "controlOutcome-Format1",
                sequence(
                    "E2SM-RC-ControlOutcome-Format1",
                    _valued("E2SM-RC-ControlOutcome-Format1-Item", 0, MAX_OUTCOME_PARAMETERS, _VALUE),
                    ...,
                ),
            ),
            ...,
            field(
                "controlOutcome-Format2",
                _styles(
                    "E2SM-RC-ControlOutcome-Format2",
                    "ric-ControlOutcome-List",
                    sequence(
                        "E2SM-RC-ControlOutcome-Format2-ControlOutcome-Item",
                        field("ric-ControlAction-ID", ACTION_ID),
                        _valued("E2SM-RC-ControlOutcome-Format2-RANP-Item", 1, MAX_PARAMETERS, _VALUE),
                        ...,
                    ),
                ),
            ),
            field(
                "controlOutcome-Format3",
                sequence(
                    "E2SM-RC-ControlOutcome-Format3",
                    _valued("E2SM-RC-ControlOutcome-Format3-Item", 0, MAX_OUTCOME_PARAMETERS, _TYPED_VALUE),
                    ...,
                ),
            ),
        ),
    ),
    ...,
)
