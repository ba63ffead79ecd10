"""Words of the subscription's rules: where one stands, what to do next, what a notification was."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class Phase(StrEnum):
    """Where a subscription stands; see the table in :mod:`xapp.ric.subscription_state`."""

    IDLE = "idle"
    REQUESTED = "requested"
    ACTIVE = "active"
    STALLED = "stalled"


class Step(StrEnum):
    """What the I/O side should do now."""

    WAIT = "wait"
    DELETE = "delete"
    SUBSCRIBE = "subscribe"


class Verdict(Enum):
    """What a notification was."""

    TAKEN = auto()
    DUPLICATE = auto()
    LATE = auto()
    FOREIGN = auto()
