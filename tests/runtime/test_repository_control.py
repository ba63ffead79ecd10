"""The model repository as a stock client sees it: index, load and unload under the rules of updates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import tritonclient.http as triton
from runtime_site import Repository, Site, serve, write_decoder
from tritonclient.utils import InferenceServerException

from codec_runtime.bundle.store import read_manifest
from codec_runtime.contract import paths
from codec_runtime.contract.directives import Directive, DirectiveBatch
from codec_runtime.contract.telemetry import CapabilityReport, HeldDecoder


def _put(site: Site, area: str, name: str, data: bytes) -> None:
    assert httpx.put(f"{site.url}{paths.INBOX}/{area}/{name}", content=data).status_code == 204


def _deliver(site: Site, weights: Path, tmp_path: Path, repository: Repository, *versions: int) -> None:
    encoder = read_manifest(weights / "encoder/anchor/1")
    for version in versions:
        write_decoder(tmp_path / "new", encoder, version=version, parent=1, seed=version)
        repository.add_bundle(tmp_path / "new", f"decoder/attention/{version}")
    repository.publish(lambda area, name, data: _put(site, area, name, data))


def _index(client: triton.InferenceServerClient, name: str) -> dict[str, str]:
    return {m["version"]: m["state"] for m in client.get_model_repository_index() if m["name"] == name}


def test_stock_client_loads_and_unloads_signed_versions(
    weights: Path, tmp_path: Path, repository: Repository
) -> None:
    root = str(tmp_path / "root.json")
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        client = triton.InferenceServerClient(site.address)
        _deliver(site, weights, tmp_path, repository, 2, 3)
        assert _index(client, "decoder.attention") == {"1": "READY"}
        client.load_model("decoder.attention")  # the newest that the inbox holds
        client.load_model("decoder.attention", query_params={"version": "2"})
        assert _index(client, "decoder.attention") == {"1": "READY", "2": "READY", "3": "READY"}
        assert client.is_model_ready("decoder.attention", "3")
        client.unload_model("decoder.attention", query_params={"version": "3"})
        assert _index(client, "decoder.attention") == {"1": "READY", "2": "READY", "3": "UNAVAILABLE"}
        assert not client.is_model_ready("decoder.attention", "3")
        assert _index(client, "encoder.anchor") == {"1": "READY"}
        assert _index(client, "decode") == {"1": "READY", "2": "READY"}
        ready = httpx.post(site.url + "/v2/repository/index", json={"ready": True}).json()
        assert {entry["state"] for entry in ready} == {"READY"}
    with serve(weights, tmp_path / "state", trusted_root=root) as site:  # unloaded is unloaded
        client = triton.InferenceServerClient(site.address)
        assert _index(client, "decoder.attention") == {"1": "READY", "2": "READY", "3": "UNAVAILABLE"}
        client.load_model("decoder.attention")
        assert client.is_model_ready("decoder.attention", "3")


def test_what_would_fail_requests_is_not_unloaded(
    site: Site, weights: Path, tmp_path: Path, repository: Repository
) -> None:
    client = triton.InferenceServerClient(site.address)
    _deliver(site, weights, tmp_path, repository, 2)
    client.load_model("decoder.attention", query_params={"version": "2"})
    directive = Directive(user="ue-1", prefix=3, snr_db=2.0, decoder="attention", decoder_version=2)
    batch = DirectiveBatch(issuer="x", sequence=1, issued_ns=0, directives=[directive])
    httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch))
    _deliver(site, weights, tmp_path, repository, 3)
    client.load_model("decoder.attention")
    client.load_model("decoder.attention")  # the newest is there: nothing changes
    device = CapabilityReport(
        user="ue-2", time_ns=0, device_class="car", group="", decoders=["attention"], compute_gflops=1,
        holds=[HeldDecoder(family="attention", version=3)],
    )
    httpx.post(site.url + paths.TELEMETRY, content=msgspec.msgpack.encode([device]))
    for name, version, reason in (
        ("decoder.attention", "2", "directives name it"),
        ("decoder.attention", "3", "the only one that some device holds"),
        ("decoder.attention", "1", "base version stays"),
        ("decoder.attention", "9", "unknown version 9"),
        ("encoder.anchor", "1", "need their encoder"),
        ("decoder.attention", None, "which version"),
        ("decode", "1", "bundles are loaded and unloaded"),
    ):
        query: Any = {} if version is None else {"version": version}
        with pytest.raises(InferenceServerException, match=reason):
            client.unload_model(name, query_params=query)
    assert _index(client, "decoder.attention") == {"1": "READY", "2": "READY", "3": "READY"}


def test_load_serves_nothing_that_is_not_signed(
    site: Site, weights: Path, tmp_path: Path, repository: Repository
) -> None:
    client = triton.InferenceServerClient(site.address)
    with pytest.raises(InferenceServerException, match=r"no bundle decoder\.resnet"):
        client.load_model("decoder.resnet")
    with pytest.raises(InferenceServerException, match="a model comes from a signed bundle"):
        client.load_model("decoder.attention", config=json.dumps({"backend": "python"}))
    _deliver(site, weights, tmp_path, repository, 2)
    with pytest.raises(InferenceServerException, match="MissingTargetError"):
        client.load_model("decoder.attention", query_params={"version": "7"})
    stranger = Repository(tmp_path / "other.json")
    stranger.version = 5
    _deliver(site, weights, tmp_path, stranger, 4)
    with pytest.raises(InferenceServerException, match="Error: "):
        client.load_model("decoder.attention", query_params={"version": "4"})
    assert _index(client, "decoder.attention") == {"1": "READY"}


def test_the_last_version_of_a_family_stays(weights: Path, tmp_path: Path) -> None:
    encoder = read_manifest(weights / "encoder/anchor/1")
    write_decoder(weights, encoder, family="resnet", version=4, parent=1)
    with serve(weights, tmp_path / "state") as site:
        reply = httpx.post(site.url + "/v2/repository/models/decoder.resnet/unload?version=4")
        assert (reply.status_code, "last version" in reply.json()["error"]) == (409, True)
