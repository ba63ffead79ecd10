"""Settings of the xApp process. Read with :func:`codec_runtime.contract.settings.load_settings`,
environment prefix ``SEMCOM_XAPP``, section ``controls`` of an OSC ``config-file.json``."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from xapp.http_server import is_loopback
from xapp.ric.kpm.versions import KpmVersion
from xapp.ric.measurement_names import UNITS, Carrier, rank_of
from xapp.split_options import SplitOptions

XAPP_ENV_PREFIX = "SEMCOM_XAPP"


class CarrierOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The downlink carrier of an E2 node.

    Attributes:
        prbs: resource blocks, 1..275.
        spacing_khz: subcarrier spacing.
        downlink_share: of the time, above 0 to 1; below 1 for TDD.
    """

    prbs: int = 106
    spacing_khz: Literal[15, 30, 60, 120] = 30
    downlink_share: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and its range."""
        if not 1 <= self.prbs <= 275:
            raise ValueError(f"prbs = {self.prbs}: 1..275 is needed")
        if not 0 < self.downlink_share <= 1:
            raise ValueError(f"downlink_share = {self.downlink_share}: above 0, at most 1, is needed")


class E2NodeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the xApp cannot learn from an E2 node itself.

    Attributes:
        kpm_version: of its KPM, for subscriptions and indications; ``flexric`` for FlexRIC 2.0.0 builds.
            None: the version that the OID proves, else 2.03; 3.00 for a node that the R-NIB does not know.
        carrier: None: ``cell_prbs`` and ``subcarrier_spacing_khz``.
        units: unit by measurement name, where it is not what
            :data:`xapp.ric.measurement_names.KNOWN` says.
        ask_for: measurements to ask for besides, whether the node offers them or not.
    """

    kpm_version: KpmVersion | None = None
    carrier: CarrierOptions | None = None
    units: dict[str, str] = {}
    ask_for: list[str] = []

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and what would be right."""
        for name, unit in self.units.items():
            if unit not in UNITS:
                raise ValueError(f"units.{name} = {unit!r}: one of {', '.join(UNITS)} is needed")
        for name in (*self.units, *self.ask_for):
            if rank_of(name) is None:
                raise ValueError(f"measurement {name!r}: nothing is known to be read from it")


class SiteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site: one codec runtime and the E2 nodes whose users it serves.

    Attributes:
        url: of its runtime, ``http`` or ``https``, host and port, without a path.
        meids: its E2 nodes, exact ids.
    """

    url: str
    meids: list[str] = []

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and what would be right."""
        if not _is_base_url(self.url):
            raise ValueError(f"url = {self.url!r}: http(s)://host[:port] without a path is needed")
        if not all(self.meids) or len(set(self.meids)) != len(self.meids):
            raise ValueError(f"meids = {self.meids}: distinct, non-empty E2 node ids are needed")


class XAppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting has a default that works on one machine.

    Attributes:
        rmr_host, rmr_port: where the RMR listener binds (data port of the service ``rmr-data``).
        http_host, http_port: where metrics, health, state and the subscription endpoint are served.
        submgr_url: subscription manager, without ``/ric/v1``.
        submgr_admin_url: the manager's other server (port 8080), where ids of leaked subscriptions can be
            found; empty: they are only counted.
        meids: E2 node ids to subscribe to in any case.
        discover: listen to the E2 nodes that the R-NIB lists as well.
        e2_nodes: by E2 node id, what cannot be learned from the node: see :class:`E2NodeOptions`.
        report_period_ms: granularity of the KPM reports, 10..60000.
        rmr_transport: ``librmr``, ``wire`` (pure Python), or ``auto``: librmr where it is installed.
        appmgr_url: application manager, without ``/ric/v1``; empty: no registration.
        alarm_manager: ``host:port`` of the alarm manager's RMR port; empty: the platform's in a cluster, none
            elsewhere.
        radio_resources: ask E2 nodes for slice-level PRB quotas (E2SM-RC style 2); off by default.
        slices: S-NSSAI by user group, ``<PLMN in hexadecimal>/<SST>[/<SD in hexadecimal>]``, e.g.
            ``00f110/1/000003``: whose demand the quotas are made of.
        cell_prbs, subcarrier_spacing_khz: the carrier of nodes that have none of their own in ``e2_nodes``:
            for the throughput proxy of the SINR, block counts and quotas.
        picture_pixels: size of a picture, for quotas.
        rc_requestor_id: RIC requestor id of control requests, 1..65535; distinct among the xApps of a RIC.
        rc_timeout_s: wait for the answer to a control request.
        notification_url: base URL of this xApp as the subscription manager sees it; empty: built from
            ``http_host`` (the host name when that is a wildcard) and ``http_port``.
        runtime_url: the codec runtime that serves every E2 node; of no effect with ``sites``.
        sites: by name (the runtime's own ``site``), the sites served: see :class:`SiteOptions`. Their E2
            nodes are subscribed to like ``meids``. Users of a node of no site get no directives. Empty: one
            site, ``runtime_url``, for all.
        runtime_timeout_s: limit of one request to the runtime.
        state_dir: where the xApp keeps files; repository_dir, key_dir: empty for ``<state_dir>/tuf`` and
            ``<repository_dir>/keys``.
        policy, policy_parameters: name in the policy registry and its parameters by name.
        quality_target_db: a picture restored below this PSNR is a miss.
        budget_prefix: mean number of latent channels a picture may use; R = prefix / 96.
        update_budget_s: wall time of a training job; job_timeout_factor: a job is given up after
            ``update_budget_s * job_timeout_factor + 30`` seconds.
        update_collect_s: between drift and training, so that pictures of the new kind gather at the site; up
            to four times that while there are fewer than ``update_min_pictures`` of them.
        min_gain_db: a candidate with a smaller held-out gain is refused; min_gain_rsum: of an adapter, in
            RSUM (0..600).
        alignment_rounds: federated rounds among a site's users in an adapter's update.
        drift_min_samples: quality reports of a group before drift can be declared.
        drift_threshold: decision limit of the cumulative sum, in standard deviations.
        update_cooldown_s: after an update, and twice per failure up to ``update_backoff_max_s``.
        rollout_canary_share: of the users at ``rollout_canary_sites`` sites that get a new version first;
            rollout_shares: of all users, in the stages behind it.
        rollout_observe_s: length of a stage; below ``rollout_small_population`` users there is one stage,
            half against half, of ``rollout_small_observe_s``.
        rollout_margin_db, rollout_error_margin, rollout_late_margin: loss of PSNR, rise of the share of
            failures and of late pictures, against the control group, that are tolerated.
        rollout_margin_confidence: the same of an adapter's mean alignment confidence, 0..1.
        rollout_false_alarm_rate: probability that a version within these limits is rolled back as harmful.
        rollout_min_reports: quality reports on each side before a stage can end well.
        admin_host, admin_port: where roll-outs are commanded from, besides ``http_port`` on loopback; 0: off.
            Off loopback it needs admin_tls_cert, admin_tls_key and admin_client_ca (PEM): mutual TLS.
        stale_after_s, remove_after_s: a user without indications is stale, later removed.
        snapshot_period_s: between two snapshots to SDL.
        split: where users that classify pictures cut their networks: see
            :class:`xapp.split_options.SplitOptions`.
        push_chunk_bytes: of an update sent in one request.
        push_rate_bytes_per_s, push_total_rate_bytes_per_s: to one site, and to all together; 0 for no limit.
        push_parallel_sites: that are pushed to at a time.
        push_busy_limit_s: how long a push waits, all in all, for a site whose users go first.
        tls_ca, tls_cert, tls_key: PEM files for mTLS towards the runtime; empty for none.
    """

    rmr_host: str = "127.0.0.1"
    rmr_port: int = 4560
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    submgr_url: str = "http://127.0.0.1:8088"
    submgr_admin_url: str = ""
    meids: list[str] = msgspec.field(default_factory=lambda: ["gnb_001_001_00000001"])
    discover: bool = True
    e2_nodes: dict[str, E2NodeOptions] = {}
    report_period_ms: int = 100
    rmr_transport: Literal["auto", "librmr", "wire"] = "auto"
    appmgr_url: str = ""
    alarm_manager: str = ""
    radio_resources: bool = False
    slices: dict[str, str] = {}
    cell_prbs: int = 106
    subcarrier_spacing_khz: Literal[15, 30, 60, 120] = 30
    picture_pixels: int = 393_216
    rc_requestor_id: int = 4242
    rc_timeout_s: float = 1.0
    notification_url: str = ""
    runtime_url: str = "http://127.0.0.1:8480"
    sites: dict[str, SiteOptions] = {}
    runtime_timeout_s: float = 5.0
    state_dir: str = "xapp-state"
    repository_dir: str = ""
    key_dir: str = ""
    policy: str = "adaptive"
    policy_parameters: dict[str, float] = {}
    quality_target_db: float = 25.0
    budget_prefix: float = 6.0
    update_budget_s: float = 12.0
    job_timeout_factor: float = 4.0
    update_collect_s: float = 3.0
    update_min_pictures: int = 16
    min_gain_db: float = 0.1
    min_gain_rsum: float = 2.0
    alignment_rounds: int = 8
    drift_min_samples: int = 8
    drift_threshold: float = 6.0
    update_cooldown_s: float = 20.0
    update_backoff_max_s: float = 300.0
    rollout_canary_share: float = 0.1
    rollout_canary_sites: int = 1
    rollout_shares: list[float] = msgspec.field(default_factory=lambda: [0.5])
    rollout_observe_s: float = 300.0
    rollout_small_population: int = 10
    rollout_small_observe_s: float = 6.0
    rollout_margin_db: float = 0.3
    rollout_margin_confidence: float = 0.02
    rollout_error_margin: float = 0.02
    rollout_late_margin: float = 0.10
    rollout_false_alarm_rate: float = 0.05
    rollout_min_reports: int = 3
    admin_host: str = "127.0.0.1"
    admin_port: int = 0
    admin_tls_cert: str = ""
    admin_tls_key: str = ""
    admin_client_ca: str = ""
    stale_after_s: float = 3.0
    remove_after_s: float = 30.0
    snapshot_period_s: float = 3.0
    split: SplitOptions = SplitOptions()
    push_chunk_bytes: int = 8 << 20
    push_rate_bytes_per_s: float = 16.0 * (1 << 20)
    push_total_rate_bytes_per_s: float = 0.0
    push_parallel_sites: int = 8
    push_busy_limit_s: float = 300.0
    sdl_namespace: str = "semcom"
    log_level: str = "INFO"
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError (a msgspec.ValidationError when decoding) naming the setting and its range."""
        for name, low, high in (
            ("rmr_port", 0, 65535),
            ("http_port", 0, 65535),
            ("admin_port", 0, 65535),
            ("rollout_observe_s", 0.1, 604_800.0),
            ("rollout_small_observe_s", 0.1, 604_800.0),
            ("report_period_ms", 10, 60_000),
            ("budget_prefix", 1.0, 96.0),
            ("quality_target_db", 0.0, 100.0),
            ("update_budget_s", 0.1, 86_400.0),
            ("alignment_rounds", 1, 1000),
            ("update_collect_s", 0.0, 86_400.0),
            ("update_min_pictures", 0, 10_000),
            ("drift_min_samples", 2, 10_000),
            ("drift_threshold", 1.0, 100.0),
            ("runtime_timeout_s", 0.05, 600.0),
            ("stale_after_s", 0.1, 3600.0),
            ("cell_prbs", 1, 275),
            ("picture_pixels", 64, 1 << 28),
            ("rc_requestor_id", 1, 65535),
            ("rc_timeout_s", 0.05, 60.0),
            ("snapshot_period_s", 0.1, 3600.0),
            ("push_chunk_bytes", 4096, 64 << 20),
            ("push_parallel_sites", 1, 256),
            ("push_busy_limit_s", 0.0, 86_400.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: {low}..{high} is needed")
        for name in ("push_rate_bytes_per_s", "push_total_rate_bytes_per_s"):
            if (value := getattr(self, name)) != 0 and not 1024 <= value <= 1e12:
                raise ValueError(f"{name} = {value}: 1024..1e12, or 0 for no limit, is needed")
        for group, text in self.slices.items():
            parse_slice(text, f"slices.{group}")
        _check_sites(self.sites)
        self._check_admin()
        if self.alarm_manager and not _is_endpoint(self.alarm_manager):
            raise ValueError(f"alarm_manager = {self.alarm_manager!r}: host:port is needed")
        if self.log_level not in logging.getLevelNamesMapping():
            raise ValueError(f"log_level = {self.log_level!r}: DEBUG, INFO, WARNING, ERROR or CRITICAL")
        if self.remove_after_s < self.stale_after_s:
            raise ValueError(f"remove_after_s = {self.remove_after_s}: at least stale_after_s is needed")

    def _check_admin(self) -> None:
        """Raises ValueError: commands would be taken from a network without client certificates."""
        given = [bool(self.admin_tls_cert), bool(self.admin_tls_key), bool(self.admin_client_ca)]
        if any(given) and not all(given):
            raise ValueError("admin_tls_cert, admin_tls_key, admin_client_ca: all three or none are needed")
        if self.admin_port and not any(given) and not is_loopback(self.admin_host):
            raise ValueError(
                f"admin_host = {self.admin_host!r} is not loopback: admin_tls_cert, admin_tls_key and "
                "admin_client_ca are needed"
            )

    @property
    def repository_path(self) -> Path:
        """Directory of the TUF repository."""
        return Path(self.repository_dir) if self.repository_dir else Path(self.state_dir) / "tuf"

    @property
    def key_path(self) -> Path:
        """Directory of the TUF signing keys."""
        return Path(self.key_dir) if self.key_dir else self.repository_path / "keys"

    @property
    def configured_meids(self) -> list[str]:
        """E2 nodes to subscribe to in any case: ``meids`` and those of ``sites``, each once."""
        of_sites = [meid for site in self.sites.values() for meid in site.meids]
        return list(dict.fromkeys([*self.meids, *of_sites]))

    def node_options(self, meid: str) -> E2NodeOptions:
        """Options of an E2 node."""
        return self.e2_nodes.get(meid, _NO_OPTIONS)

    def carrier(self, meid: str) -> Carrier:
        """Downlink carrier of an E2 node."""
        own = self.node_options(meid).carrier
        if own is None:
            return Carrier(self.cell_prbs, self.subcarrier_spacing_khz)
        return Carrier(own.prbs, own.spacing_khz, own.downlink_share)

    @property
    def notification_base(self) -> str:
        """URL under which the subscription manager reaches this xApp, without a path."""
        if self.notification_url:
            return self.notification_url.rstrip("/")
        host = socket.gethostname() if self.http_host in ("", "0.0.0.0", "::") else self.http_host
        return f"http://{host}:{self.http_port}"


_NO_OPTIONS = E2NodeOptions()
_SITE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def _check_sites(sites: dict[str, SiteOptions]) -> None:
    """Raises ValueError: a name is none, or two sites share an E2 node or a runtime."""
    owner: dict[str, str] = {}
    for name, site in sites.items():
        if not _SITE_NAME.fullmatch(name):
            raise ValueError(f"sites: {name!r} is no name: 1..64 letters, digits, '.', '_', '-' are needed")
        for kind, value in (("url", site.url.rstrip("/")), *(("E2 node", meid) for meid in site.meids)):
            other = owner.setdefault(f"{kind} {value}", name)
            if other != name:
                raise ValueError(f"sites.{name}: {kind} {value!r} is {other}'s; one site for each is needed")


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.path.strip("/"))
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port != 0


def parse_slice(text: str, name: str = "slice") -> tuple[bytes, int, int | None]:
    """(PLMN identity, SST, SD or None) of ``<PLMN in hexadecimal>/<SST>[/<SD in hexadecimal>]``.

    Raises:
        ValueError: it is none; ``name`` says whose.
    """
    plmn, _, rest = text.partition("/")
    sst, _, sd = rest.partition("/")
    try:
        parsed = bytes.fromhex(plmn), int(sst), int(sd, 16) if sd else None
    except ValueError:
        parsed = b"", -1, None
    if len(parsed[0]) != 3 or not 0 <= parsed[1] <= 255 or not 0 <= (parsed[2] or 0) < 0xFFFFFF:
        raise ValueError(f"{name} = {text!r}: PLMN/SST[/SD] is needed, e.g. 00f110/1/000003")
    return parsed


def _is_endpoint(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536
