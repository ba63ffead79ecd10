"""A made-up run with plausible numbers, for the summary, the report and the view."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from xapp.lab.demo.summary import RunData, RunEvent
from xapp.lab.records import Transmission

EPOCH_NS = 1_700_000_000_000_000_000
CLASSES = ("mobile", "drone", "car", "fixed")


def transmission(number: int, **values) -> Transmission:
    fields = {
        "id": number,
        "time_ns": EPOCH_NS + int(values.pop("time_s", 0.0) * 1e9),
        "elapsed_s": 0.0,
        "user": "ue-1",
        "device_class": "mobile",
        "group": "mobile",
        "picture": "p",
        "top": 0,
        "left": 0,
        "size": 168,
        "drift": "",
        "drifted": False,
        "noise_seed": number,
        "snr_db": 10.0,
        "fading_gain": 1.0,
        "effective_snr_db": 10.0,
        "directive_snr_db": 10.0,
        "prefix": 6,
        "decoder": "attention",
        "decoder_version": 1,
        "encoder_version": 1,
        "psnr_db": 26.0,
        "ms_ssim": 0.9,
    }
    return Transmission(**{**fields, **values})


def result(number: int, psnr_db: float, prefix: int = 6, ms_ssim: float = 0.9, version: int = 1):
    return SimpleNamespace(
        id=number, prefix=prefix, decoder_version=version, psnr_db=psnr_db, ms_ssim=ms_ssim
    )


def xapp_state(instance: str = "a", scale: int = 1, events=(), p99: float = 8.0) -> dict:
    edges = [0.1 * 1.5**i for i in range(16)]
    counts = np.round(400 * np.exp(-0.5 * ((np.arange(16) - 8.5) / 1.6) ** 2)).astype(int)
    return {
        "instance": instance,
        "policy": {"quality_target_db": 25.0},
        "users": [],
        "latency_ms": {
            "loop": {"p50": 3.1, "p99": p99, "count": 400 * scale},
            "decode": {"p50": 0.6, "p99": 1.4, "count": 400 * scale},
        },
        "counters": {
            "indications": 400 * scale,
            "ue_reports": 8000 * scale,
            "decode_errors": 0,
            "directives": 300 * scale,
            "updates_pushed": 1,
            "bytes_pushed": 412_345,
            "swaps": 1,
        },
        "latency_histogram": {"loop": {"edges_ms": edges, "counts": [int(c) for c in counts] + [0]}},
        "events": list(events),
    }


def fake_run(folder: Path | None = None, live_s: float = 45.0, users: int = 20, seed: int = 1) -> RunData:
    """A run with a drift of the drones at a third and a swap at two thirds of the live phase."""
    random = np.random.default_rng(seed)
    drift_s, swap_s = live_s / 3, live_s * 0.66
    sent, static, parent = [], [], []
    base = {"mobile": 9.0, "drone": 14.0, "car": 6.0, "fixed": 17.0}
    kept = 0
    for number in range(1, users * 24 + 1):
        time_s = live_s * number / (users * 24)
        index = int(random.integers(users))
        name = CLASSES[index % 4]
        drifted = name == "drone" and time_s > drift_s
        snr = base[name] + 3 * np.sin(time_s / 7 + index) + random.normal(0, 1) - 6 * drifted
        version = 2 if drifted and time_s > swap_s else 1
        prefix = int(np.clip(round(6 + (10 - snr) * 0.5), 2, 16))
        effective = snr + random.normal(0, 2)
        hurt = (2.6 - 1.4 * (version == 2)) * drifted
        base_psnr = 22.5 + 0.28 * effective + random.normal(0, 1.8) - hurt
        sample = ""
        if number % 12 == 0 and kept < 24:
            sample = "spread" if name != "drone" else "before"
            kept += 1
        if drifted and number % 8 == 0:
            sample = "updated" if version == 2 else "drifted"
        sent.append(
            transmission(
                number,
                time_s=time_s,
                user=f"ue-{index}",
                device_class=name,
                group=name,
                snr_db=float(snr),
                effective_snr_db=float(effective),
                prefix=prefix,
                drifted=drifted,
                decoder_version=version,
                decoder="conv" if name == "mobile" else "attention",
                psnr_db=float(base_psnr + 0.5 * (prefix - 6)),
                ms_ssim=0.93,
                sample=sample,
            )
        )
        static.append(result(number, float(base_psnr), 6 + number % 2, 0.92, version))
        if version == 2:
            parent.append(result(number, float(base_psnr + 0.5 * (prefix - 6) - 1.4 + random.normal(0, 0.4))))
        if folder is not None and sample:
            write_sample(folder, number, random)
    events = [
        RunEvent(0.4, "subscribed", "subscribed to gnb_001_001_00000001"),
        RunEvent(drift_s, "drift", "drone users: channel 6 dB worse, thermal camera", "bad"),
        RunEvent(drift_s + 4.2, "drift_detected", "drone: PSNR 2.4 dB below what the channel allows", "bad"),
        RunEvent(drift_s + 4.3, "job_started", "fine-tuning attention v1 for drone at the site"),
        RunEvent(swap_s - 0.3, "bundle_pushed", "decoder/attention/2 pushed, 412 kB"),
        RunEvent(swap_s, "bundle_swapped", "attention v2 serves the drone users", "good"),
    ]
    data = RunData(
        duration_s=60,
        users=users,
        seed=seed,
        epoch_ns=EPOCH_NS,
        transmissions=sent,
        static=static,
        parent=parent,
        events=events,
        drift_s=drift_s,
        live_s=live_s,
        samples={t.id: folder / str(t.id) for t in sent if t.sample} if folder else {},
    )
    data.xapp.update(xapp_state())
    data.lab.update({"requests": 2 * len(sent), "failed_requests": 0})
    return data


def write_sample(folder: Path, number: int, random) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:64, 0:64]
    scene = np.stack([np.sin(x / 9 + number) * 90 + 128, np.cos(y / 7) * 90 + 128, (x + y) * 2.0 % 256], -1)
    noisy = np.clip(scene + random.normal(0, 14, scene.shape), 0, 255)
    Image.fromarray(scene.astype(np.uint8)).save(folder / f"{number}_original.png")
    Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number}_restored.png")
