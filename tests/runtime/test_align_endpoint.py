"""The model ``align`` of a live site: versions, fallbacks, telemetry, a site's part of a federated update."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from aligned_site import WORLD, align, scenes, show, write_aligned, write_knowledge
from runtime_site import Repository, Site, serve
from safetensors.numpy import load

from codec_runtime.contract import paths
from codec_runtime.contract.alignment import (
    AdapterAssignment,
    AdapterTable,
    AdapterTableAck,
    AlignmentJob,
    AlignmentReport,
    AlignmentUpdate,
)
from codec_runtime.contract.telemetry import TrainingReport
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER
from xapp.runtime_client import RuntimeClient


@pytest.fixture
def aligned(weights: Path, tmp_path: Path, repository: Repository) -> Iterator[Site]:
    write_aligned(weights, write_knowledge(weights), epochs=12)
    root = str(tmp_path / "root.json")
    with serve(weights, tmp_path / "state", trusted_root=root, training_nice=0) as running:
        yield running


def reports(site: Site, user: str) -> list[AlignmentReport]:
    async def read() -> list[AlignmentReport]:
        found: list[AlignmentReport] = []
        async with RuntimeClient(site.url) as client:
            async for event in client.telemetry(0):
                if isinstance(event.report, AlignmentReport) and event.report.user == user:
                    found.append(event.report)
                    if len(found) == 2:
                        return found
        raise AssertionError("the stream ended")

    return asyncio.run(asyncio.wait_for(read(), 20))


def post(site: Site, path: str, message: object, kind: type, method: str = "POST") -> object:
    answer = httpx.request(method, site.url + path, content=msgspec.msgpack.encode(message), timeout=20)
    assert answer.is_success, answer.text
    return msgspec.msgpack.decode(answer.content, type=kind)


def test_tokens_are_aligned_and_the_answer_names_its_versions(aligned: Site) -> None:
    shown = scenes(3, 5)
    answer = align(aligned.address, [scene.text for scene in shown], text=True, skb_versions="1")
    told = answer.get_response()["parameters"]
    assert (told["adapter_version"], told["skb_version"], told["fallback"]) == (1, 1, False)
    tokens, confidence = answer.as_numpy("aligned"), answer.as_numpy("confidence")
    assert tokens.shape[2] == WORLD.dimension
    np.testing.assert_allclose(np.linalg.norm(tokens[0, : len(shown[0].text)], axis=1), 1.0, atol=1e-4)
    assert ((confidence > 0) & (confidence <= 1)).all()
    with triton.InferenceServerClient(aligned.address) as client:
        assert client.get_model_metadata("align")["versions"] == ["1"]


@pytest.mark.parametrize(("given", "status", "text"), [
    ({"skb_versions": "4,5"}, "409", "the device holds knowledge base [4, 5]"),
    ({"skb_versions": "x"}, "400", "versions with commas"),
    ({"modality": "smell"}, "400", "one of image, text, series"),
    ({"encoder": "other"}, "404", "known encoders are"),
    ({"adapter_version": 7}, "404", "unknown version 7"),
])
def test_refusals_are_named(aligned: Site, given: dict[str, object], status: str, text: str) -> None:
    with pytest.raises(triton.InferenceServerException) as refused:
        align(aligned.address, [scenes(1, 1)[0].image], **given)
    assert status in refused.value.status()
    assert text in refused.value.message()


def test_a_delivered_adapter_serves_whom_it_is_assigned_to_and_a_withdrawn_one_nobody(
    aligned: Site, tmp_path: Path, repository: Repository
) -> None:
    second = write_knowledge(tmp_path / "new", 2, 5)
    write_aligned(tmp_path / "new", second, version=2, parent=1, move=0.01)
    for bundle in ("skb/semantic/2", "adapter/shared/2"):
        repository.add_bundle(tmp_path / "new", bundle)
    repository.publish(lambda area, name, data: httpx.put(
        f"{aligned.url}{paths.INBOX}/{area}/{name}", content=data, timeout=10
    ).raise_for_status())
    wanted = ActivationRequest(bundles=["skb/semantic/2", "adapter/shared/2"])
    report = post(aligned, paths.ACTIVATIONS, wanted, ActivationReport)
    assert report.outcome == "activated", report
    table = AdapterTable(issuer="x", sequence=1, assignments=[
        AdapterAssignment(user="u", adapter="shared", version=2),
        AdapterAssignment(user="v", adapter="shared", version=3),
    ])
    ack = post(aligned, paths.ALIGNMENT_TABLE, table, AdapterTableAck, "PUT")
    assert (ack.applied, len(ack.rejected)) == (1, 1)
    image = [scenes(1, 1)[0].image]

    def told(**given: object) -> tuple[int, int, bool]:
        found = align(aligned.address, image, **given).get_response()["parameters"]
        return found["adapter_version"], found["skb_version"], found["fallback"]

    assert told(user="u") == (2, 2, False)
    assert told(user="u", skb_versions="1") == (1, 1, True)
    assert told(user="v") == (1, 1, False)
    page = httpx.get(f"{aligned.url}/metrics", timeout=10).text
    assert "semcom_runtime_alignment_fallbacks_total 1.0" in page
    assert 'semcom_runtime_model_info{architecture="graph-adapter"' in page


def test_reports_carry_confidence_and_label_consistency_and_both_fall_when_the_encoder_drifts(
    aligned: Site,
) -> None:
    show(aligned.address, "right", scenes(40, 11))
    show(aligned.address, "drifted", scenes(40, 11, WORLD.drifted(0.8)))
    right, drifted = (
        {report.encoder: report for report in reports(aligned, user)} for user in ("right", "drifted")
    )
    assert right[IMAGE_ENCODER].samples == 40
    assert drifted[IMAGE_ENCODER].confidence < right[IMAGE_ENCODER].confidence - 0.1
    assert drifted[TEXT_ENCODER].confidence == pytest.approx(right[TEXT_ENCODER].confidence, abs=1e-6)
    assert (drifted[IMAGE_ENCODER].label_consistency or 0) < (right[IMAGE_ENCODER].label_consistency or 0)


@pytest.mark.slow
def test_a_sites_users_update_the_adapter_among_themselves_after_a_drift(aligned: Site) -> None:
    for user in ("u0", "u1"):
        show(aligned.address, user, scenes(64, 20 + int(user[1]), WORLD.drifted(0.8)))
    job = AlignmentJob(
        job="drift-1", users=["u0", "u1", "gone"], adapter="shared", parent_version=1, new_version=2,
        rounds=3, budget_s=60.0, max_age_s=60.0,
    )
    started = time.monotonic()
    report = post(aligned, paths.ALIGNMENT_JOBS, job, TrainingReport)
    assert report.state in ("queued", "running")
    assert post(aligned, paths.ALIGNMENT_JOBS, job, TrainingReport).job == "drift-1"
    while report.state not in ("succeeded", "failed"):
        assert time.monotonic() - started < 90
        time.sleep(0.1)
        answer = httpx.get(f"{aligned.url}{paths.TRAINING_JOBS}/drift-1", timeout=10)
        report = msgspec.msgpack.decode(answer.content, type=TrainingReport)
    assert report.state == "succeeded", report.detail
    assert report.heldout_gain_rsum is not None
    assert report.heldout_gain_rsum > 20.0, report.detail

    async def fetch() -> tuple[object, dict[str, bytes]]:
        async with RuntimeClient(aligned.url) as client:
            return await client.candidate("drift-1")

    manifest, _ = asyncio.run(fetch())
    assert (manifest.kind, manifest.version, manifest.parent) == ("adapter", 2, 1)
    assert manifest.metrics["heldout_confidence"] > manifest.metrics["heldout_confidence_parent"]
    answer = httpx.get(f"{aligned.url}{paths.ALIGNMENT_JOBS}/drift-1", timeout=10)
    update = msgspec.msgpack.decode(answer.content, type=AlignmentUpdate)
    assert update.users == 2
    assert set(update.shares) <= set(load(update.weights))
    assert update.shares["norms.lab-image.weight"] > 0
    assert not (Path(aligned.settings.state_dir) / "jobs" / "drift-1" / "pairs.safetensors").exists()
