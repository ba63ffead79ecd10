"""Which thread of the process goes first. Linux schedules per thread, and so are its priorities."""

from __future__ import annotations

import logging
import os
import threading

logger = logging.getLogger(__name__)


def lower_priority(nice: int) -> None:
    """Make the calling thread nicer by ``nice``; a pool's initializer."""
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
    except OSError as error:
        logger.warning("a thread keeps its priority", extra={
            "thread": threading.current_thread().name, "reason": str(error),
        })
