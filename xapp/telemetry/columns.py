"""The columns of the user table: names, types, units, and the value of a user about whom nothing is known."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from codec_runtime.contract.devices import DEVICES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SOURCES: Final = ("SINR", "CQI", "RSRP", "PROXY")
"""What the SINR is taken from, best first; PROXY is throughput per resource block. Of each: time last heard
(``_heard_s``), moving share of plausible values (``_plausible``), and trust after all checks (``_trust``)."""

NEVER: Final = -1e18
"""A time (s) before everything."""

CODECS: Final[tuple[Literal["semantic", "jpeg", "heic"], ...]] = ("semantic", "jpeg", "heic")
"""What a directive may name."""

NO_PAIR: Final = -2
"""In column ``codec``: neither a decoder that the device holds nor a codec it falls back to is served."""

COMPUTE_CLASSES: Final = tuple(DEVICES)
"""What ``compute_class`` may be, in the table by index."""

LINK_SUMS: Final = ("net_w", "net_x", "net_y", "net_xx", "net_xy")
"""Of the line from predicted to reported network times, see xapp.split.line_fit."""

LEFT_BEHIND: Final = (
    "codec", "prefix", "directive_snr_db", "expected_psnr_db", "cut", "cut_arrears", *LINK_SUMS, "bit_s",
    "bit_long_s",
)
"""What a user leaves behind on going to another site: what that site decided, and what its link was like."""

COLUMNS: Final[dict[str, tuple[type[Any], Any]]] = {
    # from the RAN
    "snr_db": (np.float64, np.nan),  # exponential moving average of the fused SINR, dB
    "snr_last_db": (np.float64, np.nan),  # fused from the sources of the last report
    "snr_var": (np.float64, 0.0),  # of the fused values around their average, dB^2
    "snr_trend_db_s": (np.float64, 0.0),
    "cqi": (np.float64, np.nan),
    "rsrp_dbm": (np.float64, np.nan),
    "throughput_kbps": (np.float64, np.nan),
    "prb_percent": (np.float64, np.nan),
    "heard_s": (np.float64, NEVER),  # last indication
    "snr_heard_s": (np.float64, NEVER),  # last indication with a usable source of the SINR
    "snr_source": (np.int64, -1),  # index in SOURCES of the heaviest source
    "snr_trust": (np.float64, 0.0),  # 0..1, of all sources together
    "snr_error_var": (np.float64, np.nan),  # of the fused value, dB^2
    "sinr_db": (np.float64, np.nan),  # as reported
    "proxy_db": (np.float64, np.nan),  # SINR estimated from throughput per resource block
    **{f"{source}_heard_s": (np.float64, NEVER) for source in ("sinr", "cqi", "rsrp", "proxy")},
    **{f"{source}_trust": (np.float64, 1.0) for source in ("sinr", "cqi", "rsrp", "proxy")},
    **{f"{source}_plausible": (np.float64, 1.0) for source in ("sinr", "cqi", "rsrp", "proxy")},
    **{f"{source}_round": (np.int64, 0) for source in ("sinr", "cqi", "rsrp")},  # see telemetry.trust
    "reports": (np.int64, 0),
    "distrust": (np.float64, 0.0),  # 0..1, moving share of out-of-range values
    "e2_node": (np.int64, -1),  # index in UserTable.e2_nodes
    "site": (np.int64, -1),  # index of the site that serves that node; -1 for none
    "slice": (np.int64, -1),  # index in UserTable.slices
    # from the device
    "group": (np.int64, -1),  # index in UserTable.groups
    "device_class": (np.int64, -1),  # index in UserTable.device_classes
    "capability_set": (np.int64, -1),  # index in UserTable.capability_sets
    "held_set": (np.int64, -1),  # index in UserTable.held; -1: said nothing
    # from measured quality
    "snr_bias_db": (np.float64, 0.0),  # effective SNR at the decoder minus reported SINR
    "snr_bias_var": (np.float64, 0.0),  # dB^2: the fading that reports do not show
    "offset_db": (np.float64, 0.0),  # measured PSNR minus the surface: how hard the content is
    "offset_var": (np.float64, 0.0),
    "surface_db": (np.float64, 0.0),  # moving average of what the surface expected, dB
    "surface_last_db": (np.float64, np.nan),  # what it expected of the last transmission, dB
    "step_power": (np.float64, 0.0),  # E[dx^2], dB^2: dx = change of the expectation between transmissions
    "step_product": (np.float64, 0.0),  # E[dx dy], dB^2: dy = change of the measured PSNR
    "psnr_db": (np.float64, np.nan),
    "qualities": (np.int64, 0),
    "quality_s": (np.float64, NEVER),  # last quality report
    "sending_rate": (np.float64, np.nan),  # transmissions a second
    # from a device that classifies pictures
    "classifier": (np.int64, -1),  # index in UserTable.classifiers; -1: does not classify
    "compute_class": (np.int64, -1),  # index in COMPUTE_CLASSES
    "battery": (np.float64, np.nan),  # 0..1, NaN on mains
    "classify_rate": (np.float64, np.nan),  # pictures a second
    **dict.fromkeys(LINK_SUMS, (np.float64, 0.0)),
    "bit_s": (np.float64, np.nan),  # predicted time of a bit up, s, short average
    "bit_long_s": (np.float64, np.nan),  # the same, long average
    # decided
    "codec": (np.int64, -1),  # index in CODECS; -1 undecided, NO_PAIR: the device can take nothing served
    "prefix": (np.int64, 0),
    "decoder": (np.int64, -1),  # index in UserTable.decoders, -1 with a conventional codec
    "decoder_version": (np.int64, 0),
    "encoder_version": (np.int64, 0),
    "directive_snr_db": (np.float64, np.nan),
    "expected_psnr_db": (np.float64, np.nan),
    "cut": (np.int64, -1),  # number of the cut at its site's split control; -1: none
    "cut_arrears": (np.float64, 0.0),  # what staying has cost, see xapp.split.switching
}
