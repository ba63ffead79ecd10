"""The admin listener: roll-outs are commanded here where the metrics port is open to a network.

On loopback it takes everybody on this machine (``kubectl exec``); elsewhere only clients with a certificate
of ``admin_client_ca``. The settings refuse anything between.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time

import uvicorn
from starlette.applications import Starlette

from xapp.http_server import QuietServer, bound_socket
from xapp.rollout.api import loopback_guard, mtls_guard, rollout_routes
from xapp.rollout.driver import RolloutDriver
from xapp.settings import XAppSettings


class AdminListener:
    """See the module docstring.

    Attributes:
        port: bound; 0 before.
    """

    def __init__(self, settings: XAppSettings, driver: RolloutDriver) -> None:
        self._settings = settings
        self._driver = driver
        self.port = 0

    async def run(self) -> None:
        """Serve until cancelled; without an ``admin_port`` do nothing until then.

        Raises:
            OSError: the port cannot be bound, or a certificate not be read.
        """
        settings = self._settings
        if not settings.admin_port:
            await asyncio.Event().wait()
        await self.serve()

    async def serve(self) -> None:
        """Serve until cancelled. Raises: as :meth:`run`."""
        settings, mtls = self._settings, bool(self._settings.admin_client_ca)
        guard = mtls_guard if mtls else loopback_guard(settings.admin_host)
        web = Starlette(routes=rollout_routes(self._driver, guard, time.time))
        config = uvicorn.Config(
            web,
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=16,
            timeout_graceful_shutdown=1,
            ssl_certfile=settings.admin_tls_cert or None,
            ssl_keyfile=settings.admin_tls_key or None,
            ssl_ca_certs=settings.admin_client_ca or None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if mtls else ssl.CERT_NONE,
        )
        server = QuietServer(config)
        with bound_socket(settings.admin_host, settings.admin_port) as listening:
            self.port = listening.getsockname()[1]
            task = asyncio.create_task(server.serve(sockets=[listening]), name="admin-http")
            try:
                await asyncio.shield(task)
            finally:
                server.should_exit = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(task, 2.0)
