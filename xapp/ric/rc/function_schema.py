"""RANfunction-Description of RC: E2SM-RC-RANFunctionDefinition (O-RAN.WG3.E2SM-RC v1.03, clause 9).

All of it, although only the control styles are used: what comes before them cannot be skipped without being
understood.
"""

from __future__ import annotations

from typing import Final

from xapp.ric.asn1 import (
    Field,
    Sequence,
    choice,
    deferred,
    field,
    integer,
    optional,
    printable_string,
    sequence,
    sequence_of,
)
from xapp.ric.kpm.schema_common import RAN_FUNCTION_NAME, RIC_FORMAT_TYPE, RIC_STYLE_NAME, RIC_STYLE_TYPE
from xapp.ric.rc.schema import ACTION_ID, MAX_OUTCOME_PARAMETERS, MAX_PARAMETERS, MAX_STYLES, PARAMETER_ID

_MAX_ITEMS: Final = 65535
"""Call process types, breakpoints, insert indications, control and policy actions."""
NAME: Final = printable_string(1, 150, ...)
"""RANParameter-Name, RIC-ControlAction-Name and the other names."""
_ID_16: Final = integer(1, 65535, ...)
"""RIC-CallProcessType-ID, RIC-CallProcessBreakpoint-ID, RIC-InsertIndication-ID."""


def _definition(alternative: str, component: str) -> Field:
    """A list or a structure in a RANParameter-Definition: named parameters, defined in turn."""
    item = sequence(
        f"RANParameter-Definition-{alternative}-Item",
        field("ranParameter-ID", PARAMETER_ID),
        field("ranParameter-name", NAME),
        optional("ranParameter-Definition", deferred(lambda: DEFINITION)),
        ...,
    )
    members = field(component, sequence_of(item, 1, MAX_PARAMETERS))
    return field(alternative, sequence(f"RANParameter-Definition-{alternative}", members, ...))


DEFINITION: Final = sequence(
    "RANParameter-Definition",
    field(
        "ranParameter-Definition-Choice",
        choice(
            "RANParameter-Definition-Choice",
            _definition("choiceLIST", "ranParameter-List"),
            _definition("choiceSTRUCTURE", "ranParameter-STRUCTURE"),
            ...,
        ),
    ),
    ...,
)

_PARAMETER = sequence(
    "RANParameter-Item",
    field("ranParameter-ID", PARAMETER_ID),
    field("ranParameter-name", NAME),
    ...,
    optional("ranParameter-Definition", DEFINITION),
)
"""The ten ...-RANParameter-Item types are all alike."""


def _parameters(name: str, upper: int = MAX_PARAMETERS) -> Field:
    return optional(name, sequence_of(_PARAMETER, 1, upper))


def _style_list(name: str, component: str, item: Sequence, *more: Field) -> Sequence:
    return sequence(name, field(component, sequence_of(item, 1, MAX_STYLES)), *more, ...)


_EVENT_TRIGGER = _style_list(
    "RANFunctionDefinition-EventTrigger",
    "ric-EventTriggerStyle-List",
    sequence(
        "RANFunctionDefinition-EventTrigger-Style-Item",
        field("ric-EventTriggerStyle-Type", RIC_STYLE_TYPE),
        field("ric-EventTriggerStyle-Name", RIC_STYLE_NAME),
        field("ric-EventTriggerFormat-Type", RIC_FORMAT_TYPE),
        ...,
    ),
    _parameters("ran-L2Parameters-List"),
    optional(
        "ran-CallProcessTypes-List",
        sequence_of(
            sequence(
                "RANFunctionDefinition-EventTrigger-CallProcess-Item",
                field("callProcessType-ID", _ID_16),
                field("callProcessType-Name", NAME),
                field(
                    "callProcessBreakpoints-List",
                    sequence_of(
                        sequence(
                            "RANFunctionDefinition-EventTrigger-Breakpoint-Item",
                            field("callProcessBreakpoint-ID", _ID_16),
                            field("callProcessBreakpoint-Name", NAME),
                            _parameters("ran-CallProcessBreakpointParameters-List"),
                            ...,
                        ),
                        1,
                        _MAX_ITEMS,
                    ),
                ),
                ...,
            ),
            1,
            _MAX_ITEMS,
        ),
    ),
    _parameters("ran-UEIdentificationParameters-List"),
    _parameters("ran-CellIdentificationParameters-List"),
)

_REPORT = _style_list(
    "RANFunctionDefinition-Report",
    "ric-ReportStyle-List",
    sequence(
        "RANFunctionDefinition-Report-Item",
        field("ric-ReportStyle-Type", RIC_STYLE_TYPE),
        field("ric-ReportStyle-Name", RIC_STYLE_NAME),
        field("ric-SupportedEventTriggerStyle-Type", RIC_STYLE_TYPE),
        field("ric-ReportActionFormat-Type", RIC_FORMAT_TYPE),
        field("ric-IndicationHeaderFormat-Type", RIC_FORMAT_TYPE),
        field("ric-IndicationMessageFormat-Type", RIC_FORMAT_TYPE),
        _parameters("ran-ReportParameters-List"),
        ...,
    ),
)

_INSERT = _style_list(
    "RANFunctionDefinition-Insert",
    "ric-InsertStyle-List",
    sequence(
        "RANFunctionDefinition-Insert-Item",
        field("ric-InsertStyle-Type", RIC_STYLE_TYPE),
        field("ric-InsertStyle-Name", RIC_STYLE_NAME),
        field("ric-SupportedEventTriggerStyle-Type", RIC_STYLE_TYPE),
        field("ric-ActionDefinitionFormat-Type", RIC_FORMAT_TYPE),
        optional(
            "ric-InsertIndication-List",
            sequence_of(
                sequence(
                    "RANFunctionDefinition-Insert-Indication-Item",
                    field("ric-InsertIndication-ID", _ID_16),
                    field("ric-InsertIndication-Name", NAME),
                    _parameters("ran-InsertIndicationParameters-List"),
                    ...,
                ),
                1,
                _MAX_ITEMS,
            ),
        ),
        field("ric-IndicationHeaderFormat-Type", RIC_FORMAT_TYPE),
        field("ric-IndicationMessageFormat-Type", RIC_FORMAT_TYPE),
        field("ric-CallProcessIDFormat-Type", RIC_FORMAT_TYPE),
        ...,
    ),
)

_CONTROL = _style_list(
    "RANFunctionDefinition-Control",
    "ric-ControlStyle-List",
    sequence(
        "RANFunctionDefinition-Control-Item",
        field("ric-ControlStyle-Type", RIC_STYLE_TYPE),
        field("ric-ControlStyle-Name", RIC_STYLE_NAME),
        optional(
            "ric-ControlAction-List",
            sequence_of(
                sequence(
                    "RANFunctionDefinition-Control-Action-Item",
                    field("ric-ControlAction-ID", ACTION_ID),
                    field("ric-ControlAction-Name", NAME),
                    _parameters("ran-ControlActionParameters-List"),
                    ...,
                ),
                1,
                _MAX_ITEMS,
            ),
        ),
        field("ric-ControlHeaderFormat-Type", RIC_FORMAT_TYPE),
        field("ric-ControlMessageFormat-Type", RIC_FORMAT_TYPE),
        optional("ric-CallProcessIDFormat-Type", RIC_FORMAT_TYPE),
        field("ric-ControlOutcomeFormat-Type", RIC_FORMAT_TYPE),
        _parameters("ran-ControlOutcomeParameters-List", MAX_OUTCOME_PARAMETERS),
        ...,
    ),
)

_POLICY = _style_list(
    "RANFunctionDefinition-Policy",
    "ric-PolicyStyle-List",
    sequence(
        "RANFunctionDefinition-Policy-Item",
        field("ric-PolicyStyle-Type", RIC_STYLE_TYPE),
        field("ric-PolicyStyle-Name", RIC_STYLE_NAME),
        field("ric-SupportedEventTriggerStyle-Type", RIC_STYLE_TYPE),
        optional(
            "ric-PolicyAction-List",
            sequence_of(
                sequence(
                    "RANFunctionDefinition-Policy-Action-Item",
                    field("ric-PolicyAction-ID", ACTION_ID),
                    field("ric-PolicyAction-Name", NAME),
                    field("ric-ActionDefinitionFormat-Type", RIC_FORMAT_TYPE),
                    _parameters("ran-PolicyActionParameters-List"),
                    _parameters("ran-PolicyConditionParameters-List"),
                    ...,
                ),
                1,
                _MAX_ITEMS,
            ),
        ),
        ...,
    ),
)

FUNCTION_DEFINITION: Final = sequence(
    "E2SM-RC-RANFunctionDefinition",
    field("ranFunction-Name", RAN_FUNCTION_NAME),
    optional("ranFunctionDefinition-EventTrigger", _EVENT_TRIGGER),
    optional("ranFunctionDefinition-Report", _REPORT),
    optional("ranFunctionDefinition-Insert", _INSERT),
    optional("ranFunctionDefinition-Control", _CONTROL),
    optional("ranFunctionDefinition-Policy", _POLICY),
    ...,
)
