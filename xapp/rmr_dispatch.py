"""Received RMR messages to whom they concern: by message type, the rest counted and dropped."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from xapp.ingest import OTHER_NODE
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.transport import MessageCallback
from xapp.status import Status

_log = logging.getLogger(__name__)


class RmrDispatch:
    """The transport's callback.

    Args:
        status: counts messages of types that nobody takes.
        handlers: by message type.
    """

    def __init__(self, status: Status, handlers: Mapping[int, MessageCallback]) -> None:
        self._status = status
        self._handlers = dict(handlers)
        self._logged: set[int] = set()

    def on_message(self, message: RmrMessage, received_ns: int) -> None:
        """Take one message; ``received_ns``: ``time.perf_counter_ns()`` when its bytes were read."""
        handler = self._handlers.get(message.mtype)
        if handler is not None:
            handler(message, received_ns)
            return
        self._status.metrics.indications.labels(OTHER_NODE, "unexpected_message_type").inc()
        if message.mtype not in self._logged and len(self._logged) < 100:
            self._logged.add(message.mtype)
            _log.warning(
                "RMR messages of a type that nobody takes are dropped", extra={"message_type": message.mtype}
            )
