"""Settings of the lab process; read by :func:`codec_runtime.contract.settings.load_settings`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

LAB_ENV_PREFIX = "SEMCOM_LAB"
"""Environment variables override a setting as ``SEMCOM_LAB_<NAME>``."""

Users = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0)]
Interval = Annotated[float, msgspec.Meta(ge=0.02, le=3600.0)]
PictureSize = Annotated[int, msgspec.Meta(ge=161, le=1024)]


class LabSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set on ``semcom lab``.

    Attributes:
        users: users in the cell; device classes are dealt out in turn (mobile, drone, car, fixed).
        seed: of positions, channel, cameras, traffic times and noise.
        duration_s: seconds to run, 0 until SIGTERM.
        out: folder for ``transmissions.jsonl``, ``timeline.jsonl``, ``lab_state.json`` and ``samples/``.
        images: folder of photographs; empty for those that come with scikit-image.
        trace: drive-test CSV, or a folder of them, in place of the channel model; empty for the 3GPP model.
        runtime_url: codec runtime that encodes and decodes.
        submgr_host, submgr_port: where subscription manager, appmgr, A1 mediator and alarm manager listen
            for HTTP (0: any free port). Indications go to the RMR endpoint that a subscription names.
        xapp_rmr_host, xapp_rmr_port: the xApp's RMR port, to which the A1 mediator sends policies.
        a1_rmr_port, alarm_rmr_port: RMR ports of the A1 mediator, for queries (message type 20012, by a route
            of the xApp's), and of the alarm manager (the xApp's ``alarm_manager``); 0: any free port, which
            the log tells.
        a1_policy_type: file with a policy type that the mediator knows from the start; empty for that of the
            descriptors, where the lab runs from a checkout.
        metrics_host, metrics_port: where ``/metrics`` listens (0: any free port).
        e2_node_id: RMR meid of the emulated gNB.
        plmn: its mobile network code, five or six digits.
        report_period_ms: how often the channel advances and, when subscribed, is reported at most.
        traffic: send pictures; False leaves only the E2 side.
        picture_size: side of the square pictures in pixels; MS-SSIM needs at least 161.
        drone_interval_s, other_interval_s: mean time between a user's pictures, by device class.
        jitter: share of the interval by which it varies, 0..0.9.
        fading: ``rayleigh``: every transmission has one |h|^2 of mean one; ``none``: noise only.
        diversity: receive branches combined (maximum ratio): |h|^2 is gamma distributed with this shape.
        max_in_flight: transmissions under way at the same time, all users together.
        request_timeout_s: of one HTTP request.
        retry_budget_s: a transmission counts as failed only when it failed for this long.
        drift_at_s: seconds after the start at which ``drift_group`` degrades; 0 for never.
        drift_group: device class whose channel degrades and whose content drifts.
        drift_kind: see :func:`xapp.lab.pictures.drift`.
        degrade_db: extra attenuation of that group's channel, dB.
        samples: most transmissions whose pictures are kept in ``samples/``.
        update_delay_s: mean time that a device takes to download a decoder version that its site serves.
        no_update_class: device class that cannot update: it keeps the versions it found at the start.
        no_decoder_class: device class without any of our decoders: it falls back to a conventional codec.
        classifiers: users, the first ones, that also classify what they see (:mod:`xapp.lab.classifying`);
            classify_interval_s: between two pictures of one.
        aligners: users of the device class ``align_group``, the first ones, that also align tokens of a
            generated world (:mod:`xapp.lab.aligning`), whose pictures' encoder turns at ``drift_at_s``;
            align_interval_s: between two requests of one.
        trusted_root: the pinned ``root.json`` that devices verify heads by.
        carrier_ghz, transmit_dbm, interference_db, cell_radius_m: see :class:`xapp.lab.channel.LinkBudget`.
    """

    users: Users = 20
    seed: int = 1
    duration_s: Seconds = 0.0
    out: str = "lab-out"
    images: str = ""
    trace: str = ""
    runtime_url: str = "http://127.0.0.1:8480"
    submgr_host: str = "127.0.0.1"
    submgr_port: Port = 8088
    xapp_rmr_host: str = "127.0.0.1"
    xapp_rmr_port: Port = 4560
    a1_rmr_port: Port = 0
    alarm_rmr_port: Port = 0
    a1_policy_type: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9103
    e2_node_id: str = "gnb_001_001_00000001"
    plmn: Annotated[str, msgspec.Meta(pattern=r"^\d{5,6}$")] = "00101"
    report_period_ms: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 100
    traffic: bool = True
    picture_size: PictureSize = 168
    drone_interval_s: Interval = 1.0
    other_interval_s: Interval = 2.5
    jitter: Annotated[float, msgspec.Meta(ge=0.0, le=0.9)] = 0.2
    fading: Literal["rayleigh", "none"] = "rayleigh"
    diversity: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    request_timeout_s: Interval = 10.0
    retry_budget_s: Seconds = 20.0
    drift_at_s: Seconds = 0.0
    drift_group: Literal["mobile", "drone", "car", "fixed"] = "drone"
    drift_kind: Literal["thermal", "night"] = "thermal"
    degrade_db: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)] = 6.0
    samples: Annotated[int, msgspec.Meta(ge=0, le=500)] = 24
    update_delay_s: Seconds = 2.0
    no_update_class: Literal["", "mobile", "drone", "car", "fixed"] = ""
    no_decoder_class: Literal["", "mobile", "drone", "car", "fixed"] = ""
    classifiers: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    classify_interval_s: Interval = 2.0
    aligners: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    align_group: Literal["mobile", "drone", "car", "fixed"] = "mobile"
    align_interval_s: Interval = 2.5
    trusted_root: str = ""
    carrier_ghz: Annotated[float, msgspec.Meta(ge=0.5, le=100.0)] = 3.5
    transmit_dbm: float = 33.0
    interference_db: Annotated[float, msgspec.Meta(ge=0.0, le=40.0)] = 12.0
    cell_radius_m: Annotated[float, msgspec.Meta(ge=20.0, le=5000.0)] = 250.0
    log_level: str = "INFO"
