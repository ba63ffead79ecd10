"""RMR message type numbers used between the RIC platform and an xApp (``RIC_message_types.h`` of the RMR
library).

``ricxappframe`` lacks several of them, so they are kept here.
"""

from __future__ import annotations

from typing import Final

RIC_UNDEFINED: Final = -1

RMRRM_TABLE_DATA: Final = 20
"""Route manager to application: records of a route table."""
RMRRM_REQ_TABLE: Final = 21
"""Application to route manager: send me a table."""
RMRRM_TABLE_STATE: Final = 22
"""Application to route manager: ``OK`` or ``ERR``, table id, reason."""

RIC_HEALTH_CHECK_REQ: Final = 100
RIC_HEALTH_CHECK_RESP: Final = 101
RIC_ALARM: Final = 110
RIC_ALARM_QUERY: Final = 111

RIC_ERROR_INDICATION: Final = 10030

RIC_SUB_REQ: Final = 12010
RIC_SUB_RESP: Final = 12011
RIC_SUB_FAILURE: Final = 12012
RIC_SUB_DEL_REQ: Final = 12020
RIC_SUB_DEL_RESP: Final = 12021
RIC_SUB_DEL_FAILURE: Final = 12022
RIC_SUB_DEL_REQUIRED: Final = 12023
RIC_CONTROL_REQ: Final = 12040
RIC_CONTROL_ACK: Final = 12041
RIC_CONTROL_FAILURE: Final = 12042
RIC_INDICATION: Final = 12050

A1_POLICY_REQ: Final = 20010
A1_POLICY_RESP: Final = 20011
A1_POLICY_QUERY: Final = 20012
