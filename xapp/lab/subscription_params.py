"""What the emulated subscription manager reads of a POST, and how it refuses one."""

from __future__ import annotations

import msgspec

from xapp.ric.aper import AperReader, E2DecodeError


class Refused(Exception):
    """A request is answered with this HTTP status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Endpoint(msgspec.Struct):
    """``ClientEndpoint``."""

    Host: str
    HTTPPort: int
    RMRPort: int


class Action(msgspec.Struct):
    """One of ``ActionToBeSetupList``."""

    ActionID: int
    ActionType: str
    ActionDefinition: list[int] = []


class Detail(msgspec.Struct):
    """One of ``SubscriptionDetails``."""

    XappEventInstanceId: int
    EventTriggers: list[int]
    ActionToBeSetupList: list[Action]


class SubscriptionParams(msgspec.Struct):
    """Body of the POST; the fields that matter here."""

    ClientEndpoint: Endpoint
    Meid: str
    RANFunctionID: int
    SubscriptionDetails: list[Detail]
    SubscriptionId: str = ""


def period_ms(trigger: list[int]) -> int:
    """Reporting period of a KPM event trigger definition, format 1.

    Raises:
        E2DecodeError, ValueError: it is none.
    """
    reader = AperReader(bytes(trigger), "eventTriggerDefinition")
    if reader.bits(3):
        raise reader.error("not event trigger format 1")
    return reader.sized_uint(2) + 1


def parse_params(raw: bytes) -> SubscriptionParams:
    """Body of a POST.

    Raises:
        Refused: 400, with what is wrong.
    """
    try:
        params = msgspec.json.decode(raw, type=SubscriptionParams)
        if not params.SubscriptionDetails:
            raise ValueError("SubscriptionDetails must not be empty")
        for detail in params.SubscriptionDetails:
            period_ms(detail.EventTriggers)
            if len({action.ActionType for action in detail.ActionToBeSetupList}) != 1:
                raise ValueError("ActionToBeSetupList: at least one action, all of one ActionType")
    except (msgspec.DecodeError, E2DecodeError, ValueError) as error:
        raise Refused(400, f"bad subscription request: {error}") from None
    return params
