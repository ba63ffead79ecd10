"""The runtime process: uvicorn around the application; SIGTERM drains."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import threading

import uvicorn

from codec_runtime.contract.settings import SettingsError
from codec_runtime.serving.app import create_app
from codec_runtime.serving.backends.interface import BackendError
from codec_runtime.serving.priority import share_the_interpreter, spare_the_collector
from codec_runtime.serving.runtime import Runtime
from codec_runtime.serving.settings import RuntimeSettings, check_exposure, uses_mtls

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Ends the endless telemetry streams when the shutdown begins; requests in flight finish."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._runtime.drain()
        await super().shutdown(sockets)


def build_server(settings: RuntimeSettings) -> DrainingServer:
    """The server of ``settings``, not yet running.

    Raises:
        SettingsError: it would offer state-changing endpoints to a network without client authentication, or
            the backend of the settings cannot be loaded.
    """
    if check_exposure(settings):
        logger.warning("listening off loopback without mTLS", extra={"host": settings.host})
    try:
        app = create_app(settings)
    except BackendError as error:
        raise SettingsError(str(error)) from error
    tls = uses_mtls(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        ssl_certfile=settings.tls_cert if tls else None,
        ssl_keyfile=settings.tls_key if tls else None,
        ssl_ca_certs=settings.client_ca if tls else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls else ssl.CERT_NONE,
    )
    return DrainingServer(config, app.state.runtime)


def _exit_quietly(server: uvicorn.Server) -> None:
    """A signal before uvicorn listens stops it too; the one it raises again after draining does no harm."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def run_runtime(settings: RuntimeSettings) -> None:
    """Serve until SIGTERM or SIGINT; returns after draining.

    Raises:
        SettingsError: see :func:`build_server`.
        SystemExit: the port cannot be bound.
    """
    share_the_interpreter()
    server = build_server(settings)
    logger.info(
        "runtime starting",
        extra={"host": settings.host, "port": settings.port, "site": settings.site},
    )
    _exit_quietly(server)
    spare_the_collector()
    server.run()
    logger.info("runtime stopped")
