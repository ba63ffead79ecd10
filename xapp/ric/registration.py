"""Registration of the xApp with the RIC's application manager (appmgr, REST under ``/ric/v1``).

The routing manager learns from appmgr which xApps exist, which RMR messages they send and take and which A1
policy types they serve; an unregistered xApp gets no indications. Facts: ``api/appmgr_rest_api.yaml``,
``pkg/restful/restful.go`` and ``pkg/resthooks/resthooks.go`` of ric-plt/appmgr; environment names:
``xapp_frame.py`` of ric-plt/xapp-frame-py.

States: UNKNOWN (may or may not be registered), ABSENT, REGISTERED. Rules:

- Nothing is sent before ``ready()`` is true: appmgr and the routing manager resolve the xApp's services,
  which have no endpoints before the pod is Ready.
- appmgr is asked (``GET /xapps``) before each POST. A second POST of a registered xApp *removes* it from
  appmgr's database (``UpdateAppData`` toggles), so that its next restart would forget the xApp.
- Only 201 is a registration. Anything else leaves UNKNOWN and is retried with back-off: a lost answer may
  have registered us.
- Listed with other messages, policies, port or version than ours: deregistered, then registered anew.
- REGISTERED is checked every ``check_s``; no longer listed (appmgr restarted) means ABSENT.
- The request carries the configuration *and* its path: with the text, appmgr needs no call back to register;
  after a restart it has only the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx
import msgspec

CONFIG_PATH: Final = "/ric/v1/config"
DEFAULT_XAPP_NAMESPACE: Final = "ricxapp"
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 60.0
HTTP_TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 4 << 20

_log = logging.getLogger(__name__)


class Standing(StrEnum):
    """What is known of the registration (module docstring)."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    REGISTERED = "registered"


class _Instance(msgspec.Struct):
    name: str
    port: int = 0
    txMessages: list[str] | None = None
    rxMessages: list[str] | None = None
    policies: list[int] | None = None


class _Listed(msgspec.Struct):
    name: str
    version: str = ""
    instances: list[_Instance] | None = None


class _Port(msgspec.Struct):
    txMessages: list[str] = []
    rxMessages: list[str] = []
    policies: list[int] = []


class _Messaging(msgspec.Struct):
    ports: list[_Port] = []


class _Descriptor(msgspec.Struct):
    messaging: _Messaging = msgspec.field(default_factory=_Messaging)


class AppmgrError(RuntimeError):
    """appmgr did not do what was asked; the message says what it answered."""


def service_endpoint(environ: Mapping[str, str], xapp_name: str, kind: str) -> str | None:
    """``host:port`` of the xApp's own service from Kubernetes' service links.

    The frameworks read ``SERVICE_<NAMESPACE>_<XAPP>_<HTTP|RMR>_PORT``, e.g. ``tcp://10.96.1.2:8080``; the
    namespace is ``APP_NAMESPACE``, ``ricxapp`` by default. None where the variable is missing or no such URL.
    """
    namespace = environ.get("APP_NAMESPACE") or DEFAULT_XAPP_NAMESPACE
    variable = f"SERVICE_{namespace}_{xapp_name}_{kind}_PORT".upper().replace("-", "_")
    _, separator, endpoint = environ.get(variable, "").partition("://")
    host, _, port = endpoint.rpartition(":")
    return endpoint if separator and host and port.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Registration:
    """What is told to appmgr.

    Attributes:
        app_name, instance_name: the xApp's name, twice: appmgr makes the RMR host of the instance's name,
            ``service-ricxapp-<instance_name>-rmr.ricxapp``, whatever the RMR end point says.
        version: of the descriptor.
        http_endpoint, rmr_endpoint: ``host:port``.
        config: the descriptor as JSON text; its ``messaging`` section makes the routes.

    Raises:
        ValueError: a value that would break appmgr: an end point without a port, a blank in a value that it
            keeps in its blank-separated database, a configuration that is no JSON object or has an ill-typed
            ``messaging`` section.
    """

    app_name: str
    instance_name: str
    version: str
    http_endpoint: str
    rmr_endpoint: str
    config: str

    def __post_init__(self) -> None:
        for name in ("app_name", "instance_name", "version", "http_endpoint", "rmr_endpoint"):
            value = getattr(self, name)
            if not value or any(character.isspace() for character in value):
                raise ValueError(f"{name} = {value!r}: a text without blanks is needed")
        for name in ("http_endpoint", "rmr_endpoint"):
            host, _, port = getattr(self, name).rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"{name} = {getattr(self, name)!r}: host:port is needed")
        try:
            msgspec.json.decode(self.config, type=_Descriptor)
        except msgspec.DecodeError as error:
            raise ValueError(f"config: {error}") from error

    @property
    def rmr_port(self) -> int:
        """Port of the RMR end point."""
        return int(self.rmr_endpoint.rpartition(":")[2])

    def register_body(self) -> dict[str, str]:
        """Body of ``POST /ric/v1/register``."""
        return {
            "appName": self.app_name,
            "appInstanceName": self.instance_name,
            "appVersion": self.version,
            "httpEndpoint": self.http_endpoint,
            "rmrEndpoint": self.rmr_endpoint,
            "configPath": CONFIG_PATH,
            "config": self.config,
        }

    def deregister_body(self) -> dict[str, str]:
        """Body of ``POST /ric/v1/deregister``."""
        return {"appName": self.app_name, "appInstanceName": self.instance_name}

    def messaging(self) -> tuple[set[str], set[str], set[int]]:
        """RMR messages sent and taken, and A1 policy types, as appmgr reads them from the configuration."""
        ports = msgspec.json.decode(self.config, type=_Descriptor).messaging.ports
        return (
            {message for port in ports for message in port.txMessages},
            {message for port in ports for message in port.rxMessages},
            {policy for port in ports for policy in port.policies},
        )


def registration_from(
    descriptor: Mapping[str, Any], *, environ: Mapping[str, str], http_endpoint: str, rmr_endpoint: str
) -> Registration:
    """The registration of an xApp with this descriptor.

    Args:
        descriptor: content of ``config-file.json``.
        environ: service links in it win over the two end points.
        http_endpoint, rmr_endpoint: ``host:port`` where there are no service links.

    Raises:
        ValueError: a value is missing or breaks a rule of :class:`Registration`.
    """
    name, version = descriptor.get("xapp_name"), descriptor.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise ValueError("the descriptor needs xapp_name and version, both texts")
    return Registration(
        app_name=name,
        instance_name=name,
        version=version,
        http_endpoint=service_endpoint(environ, name, "HTTP") or http_endpoint,
        rmr_endpoint=service_endpoint(environ, name, "RMR") or rmr_endpoint,
        config=json.dumps(descriptor, separators=(",", ":")),
    )


def listing_matches(listed: bytes, ours: Registration) -> bool | None:
    """Is ``ours`` in appmgr's answer to ``GET /xapps``? None if it is, but with other routes or version.

    Raises:
        AppmgrError: the answer is no list of xApps.
    """
    try:
        apps = msgspec.json.decode(listed, type=list[_Listed] | None) or []
    except msgspec.DecodeError as error:
        raise AppmgrError(f"appmgr's list of xApps: {error}") from error
    for app in apps:
        for instance in app.instances or ():
            if (app.name, instance.name) == (ours.app_name, ours.instance_name):
                theirs = (
                    set(instance.txMessages or ()),
                    set(instance.rxMessages or ()),
                    set(instance.policies or ()),
                )
                same = app.version in ("", ours.version) and instance.port == ours.rmr_port
                return True if same and theirs == ours.messaging() else None
    return False


@dataclass(slots=True)
class RegistrationCounters:
    """Each only grows: registrations that succeeded, refusals and failures of any call, times appmgr had
    forgotten us, deregistrations."""

    registrations: int = 0
    failures: int = 0
    forgotten: int = 0
    deregistrations: int = 0


class AppmgrRegistration:
    """Keeps the xApp registered.

    Args:
        base_url: of appmgr, e.g. ``http://service-ricplt-appmgr-http.ricplt:8080``.
        registration: what to tell it.
        http: shared client; every call has its own timeout.
        ready: may we register yet? (The readiness probe's answer.)
        on_change: called with the new standing and one line of detail, when it changes.
        check_s: period of the check whether appmgr still knows us.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        base_url: str,
        registration: Registration,
        *,
        http: httpx.AsyncClient,
        ready: Callable[[], bool],
        on_change: Callable[[Standing, str], None] | None = None,
        check_s: float = 30.0,
        first_backoff_s: float = FIRST_BACKOFF_S,
        timeout_s: float = HTTP_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = RegistrationCounters()
        self.standing = Standing.UNKNOWN
        self.detail = "not yet registered"
        self._registration = registration
        self._base = base_url.rstrip("/") + "/ric/v1"
        self._http = http
        self._ready = ready
        self._on_change = on_change
        self._check_s = check_s
        self._first_backoff_s = first_backoff_s
        self._backoff_s = first_backoff_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._asked = False
        self._was_registered = False
        self._wakeup = asyncio.Event()

    def update(self, registration: Registration) -> None:
        """Register these values instead; done anew only if routes, port or version differ."""
        if registration != self._registration:
            self._registration = registration
            self._wakeup.set()

    async def supervise(self) -> None:
        """Register, check and register again until cancelled."""
        while True:
            wait_s = self._first_backoff_s
            if self._ready():
                wait_s = await self.step()
            # Not wait_for: in Python 3.11 it loses a cancellation that meets the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wakeup.wait()
            self._wakeup.clear()

    async def step(self) -> float:
        """One look at appmgr and what follows from it; seconds until the next."""
        try:
            await self._reconcile()
        except (AppmgrError, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self.counters.failures += 1
            self._set(Standing.UNKNOWN, str(error) or repr(error))
            wait_s = self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
            return wait_s
        self._backoff_s = self._first_backoff_s
        return self._check_s

    async def close(self, deadline_s: float) -> bool:
        """After :meth:`supervise` was cancelled: deregister, trying again until ``deadline_s`` are over.

        Returns:
            True if appmgr no longer knows us, or never heard of us.
        """
        if not self._asked:
            return True
        wait_s = min(self._first_backoff_s, 0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        await self._deregister()
                    except (AppmgrError, httpx.HTTPError, httpx.InvalidURL) as error:
                        self.counters.failures += 1
                        self.detail = str(error) or repr(error)
                    else:
                        self._set(Standing.ABSENT, "deregistered")
                        self._asked = False
                        return True
                    await asyncio.sleep(wait_s)
                    wait_s *= 2
        _log.warning("not deregistered within %g s: %s", deadline_s, self.detail)
        return False

    async def _reconcile(self) -> None:
        ours = self._registration
        status, listed = await self._call("GET", "xapps")
        if status != 200:
            raise AppmgrError(f"appmgr answered HTTP {status} to GET xapps: {_text(listed)}")
        known = listing_matches(listed, ours)
        if known:
            self._asked = True
            self._set(Standing.REGISTERED, "appmgr lists us")
            return
        if known is None:
            self._asked = True
            await self._deregister()
        elif self._was_registered:
            self.counters.forgotten += 1
            self._was_registered = False
        self._set(Standing.ABSENT, "appmgr does not list us as we are")
        self._asked = True
        status, answer = await self._call("POST", "register", ours.register_body())
        if status != 201:
            raise AppmgrError(f"appmgr refused the registration with HTTP {status}: {_text(answer)}")
        self.counters.registrations += 1
        self._set(Standing.REGISTERED, f"registered as {ours.instance_name} {ours.version}")

    async def _deregister(self) -> None:
        status, answer = await self._call("POST", "deregister", self._registration.deregister_body())
        # 400: it does not know us, which is what we want.
        if status not in (204, 400):
            raise AppmgrError(f"appmgr answered HTTP {status} to the deregistration: {_text(answer)}")
        self.counters.deregistrations += status == 204

    async def _call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body; the time limit holds for the whole answer, however slowly it drips."""
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(method, f"{self._base}/{path}", json=body) as answer,
            ):
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise AppmgrError(f"appmgr's answer to {path} exceeds {MAX_ANSWER_BYTES} bytes")
                return answer.status_code, bytes(content)
        except TimeoutError:
            raise AppmgrError(f"appmgr did not answer {path} within {self._timeout_s:g} s") from None

    def _set(self, standing: Standing, detail: str) -> None:
        self.detail = detail
        self._was_registered |= standing is Standing.REGISTERED
        if standing is self.standing:
            return
        self.standing = standing
        level = logging.WARNING if standing is Standing.UNKNOWN else logging.INFO
        _log.log(level, "registration is %s: %s", standing, detail)
        if self._on_change is not None:
            self._on_change(standing, detail)


def _text(content: bytes) -> str:
    return content[:200].decode("utf-8", "replace")
