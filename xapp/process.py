"""The xApp as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop

from xapp.app import XApp
from xapp.ric_platform import ConfigSource
from xapp.settings import XAppSettings

_log = logging.getLogger(__name__)


def run_xapp(settings: XAppSettings, source: ConfigSource | None = None) -> int:
    """Run an xApp until SIGTERM or SIGINT.

    Returns:
        Exit code: 0 after an orderly end, 2 when the settings cannot be followed or a port is taken.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, source))
    except (OSError, ValueError, RuntimeError) as error:
        _log.error("xApp cannot run", extra={"reason": f"{type(error).__name__}: {error}"})
        return 2
    return 0


async def _serve(settings: XAppSettings, source: ConfigSource | None) -> None:
    xapp_process = XApp(settings, source)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, xapp_process.stop)
    await xapp_process.run()
