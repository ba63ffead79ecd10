"""Which control styles and actions an E2 node offers, from its RANfunction-Description of RC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xapp.ric.rc.codec import decode_function
from xapp.ric.rc.slice_quota import ACTION_ID, STYLE_TYPE

RC_OID: Final = "1.3.6.1.4.1.53148.1.1.2.3"
"""E2SM object identifier of RC, as srsRAN and OAI send it in an E2 setup."""


@dataclass(frozen=True, slots=True)
class ControlStyle:
    """One control style of a node.

    Attributes:
        style_type: number of the style, e.g. 2. name: for people.
        actions: names by action id.
        header_format, message_format, outcome_format: formats that the style uses.
        takes_call_process_id: the style has a format of RIC call process ids; srsRAN does not answer a
            request that names one for a style that has none.
    """

    style_type: int
    name: str
    actions: dict[int, str]
    header_format: int
    message_format: int
    outcome_format: int
    takes_call_process_id: bool


@dataclass(frozen=True, slots=True)
class RcFunction:
    """A node's RC function. ``styles`` by style type; empty if it offers no control."""

    short_name: str
    oid: str
    styles: dict[int, ControlStyle]

    def offers(self, style_type: int, action_id: int) -> bool:
        """The node lists this control action."""
        style = self.styles.get(style_type)
        return style is not None and action_id in style.actions

    @property
    def offers_slice_quota(self) -> bool:
        """Style 2, action 6, with the formats that this project writes."""
        style = self.styles.get(STYLE_TYPE)
        return (
            style is not None
            and ACTION_ID in style.actions
            and (style.header_format, style.message_format) == (1, 1)
        )


def parse_function(raw: bytes) -> RcFunction:
    """The RC function that a RANfunction-Description tells of.

    Raises:
        E2DecodeError: it is none of RC.
    """
    value = decode_function(raw)
    name = value["ranFunction-Name"]
    styles = {}
    for item in value.get("ranFunctionDefinition-Control", {}).get("ric-ControlStyle-List", []):
        style = ControlStyle(
            style_type=item["ric-ControlStyle-Type"],
            name=item["ric-ControlStyle-Name"],
            actions={
                action["ric-ControlAction-ID"]: action["ric-ControlAction-Name"]
                for action in item.get("ric-ControlAction-List", [])
            },
            header_format=item["ric-ControlHeaderFormat-Type"],
            message_format=item["ric-ControlMessageFormat-Type"],
            outcome_format=item["ric-ControlOutcomeFormat-Type"],
            takes_call_process_id="ric-CallProcessIDFormat-Type" in item,
        )
        styles[style.style_type] = style
    return RcFunction(name["ranFunction-ShortName"], name["ranFunction-E2SM-OID"], styles)
