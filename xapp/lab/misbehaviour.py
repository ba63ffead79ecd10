"""How the lab's subscription manager misbehaves on request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Misbehaviour:
    """What goes wrong from now on; the defaults are a manager that behaves.

    Counts (``int``) are used up by one each time; -1 means always. Delays are seconds.

    Attributes:
        early_notification: notify before answering the POST.
        notification_delay_s: wait before the notification.
        lost_notifications: notifications that are never sent.
        duplicate_notifications: notifications sent twice.
        error_notifications: requests answered with a refusal by notification, with the three texts below.
        error_cause, error_source, timeout_type: as in the subscription API (``ErrorSource`` is one of SUBMGR,
            RTMGR, DBAAS, ASN1, E2Node; ``TimeoutType`` is empty or one of E2-Timeout, RTMGR-Timeout,
            DBAAS-Timeout).
        wrong_subscription_ids: notifications that name a subscription that does not exist.
        wrong_instance_ids: notifications about an XappEventInstanceId that nobody gave.
        refused_posts: POSTs refused with ``refusal_status``.
        refused_deletes: DELETEs refused with 400, as the real manager does while it works on the request.
        refusal_status: HTTP status, e.g. 503, 500, 404, 400.
        answer_delay_s: wait between the work on a POST or DELETE and its answer.
        garbage_answers: POSTs done but answered with something that is no JSON.
        cut_answers: POSTs done but their answer breaks off in the middle, and the connection closes.
        no_lists: the lists by xApp do not exist (an older manager, or its other port out of reach).
    """

    early_notification: bool = False
    notification_delay_s: float = 0.0
    lost_notifications: int = 0
    duplicate_notifications: int = 0
    error_notifications: int = 0
    error_cause: str = "RICSubscriptionFailure"
    error_source: str = "E2Node"
    timeout_type: str = ""
    wrong_subscription_ids: int = 0
    wrong_instance_ids: int = 0
    refused_posts: int = 0
    refused_deletes: int = 0
    refusal_status: int = 503
    answer_delay_s: float = 0.0
    garbage_answers: int = 0
    cut_answers: int = 0
    no_lists: bool = False

    def use(self, name: str) -> bool:
        """Whether the misbehaviour with a count happens now; uses it up."""
        left = int(getattr(self, name))
        if left > 0:
            setattr(self, name, left - 1)
        return left != 0
