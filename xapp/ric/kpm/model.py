"""What a KPM indication says, after decoding."""

from __future__ import annotations

from dataclasses import dataclass, field

Value = float | int | None
"""A measured value as the E2 node wrote it: INTEGER, REAL, or None for "no value". Its unit belongs to the
measurement's name (TS 28.552 or the RAN's own). None stands for ``noValue``, for ``notSatisfied`` (v5.00: the
reporting condition does not hold) and for alternatives newer than this decoder."""

UE_KINDS = ("gnb", "gnb-du", "gnb-cu-up", "ng-enb", "ng-enb-du", "en-gnb", "enb")
"""Alternatives of the UEID choice, in order (E2SM common IEs, clause 6.2.2.6)."""


@dataclass(frozen=True, slots=True)
class UeId:
    """Who a report is about.

    Attributes:
        kind: one of ``UE_KINDS``, or ``extension`` for an alternative newer than this decoder.
        value: the identifier that the kind always has: AMF-UE-NGAP-ID (gnb, ng-enb), F1AP id (gnb-du), E1AP
            id (gnb-cu-up), W1AP id (ng-enb-du), X2AP id (en-gnb), S1AP id (enb); the alternative's index for
            ``extension``.
        ran_ue_id: 8 bytes where the node sends them; stable across the parts of a split gNB.
        user: name of the user outside E2: ``ue-<AMF-UE-NGAP-ID>`` for a gNB, ``<kind>-<value>`` otherwise.
    """

    kind: str
    value: int
    ran_ue_id: bytes | None = None
    user: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Kept, not computed when asked for: an id is decoded once and read with every indication.
        prefix = "ue" if self.kind == "gnb" else self.kind
        object.__setattr__(self, "user", f"{prefix}-{self.value}")


@dataclass(slots=True)
class UeReport:
    """Measurements of one user.

    Attributes:
        values: newest granularity period; keys are measurement names, ``measID:<n>`` where a number was sent,
            with the label appended when there is one, e.g. ``DRB.UEThpDl[fiveQI=9]``.
        incomplete: the node marked the newest period as incomplete.
        earlier: older periods of the same indication, oldest first; usually none.
    """

    ue: UeId
    values: dict[str, Value]
    incomplete: bool = False
    earlier: list[dict[str, Value]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KpmHeader:
    """Indication header format 1.

    Attributes:
        timestamp: start of the collection, Unix seconds, from the NTP time stamp.
        timestamp_bytes: the octets as sent, 4 (up to v2.03) or 8 (from v3.00). Some RANs do not write NTP
            time.
    """

    timestamp: float
    timestamp_bytes: bytes
    file_format_version: str = ""
    sender_name: str = ""
    sender_type: str = ""
    vendor_name: str = ""


@dataclass(frozen=True, slots=True)
class MatchedMeasurement:
    """One measurement of message format 2 (report style 3), and the users that meet its condition.

    Attributes:
        name: measurement name or ``measID:<n>``.
        conditions: text of each condition in order, ``fiveQI=9`` (a label) or ``rSRP lessthan 30`` (a test),
            with `` or`` appended where the next one is an alternative to it (v2.03 and newer); else all hold.
        labels: those of ``conditions`` that are labels.
        users: who met them within the reporting period (``matchingUEidList``).
        users_by_period: who met them in each granularity period (``matchingUEidPerGP``, v2.03 and newer);
            counts in place of ``users`` (clause 7.4.4.4). None where the node left it out.
    """

    name: str
    conditions: tuple[str, ...]
    labels: tuple[str, ...]
    users: tuple[UeId, ...]
    users_by_period: tuple[tuple[UeId, ...], ...] | None = None


@dataclass(slots=True)
class KpmIndication:
    """A decoded indication.

    Attributes:
        timestamp: same as ``header.timestamp``, Unix seconds.
        users: per-user reports (message formats 2 and 3); empty for format 1.
        cell: values that belong to no user, newest granularity period (message format 1).
        granularity_ms: granularity period, None when the node left it out.
        message_format: 1 (E2 node or, under report style 2, the subscribed user), 2 or 3.
        cell_incomplete, cell_earlier: of ``cell``, as in :class:`UeReport`.
        matched: format 2 only: who met which condition.
        records: format 2 only: the values of each granularity period as sent, oldest first. Where several
            labels of one measurement leave it open which value is whose, they are only here.
    """

    timestamp: float
    users: list[UeReport]
    header: KpmHeader
    cell: dict[str, Value] = field(default_factory=dict)
    granularity_ms: int | None = None
    message_format: int = 1
    cell_incomplete: bool = False
    cell_earlier: list[dict[str, Value]] = field(default_factory=list)
    matched: tuple[MatchedMeasurement, ...] = ()
    records: list[list[Value]] = field(default_factory=list)
