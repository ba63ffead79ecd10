"""Cuts whose features a bottleneck squeezes: published by operating point, coded under a cap, restored."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import torch
from classifier_releases import classifying_site, normalised, photograph, published, push, write_chain
from runtime_site import Site
from squeezed_releases import BRANCHES, CAP_BYTES, POINTS, bottleneck_release, network, write_branches

from codec_runtime.bundle.creation import read_source
from codec_runtime.bundle.errors import BundleError, SpecError
from codec_runtime.bundle.store import read_manifest
from codec_runtime.client.classifier import Answer, Device
from codec_runtime.client.session import ClientSettings, classifying
from codec_runtime.contract import paths
from codec_runtime.contract.classification import PublishedCut, SplitDirective, plain_id
from codec_runtime.contract.directives import DirectiveBatch
from codec_runtime.digital.bitstream import parse
from codec_runtime.split.bundles import blank_graph
from codec_runtime.split.classifiers import BranchesClassifier
from codec_runtime.split.parts import device_parts, head_digest, head_file
from codec_runtime.split.squeezed import format_specs, parse_specs
from codec_runtime.split.squeezed_release import read_release, write_release

INFER = "/v2/models/classify_tail/infer"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("squeezed")
    write_branches(root)
    return root


@pytest.fixture(scope="module")
def served(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    folder = tmp_path_factory.mktemp("site")
    with classifying_site(folder) as (site, repository):
        (report,) = push(site, repository, releases, 1, network="branches")
        assert report.outcome == "activated", report.detail
        yield site, folder / "root.json"


def _tuned(picture: np.ndarray) -> np.ndarray:
    """Logits of the network with its tuned last layer, nothing squeezed."""
    module = network()
    with torch.no_grad():
        module.classifier.weight.mul_(2.0)
        module.classifier.bias.mul_(2.0)
        logits: np.ndarray = module(torch.from_numpy(normalised(picture))).numpy()[0]
    return logits


def _points(site: Site) -> list[PublishedCut]:
    return [cut for cut in published(site) if cut.cap_bytes]


def _tell(site: Site, cut: PublishedCut, user: str, sequence: int) -> None:
    split = SplitDirective(user=user, network=cut.network, version=cut.version, cut=cut.cut)
    batch = DirectiveBatch(issuer=user, sequence=sequence, issued_ns=1, directives=[], splits=[split])
    reply = httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch))
    assert b"reason" not in reply.content


def _ask(site: Site, data: bytes, cut: str) -> httpx.Response:
    body = {
        "inputs": [{"name": "features", "datatype": "UINT8", "shape": [len(data)], "data": list(data)}],
        "parameters": {"network": "branches", "version": 1, "cut": cut},
    }
    return httpx.post(site.url + INFER, json=body)


def _settings(served: tuple[Site, Path], state: Path) -> ClientSettings:
    return ClientSettings(url=served[0].url, state=state, trusted_root=served[1], refresh_s=0.05)


def test_each_operating_point_is_published_with_its_measured_figures(served: tuple[Site, Path]) -> None:
    points = _points(served[0])
    assert [cut.cut for cut in points] == [f"{plain_id(points[0].cut)}-p{number}" for number in range(POINTS)]
    assert [(cut.feature_bytes, cut.cap_bytes) for cut in points] == [(700, CAP_BYTES), (400, CAP_BYTES)]
    assert [cut.agreement for cut in points] == pytest.approx([0.9, 0.7])
    assert {cut.head_bytes for cut in points} == {points[0].head_bytes}
    assert {cut.agreement for cut in published(served[0]) if not cut.cap_bytes} == {1.0}


def test_a_device_squeezes_with_a_verified_head_and_gets_the_tuned_tails_answer(
    served: tuple[Site, Path], tmp_path: Path
) -> None:
    async def run() -> None:
        site = served[0]
        pictures = [photograph(seed) for seed in range(40, 46)]
        async with classifying(_settings(served, tmp_path), Device("a", "branches")) as client:
            errors = []
            for sequence, cut in enumerate(_points(site), 1):
                await asyncio.to_thread(_tell, site, cut, "a", sequence)
                async with asyncio.timeout(20):
                    while client.plan is None or client.plan.cut != cut:
                        await client.refresh()
                answers = [await client.classify(picture, top=5) for picture in pictures]
                assert {answer.report.cut for answer in answers} == {cut.cut}
                assert all(0 < answer.report.feature_bytes <= CAP_BYTES for answer in answers)
                pairs = zip(answers, pictures, strict=True)
                errors.append([_error(answer, picture) for answer, picture in pairs])
            assert np.mean(errors[0]) < 0.02  # the uncut tuned network's answer, but for the quantisation
            assert np.mean(errors[0]) <= np.mean(errors[1])
            assert client.refusals == {}
        heads = list((tmp_path / "heads").iterdir())
        assert len(heads) == 1  # all points of a cut have one
        metrics = (await asyncio.to_thread(httpx.get, site.url + "/metrics")).text
        assert 'classify_streams_total{form="entropy-coded",network="branches"}' in metrics

    asyncio.run(run())


def _error(answer: Answer, picture: np.ndarray) -> float:
    logits = _tuned(picture).astype(np.float64)
    shares = np.exp(logits - logits.max())
    return float(np.abs(np.array(answer.scores) - (shares / shares.sum())[list(answer.classes)]).max())


def test_the_networks_other_cuts_answer_as_before(served: tuple[Site, Path], tmp_path: Path) -> None:
    async def run() -> None:
        async with classifying(_settings(served, tmp_path), Device("b", "branches")) as client:
            picture = photograph(50)
            answer = await client.classify(picture, top=5)
            with torch.no_grad():
                wanted = network()(torch.from_numpy(normalised(picture)))[0].softmax(0).numpy()
            assert answer.scores == pytest.approx(wanted[list(answer.classes)], abs=1e-5)

    asyncio.run(run())


def test_content_that_would_exceed_the_cap_arrives_at_a_fixed_length_and_is_counted(
    served: tuple[Site, Path], tmp_path: Path
) -> None:
    async def run() -> None:
        site = served[0]
        finest = _points(site)[0]
        await asyncio.to_thread(_tell, site, finest, "noisy", 1)
        async with classifying(_settings(served, tmp_path), Device("noisy", "branches")) as client:
            async with asyncio.timeout(20):
                while client.plan is None or client.plan.cut != finest:
                    await client.refresh()
            noise = np.random.default_rng(0).integers(0, 2, (3, BRANCHES.size, BRANCHES.size)) * 255
            answer = await client.classify(noise.astype(np.uint8))
            assert answer.report.feature_bytes <= CAP_BYTES
        metrics = (await asyncio.to_thread(httpx.get, site.url + "/metrics")).text
        counted = [line for line in metrics.splitlines() if "classify_streams_total{" in line]
        assert any("fixed-length" in line or "shortened" in line for line in counted), counted

    asyncio.run(run())


def test_streams_of_another_point_another_cut_or_beyond_the_cap_are_refused(
    served: tuple[Site, Path], releases: Path
) -> None:
    site = served[0]
    first, second = _points(site)
    data = _stream(releases, 0)
    assert _ask(site, data, first.cut).status_code == 200
    picture = next(cut for cut in published(site) if len(cut.device) == 1)
    for cut, given, status, text in (
        (second.cut, data, 400, "point 0"),
        (picture.cut, data, 400, ""),
        (first.cut, data + bytes(CAP_BYTES), 400, "cap"),
        (first.cut, bytes([*data[:-1], data[-1] ^ 1]), 400, "ChecksumError"),
        (plain_id(first.cut), data, 404, "not published"),
        (plain_id(first.cut) + "-p9", data, 404, "not published"),
    ):
        reply = _ask(site, given, cut)
        assert (reply.status_code, text in reply.text) == (status, True), reply.text


def _stream(releases: Path, point: int, weights: str | None = None) -> bytes:
    """What a device sends, made from the bundle's files without a site."""
    directory = releases / "classifier" / "branches" / "1"
    manifest = read_manifest(directory)
    stored = read_source(directory / "weights.safetensors")
    names = [name for name in stored if name.startswith(("stem.", "squeezed.0.reduce", "squeezed.0.tables"))]
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    graph = blank_graph(manifest)
    cut = next(c.name for c in manifest.compatible if c.name.endswith("-squeezed")).split("-")[-2]
    parts = device_parts(manifest, graph, f"{cut}-p{point}", head_file(stored, {}, names))
    with torch.no_grad():
        features, _ = parts.head(torch.from_numpy(normalised(photograph(60))))
    return parts.coder.encode([tensor.numpy() for tensor in features])


def test_stream_names_the_weights_and_not_the_tables_alone(releases: Path) -> None:
    manifest = read_manifest(releases / "classifier" / "branches" / "1")
    assert parse(_stream(releases, 1)).header.model == bytes.fromhex(manifest.weights_sha256[:16])


def test_an_int8_bundle_keeps_its_coding_tables_exactly(tmp_path: Path, releases: Path) -> None:
    write_branches(tmp_path, storage="I8")
    small = read_source(tmp_path / "classifier/branches/1/weights.safetensors")
    large = read_source(releases / "classifier/branches/1/weights.safetensors")
    tables = [name for name in large if ".tables." in name]
    assert len(tables) == 8
    assert all(torch.equal(small[name], large[name]) for name in tables)
    assert small["squeezed.0.reduce.weight"].dtype == torch.int8


def test_release_survives_its_folder_and_another_networks_is_refused(tmp_path: Path) -> None:
    release = bottleneck_release()
    write_release(tmp_path / "kept", release)
    again = read_release(tmp_path / "kept")
    assert again.record == release.record
    assert all(torch.allclose(again.state[name], release.state[name], atol=2e-3) for name in release.state
               if not name.startswith("tables."))
    metrics = write_branches(tmp_path / "a", squeezed=again).metrics
    assert metrics["squeezed.0.1.agreement"] == pytest.approx(0.7)
    with pytest.raises(SpecError, match="was trained for branches with weights"):
        write_branches(tmp_path / "b", 2, squeezed=again)
    with pytest.raises(BundleError, match="no such file; shipped bottlenecks are"):
        read_release(tmp_path / "none")


def test_a_module_that_is_not_cut_where_it_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"not cut where the module stem\.0 ends"):
        write_branches(tmp_path, squeezed=bottleneck_release(after="stem.0"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"channels": 7}, "shape"),
        ({"tuned": ("nowhere",)}, "no module 'nowhere'"),
        ({"tuned": ("stem", "stem.0")}, "is a part of stem"),
        ({"points": 0}, "int` >= 1"),
        ({"symbols": 10_000}, "int` <= 255"),
        ({"cut": "zz"}, "matching regex"),
    ],
)
def test_specs_that_do_not_fit_are_refused_by_name(change: dict[str, object], text: str) -> None:
    release = bottleneck_release()
    spec = msgspec.structs.replace(release.spec("3"), **change)
    state = {**network().state_dict(), **release.bundled_state(0)}

    def built() -> BranchesClassifier:
        module = BranchesClassifier(dataclasses.replace(BRANCHES, squeezed=format_specs([spec])))
        module.load_state_dict(state)
        return module

    with pytest.raises((ValueError, RuntimeError), match=text):
        built()


def test_a_classifier_without_squeezed_cuts_does_not_mention_them(tmp_path: Path) -> None:
    """Runtimes that do not know the hyper-parameter go on serving what others publish."""
    assert "squeezed" not in write_chain(tmp_path, 1).hyperparameters


def test_specs_survive_their_text() -> None:
    spec = bottleneck_release().spec("3f")
    assert parse_specs(format_specs([spec])) == (spec,)
    assert (format_specs([]), parse_specs("")) == ("", ())
    with pytest.raises(ValueError, match=r"5 cuts; 1\.\.4"):
        parse_specs(format_specs([spec] * 5))
    with pytest.raises(ValueError, match="squeezed"):
        parse_specs("[{}")


def test_digest_of_a_head_is_the_same_for_all_points(releases: Path) -> None:
    manifest = read_manifest(releases / "classifier" / "branches" / "1")
    names = [bundle.name for bundle in manifest.compatible]
    (name,) = [name for name in names if name.endswith("-squeezed")]
    cut = name.removeprefix("branches-head-").removesuffix("-squeezed")
    assert head_digest(manifest, f"{cut}-p0") == head_digest(manifest, f"{cut}-p1") != ""
    assert head_digest(manifest, cut) == ""
