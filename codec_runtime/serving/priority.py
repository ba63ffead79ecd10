"""Which thread of the process goes first. Linux schedules per thread, and so are its priorities."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading

logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 1e-4


def share_the_interpreter() -> None:
    """Let a thread that waits for the interpreter's lock have it after 0.1 ms instead of Python's 5.

    A request asks for it about ten times, and a thread that prepares weights would hold it as long each time.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def spare_the_collector() -> None:
    """Take what is loaded now out of Python's garbage collection: it stays as long as the process.

    A full collection, which activations bring about now and then, walks all of it with the interpreter's lock
    held: 0.1 s and more.
    """
    gc.collect()
    gc.freeze()


def lower_priority(nice: int) -> None:
    """Make the calling thread nicer by ``nice``; a pool's initializer."""
    try:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
    except OSError as error:
        logger.warning("a thread keeps its priority", extra={
            "thread": threading.current_thread().name, "reason": str(error),
        })
