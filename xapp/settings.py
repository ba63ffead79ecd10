"""Settings of the xApp process. Read with :func:`codec_runtime.contract.settings.load_settings`,
environment prefix ``SEMCOM_XAPP``, section ``controls`` of an OSC ``config-file.json``."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

XAPP_ENV_PREFIX = "SEMCOM_XAPP"


class XAppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting has a default that works on one machine.

    Attributes:
        rmr_host, rmr_port: where the RMR listener binds (data port of the service ``rmr-data``).
        http_host, http_port: where metrics, health, state and the subscription endpoint are served.
        submgr_url: subscription manager, without ``/ric/v1``.
        meids: E2 node ids to subscribe to.
        report_period_ms: granularity of the KPM reports, 10..60000.
        notification_url: base URL of this xApp as the subscription manager sees it; empty: built from
            ``http_host`` (the host name when that is a wildcard) and ``http_port``.
        runtime_url: the codec runtime of the site.
        runtime_timeout_s: limit of one request to the runtime.
        state_dir: where the xApp keeps files; repository_dir, key_dir: empty for ``<state_dir>/tuf`` and
            ``<repository_dir>/keys``.
        policy, policy_parameters: name in the policy registry and its parameters by name.
        quality_target_db: a picture restored below this PSNR is a miss.
        budget_prefix: mean number of latent channels a picture may use; R = prefix / 96.
        update_budget_s: wall time of a training job; job_timeout_factor: a job is given up after
            ``update_budget_s * job_timeout_factor + 30`` seconds.
        update_collect_s: between drift and training, so that pictures of the new kind gather at the site.
        min_gain_db: a candidate with a smaller held-out gain is refused.
        drift_min_samples: quality reports of a group before drift can be declared.
        drift_threshold: decision limit of the cumulative sum, in standard deviations.
        update_cooldown_s: after an update, and twice per failure up to ``update_backoff_max_s``.
        stale_after_s, remove_after_s: a user without indications is stale, later removed.
        snapshot_period_s: between two snapshots to SDL.
        tls_ca, tls_cert, tls_key: PEM files for mTLS towards the runtime; empty for none.
    """

    rmr_host: str = "127.0.0.1"
    rmr_port: int = 4560
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    submgr_url: str = "http://127.0.0.1:8088"
    meids: list[str] = msgspec.field(default_factory=lambda: ["gnb_001_001_00000001"])
    report_period_ms: int = 100
    notification_url: str = ""
    runtime_url: str = "http://127.0.0.1:8480"
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
    min_gain_db: float = 0.1
    drift_min_samples: int = 8
    drift_threshold: float = 6.0
    update_cooldown_s: float = 20.0
    update_backoff_max_s: float = 300.0
    stale_after_s: float = 3.0
    remove_after_s: float = 30.0
    snapshot_period_s: float = 3.0
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
            ("report_period_ms", 10, 60_000),
            ("budget_prefix", 1.0, 96.0),
            ("quality_target_db", 0.0, 100.0),
            ("update_budget_s", 0.1, 86_400.0),
            ("drift_min_samples", 2, 10_000),
            ("drift_threshold", 1.0, 100.0),
            ("runtime_timeout_s", 0.05, 600.0),
            ("stale_after_s", 0.1, 3600.0),
            ("snapshot_period_s", 0.1, 3600.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: {low}..{high} is needed")
        if self.remove_after_s < self.stale_after_s:
            raise ValueError(f"remove_after_s = {self.remove_after_s}: at least stale_after_s is needed")

    @property
    def repository_path(self) -> Path:
        """Directory of the TUF repository."""
        return Path(self.repository_dir) if self.repository_dir else Path(self.state_dir) / "tuf"

    @property
    def key_path(self) -> Path:
        """Directory of the TUF signing keys."""
        return Path(self.key_dir) if self.key_dir else self.repository_path / "keys"

    @property
    def notification_base(self) -> str:
        """URL under which the subscription manager reaches this xApp, without a path."""
        if self.notification_url:
            return self.notification_url.rstrip("/")
        host = socket.gethostname() if self.http_host in ("", "0.0.0.0", "::") else self.http_host
        return f"http://{host}:{self.http_port}"
