"""Run a command that dies with its parent: ``python -I -S tether.py PARENT_PID COMMAND [ARGUMENT ...]``.

A script of its own, because the alternative (code between fork and exec in a process with threads) may
deadlock. The kernel keeps the parent-death signal across exec.
"""

from __future__ import annotations

import os
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main(arguments: list[str]) -> None:
    """Ask for SIGKILL on the parent's death, then become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - costs a start of other platforms nothing

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent process is gone")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot execute {command[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
