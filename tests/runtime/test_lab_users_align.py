"""The lab's aligning users at a real site: what they send is answered, paired, recorded, and drifts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import httpx
import numpy as np
from aligned_site import write_aligned, write_knowledge
from runtime_site import serve

from xapp.lab.aligning import PICTURES, AligningUsers, aligning_users, padded
from xapp.lab.alignment_records import ALIGNMENTS_FILE, read_alignments
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER
from xapp.lab.scenario import Scenario
from xapp.lab.settings import LabSettings


class Phones:
    """Two phones and a drone; the disturbance begins half a second after the start."""

    users = ("ue-1", "ue-2", "ue-3")
    classes = ("mobile", "drone", "mobile")
    scenario = Scenario(0.5, "drone", 6.0, "thermal")


def test_only_the_first_users_of_the_class_align() -> None:
    settings = LabSettings(aligners=2, align_group="drone")
    assert aligning_users(settings, ["mobile", "drone", "car", "drone", "drone"]) == [1, 3]
    assert aligning_users(LabSettings(), ["mobile"]) == []


def test_samples_of_different_lengths_share_a_tensor() -> None:
    inputs = padded([np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)])
    assert inputs["lengths"].tolist() == [2, 1]
    assert inputs["tokens"].tolist() == [[[1] * 3, [1] * 3], [[2] * 3, [0] * 3]]


def test_phones_align_pictures_and_sentences_and_their_pictures_drift(weights: Path, tmp_path: Path) -> None:
    write_aligned(weights, write_knowledge(weights))

    async def main(url: str) -> None:
        settings = LabSettings(runtime_url=url, out=str(tmp_path), aligners=4, align_interval_s=0.1)
        users = AligningUsers(settings, Phones(), time.monotonic())  # type: ignore[arg-type]
        task = asyncio.create_task(users.run())
        async with asyncio.timeout(60):
            while True:
                await asyncio.sleep(0.05)
                if any(one.drifted for one in read_alignments(tmp_path / ALIGNMENTS_FILE)):
                    break
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert users.failed == 0

    with serve(weights, tmp_path / "state") as site:
        asyncio.run(main(site.url))
        page = httpx.get(f"{site.url}/metrics", timeout=10).text
    records = read_alignments(tmp_path / ALIGNMENTS_FILE)
    assert {one.user for one in records} == {"ue-1", "ue-3"}
    assert {one.encoder for one in records} == {IMAGE_ENCODER, TEXT_ENCODER}
    assert all((one.adapter_version, one.skb_version, one.samples) == (1, 1, PICTURES) for one in records)
    assert not records[0].drifted
    assert all(0.0 <= one.confidence <= 1.0 for one in records)
    kept = next(line for line in page.splitlines() if line.startswith("semcom_runtime_alignment_items "))
    pictures = sum(one.samples for one in records if one.encoder == IMAGE_ENCODER)
    assert float(kept.split()[1]) >= pictures
