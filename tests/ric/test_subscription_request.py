"""The body of the POST, and what the API does not allow."""

from __future__ import annotations

from typing import Any

import pytest
from subscription_bench import TWO_DETAILS, request

from xapp.ric.subscription_request import E2Directives, ReportAction


def test_body_has_the_fields_of_the_api() -> None:
    body = request(directives=E2Directives(3, 0), **TWO_DETAILS).body(attempt=2)
    assert body["E2SubscriptionDirectives"] == {
        "E2TimeoutTimerValue": 3,
        "E2RetryCount": 0,
        "RMRRoutingNeeded": True,
    }
    assert [d["XappEventInstanceId"] for d in body["SubscriptionDetails"]] == [2049, 2050]
    assert body["SubscriptionDetails"][1] == {
        "XappEventInstanceId": 2050,
        "EventTriggers": [1],
        "ActionToBeSetupList": [
            {
                "ActionID": 2,
                "ActionType": "report",
                "ActionDefinition": [2],
                "SubsequentAction": {"SubsequentActionType": "continue", "TimeToWait": "w10ms"},
            }
        ],
    }
    assert "E2SubscriptionDirectives" not in request().body()
    assert request(host="service-ricxapp-semcom-http.ricxapp").rmr_endpoint == (
        "service-ricxapp-semcom-rmr.ricxapp:4560"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ran_function_id": 4096},
        {"xapp_event_instance_id": 1024},
        {"xapp_event_instance_id": 1023, **TWO_DETAILS},
        {"actions": ()},
        {"actions": (ReportAction(256, b""),)},
        {"actions": (ReportAction(1, b""), ReportAction(1, b"x"))},
        {"more": TWO_DETAILS["more"] * 8},
    ],
)
def test_a_request_that_the_api_does_not_allow_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        request(**changes)
    with pytest.raises(ValueError, match="E2TimeoutTimerValue"):
        E2Directives(timeout_s=0)
