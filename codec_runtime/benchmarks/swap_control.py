"""The control of the swap benchmark: as much CPU time as a swap takes, spent on nothing.

``python -m codec_runtime.benchmarks.swap_control MS SHARE NICE``: each line on its input is answered after MS
of CPU time, in turns of 10 ms, of which it computes SHARE of the time. What users notice of that, they would
notice of any work beside them, however it is done.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

SPENT: Final = "spent"
_TURN_S: Final = 0.01


def spend(cpu_s: float, share: float) -> None:
    """Spend CPU time of this thread."""
    spent_s = 0.0
    while spent_s < cpu_s:
        began = time.thread_time()
        while (turn_s := time.thread_time() - began) < _TURN_S:
            pass
        spent_s += turn_s
        time.sleep(turn_s * (1.0 / share - 1.0))


def main(arguments: list[str]) -> None:
    """Answer lines until the input ends."""
    cpu_ms, share, nice = float(arguments[1]), float(arguments[2]), int(arguments[3])
    os.nice(nice)
    for _ in sys.stdin:
        spend(1e-3 * cpu_ms, share)
        print(SPENT, flush=True)


if __name__ == "__main__":
    main(sys.argv)
