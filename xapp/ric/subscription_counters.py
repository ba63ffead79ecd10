"""Counts of the subscription client, ready for Prometheus: plain integers and one dictionary a label."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Why a request or a deletion failed; a label value.

    The HTTP ones are the manager's answers, ``NO_NOTIFICATION`` its silence, the last eight what a
    notification says in ``TimeoutType`` or ``ErrorSource`` (their values in the API, in lower case).
    """

    HTTP_400 = "http_400"
    HTTP_404 = "http_404"
    HTTP_500 = "http_500"
    HTTP_503 = "http_503"
    HTTP_OTHER = "http_other"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    PROTOCOL = "protocol"
    BAD_ANSWER = "bad_answer"
    NO_NOTIFICATION = "no_notification"
    E2_TIMEOUT = "e2-timeout"
    RTMGR_TIMEOUT = "rtmgr-timeout"
    DBAAS_TIMEOUT = "dbaas-timeout"
    E2_NODE = "e2node"
    SUBMGR = "submgr"
    RTMGR = "rtmgr"
    DBAAS = "dbaas"
    ASN1 = "asn1"

    @classmethod
    def of_status(cls, status: int) -> Cause:
        """For an HTTP status that is no success."""
        return {400: cls.HTTP_400, 404: cls.HTTP_404, 500: cls.HTTP_500, 503: cls.HTTP_503}.get(
            status, cls.HTTP_OTHER
        )

    @classmethod
    def of_notification(cls, source: Any, timeout: Any) -> Cause:
        """For ``ErrorSource`` and ``TimeoutType``; the manager itself where neither is known."""
        for name in (timeout, source):
            if isinstance(name, str) and name.strip():
                try:
                    return cls(name.strip().lower())
                except ValueError:
                    continue
        return cls.SUBMGR


class Reason(StrEnum):
    """Why a subscription was asked for again; a label value."""

    RETRY = "retry"
    STALL = "stall"
    RECONNECT = "reconnect"
    CHANGE = "change"
    FORGOTTEN = "forgotten"
    RESTART = "restart"


@dataclass(slots=True)
class SubscriptionCounters:
    """Each only grows.

    Attributes:
        requests: POSTs sent.
        failures: requests that came to nothing, by cause.
        resubscriptions: requests after the first, by reason.
        notifications: taken: they confirmed or refused a request of ours.
        duplicate_notifications, late_notifications: said again what was known; came for a request given up.
        foreign_notifications: of no request of ours, of another SubscriptionId, or malformed.
        stalls: a subscription fell silent.
        deletions, delete_failures: DELETEs done; refused or unanswered, by cause.
        taken_over: subscriptions of an earlier run that were gone on with.
        abandoned: ids that the manager kept refusing to delete.
        leaked, leaked_deleted: found at the manager without an owner here; those of them deleted.
        indications: of a subscription in force.
        old_sub_ids, unknown_sub_ids: indications of a subscription given up; of one never ours. Not used.
        store_failures: ids not loaded or not saved.
    """

    requests: int = 0
    notifications: int = 0
    duplicate_notifications: int = 0
    late_notifications: int = 0
    foreign_notifications: int = 0
    stalls: int = 0
    deletions: int = 0
    taken_over: int = 0
    abandoned: int = 0
    leaked: int = 0
    leaked_deleted: int = 0
    indications: int = 0
    old_sub_ids: int = 0
    unknown_sub_ids: int = 0
    store_failures: int = 0
    failures: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(Cause, 0))
    delete_failures: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(Cause, 0))
    resubscriptions: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))

    @property
    def refusals(self) -> int:
        """All failures of requests."""
        return sum(self.failures.values())
