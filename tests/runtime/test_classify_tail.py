"""Classifiers pushed as signed bundles, served cut by cut; what is refused, and by which name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from classifier_releases import (
    activate,
    classifying_site,
    normalised,
    parts,
    photograph,
    published,
    push,
    uncut,
    write_chain,
    write_releases,
)
from runtime_site import Repository, Site, serve

from codec_runtime.bundle.store import BundleContents, read_manifest, write_contents
from codec_runtime.contract import paths
from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch, UserDirectives
from codec_runtime.contract.split import SplitGraph
from codec_runtime.serving.classification import retired_classifiers
from codec_runtime.split.parts import head_digest

Array = np.ndarray[Any, Any]
INFER = "/v2/models/classify_tail/infer"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_releases(tmp_path_factory.mktemp("releases"), [2, 3])


@pytest.fixture(scope="module")
def classifying(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with versions 1 and 2 of the chain."""
    with classifying_site(tmp_path_factory.mktemp("classifying")) as (site, repository):
        assert [report.outcome for report in push(site, repository, releases, 1, 2)] == ["activated"] * 2
        yield site


def stream(releases: Path, version: int, cut: str, picture: Array) -> bytes:
    """What a device sends."""
    part = parts(releases, version)[cut]
    with torch.no_grad():
        features, _ = part.head(torch.from_numpy(normalised(picture)))
    return part.coder.encode([tensor.numpy() for tensor in features])


def ask(site: Site, data: bytes, **parameters: Any) -> httpx.Response:
    body = {
        "inputs": [{"name": "features", "datatype": "UINT8", "shape": [len(data)], "data": list(data)}],
        "parameters": {"network": "chain", **parameters},
    }
    return httpx.post(site.url + INFER, json=body)


def _tell(
    site: Site, *splits: SplitDirective, issuer: str, sequence: int, full: bool = False
) -> DirectiveAck:
    batch = DirectiveBatch(
        issuer=issuer, sequence=sequence, issued_ns=1, directives=[], full=full, splits=list(splits)
    )
    reply = httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch))
    return msgspec.msgpack.decode(reply.content, type=DirectiveAck)


def _told(site: Site, user: str) -> SplitDirective | None:
    reply = httpx.get(site.url + paths.DIRECTIVES, params={"user": user})
    return msgspec.msgpack.decode(reply.content, type=UserDirectives).split


def test_every_published_cut_gives_the_answer_of_the_uncut_network(
    classifying: Site, releases: Path
) -> None:
    cuts = [cut for cut in published(classifying) if cut.feature_bytes]
    assert len(cuts) == 5 + 3
    client = triton.InferenceServerClient(classifying.address)
    for cut in cuts:
        picture = photograph(cut.version)
        data = stream(releases, cut.version, cut.cut, picture)
        assert len(data) == cut.feature_bytes
        features = triton.InferInput("features", [len(data)], "UINT8")
        features.set_data_from_numpy(np.frombuffer(data, np.uint8))
        answer = client.infer("classify_tail", [features], parameters={
            "network": "chain", "version": cut.version, "cut": cut.cut, "top": 2,
        })
        wanted = uncut(releases, cut.version, picture)
        logits = answer.as_numpy("logits")
        spread = wanted.max() - wanted.min()
        assert np.abs(logits - wanted).max() < (1e-6 if len(cut.device) == 1 else 0.05) * spread
        assert answer.as_numpy("classes").tolist() == np.argsort(-logits)[:2].tolist()
        assert answer.get_response()["parameters"]["cut"] == cut.cut
    assert client.get_model_metadata("classify_tail")["versions"] == ["1", "2"]
    assert client.is_model_ready("classify_tail")
    metrics = httpx.get(classifying.url + "/metrics").text
    assert f'classify_answers_total{{cut="{cuts[0].cut}",network="chain"}}' in metrics
    assert f'classify_feature_bytes_total{{cut="{cuts[0].cut}",network="chain"}}' in metrics


def test_what_does_not_fit_is_refused_by_name_and_counted(classifying: Site, releases: Path) -> None:
    one, two = (list(parts(releases, version)) for version in (1, 2))
    picture, cut = photograph(1), one[1]
    data = stream(releases, 1, cut, picture)
    altered = bytes([*data[:-1], data[-1] ^ 1])
    cases = [
        (ask(classifying, data, version=1, cut=one[2]), 409, "WrongFeaturesError", "of cut"),
        (ask(classifying, data, version=2, cut=two[1]), 409, "WrongFeaturesError", "made with weights"),
        (ask(classifying, altered, version=1, cut=cut), 400, None, "ChecksumError"),
        (ask(classifying, data[:20], version=1, cut=cut), 400, None, "TruncatedError"),
        (ask(classifying, data + b"x", version=1, cut=cut), 400, None, "FieldError"),
        (ask(classifying, data, version=9, cut=cut), 404, "UnknownModelError", "version 9"),
        (ask(classifying, data, version=1, cut="0" * 16), 404, "UnknownCutError", "not published"),
        (ask(classifying, data, version=1, cut=one[5]), 404, "UnknownCutError", "leaves nothing"),
        (ask(classifying, data, version=1), 404, "UnknownCutError", "not published"),
        (ask(classifying, data, version=1, cut=cut, top=99), 400, None, "top"),
    ]
    for reply, status, name, text in cases:
        assert reply.status_code == status, reply.text
        assert reply.json().get("name") == name
        assert text in reply.json()["error"]
    metrics = httpx.get(classifying.url + "/metrics").text
    assert 'classify_refusals_total{reason="WrongFeaturesError"} 2.0' in metrics
    assert 'classify_refusals_total{reason="ChecksumError"} 1.0' in metrics
    assert 'classify_refusals_total{reason="UnknownCutError"} 3.0' in metrics


def test_heads_are_given_with_the_signed_digest(classifying: Site, releases: Path) -> None:
    manifest = read_manifest(releases / "classifier" / "chain" / "2")
    base = f"{classifying.url}{paths.CLASSIFIERS}/chain/2"
    for cut in (cut for cut in published(classifying) if cut.version == 2):
        reply = httpx.get(f"{base}/heads/{cut.cut}")
        if not cut.head_bytes:
            assert (reply.status_code, head_digest(manifest, cut.cut)) == (404, "")
            continue
        assert len(reply.content) == cut.head_bytes
        assert hashlib.sha256(reply.content).hexdigest() == head_digest(manifest, cut.cut)
    stated = (releases / "classifier" / "chain" / "2" / "manifest.msgpack").read_bytes()
    assert httpx.get(f"{base}/manifest").content == stated
    assert httpx.get(f"{classifying.url}{paths.CLASSIFIERS}/chain/9/manifest").status_code == 404
    graph = httpx.get(f"{classifying.url}{paths.GRAPHS}/{published(classifying)[0].graph}")
    assert len(msgspec.msgpack.decode(graph.content, type=SplitGraph).nodes) == 6
    assert httpx.get(f"{classifying.url}{paths.GRAPHS}/00").status_code == 404
    names = msgspec.msgpack.decode(httpx.get(classifying.url + paths.TRUST).content, type=dict[str, str])
    for name, digest in names.items():
        found = httpx.get(f"{classifying.url}{paths.TRUST}/{name}").content
        assert hashlib.sha256(found).hexdigest() == digest
    assert httpx.get(f"{classifying.url}{paths.TRUST}/..%2f..").status_code in (400, 404)


def test_users_are_told_where_to_cut_and_unpublished_cuts_are_rejected(classifying: Site) -> None:
    old, new = published(classifying)[1], published(classifying)[-1]

    def split(user: str, cut: str, version: int) -> SplitDirective:
        return SplitDirective(user=user, network="chain", version=version, cut=cut)

    def tell(*splits: SplitDirective, sequence: int, full: bool = False) -> DirectiveAck:
        return _tell(classifying, *splits, issuer="one", sequence=sequence, full=full)

    ack = tell(split("a", old.cut, 1), split("b", new.cut, 2), sequence=1)
    assert (ack.applied, ack.rejected) == (2, [])
    ack = tell(split("a", "f" * 16, 1), split("b", new.cut, 7), sequence=2)
    assert ack.applied == 0
    assert [(r.user, r.about) for r in ack.rejected] == [("a", "split"), ("b", "split")]
    assert "not published" in ack.rejected[0].reason
    assert "version 7 is not loaded" in ack.rejected[1].reason
    assert _told(classifying, "a") == split("a", old.cut, 1)
    tell(split("b", old.cut, 1), sequence=3, full=True)
    assert (_told(classifying, "a"), _told(classifying, "b")) == (None, split("b", old.cut, 1))
    assert tell(split("a", old.cut, 1), sequence=3).applied == 0
    assert httpx.get(classifying.url + paths.DIRECTIVES).status_code == 400


def test_answer_tells_the_users_directive(classifying: Site, releases: Path) -> None:
    cut = published(classifying)[1]
    mine = SplitDirective(user="c", network="chain", version=1, cut=cut.cut)
    _tell(classifying, mine, issuer="two", sequence=1)
    data = stream(releases, 1, cut.cut, photograph(3))
    told = ask(classifying, data, version=1, cut=cut.cut, user="c").json()["parameters"]
    assert (told["next_network"], told["next_version"], told["next_cut"]) == ("chain", 1, cut.cut)
    assert "next_cut" not in ask(classifying, data, version=1, cut=cut.cut, user="d").json()["parameters"]


def test_heads_of_another_network_are_refused_at_activation(
    site: Site, repository: Repository, tmp_path: Path
) -> None:
    """A manifest whose graph, or whose heads, are not those of its weights serves nothing."""
    write_chain(tmp_path / "a", 1)
    good = read_manifest(tmp_path / "a" / "classifier" / "chain" / "1")
    heads = [msgspec.structs.replace(head, sha256="0" * 64) for head in good.compatible]
    cases = {
        "GraphMismatchError": {"hyperparameters": {**good.hyperparameters, "graph": "0" * 64}},
        "HashMismatchError": {"compatible": heads},
        "BundleError": {"hyperparameters": {**good.hyperparameters, "cuts": "4"}},
    }
    for error, changes in cases.items():
        directory = tmp_path / error / "classifier" / "chain" / "1"
        _rewritten(tmp_path / "a" / "classifier" / "chain" / "1", directory, changes)
        (report,) = push(site, repository, tmp_path / error, 1)
        assert (report.outcome, report.error) == ("refused", error), report.detail
    assert published(site) == []
    assert httpx.get(site.url + "/v2/models/classify_tail/ready").status_code == 503


def _rewritten(source: Path, place: Path, changes: dict[str, Any]) -> None:
    manifest = msgspec.structs.replace(read_manifest(source), **changes)
    write_contents(place, BundleContents(manifest, (source / "weights.safetensors").read_bytes()))


def test_classifiers_serve_again_after_a_restart(
    weights: Path, tmp_path: Path, repository: Repository, releases: Path
) -> None:
    root = str(tmp_path / "root.json")
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        push(site, repository, releases, 2)
        before = published(site)
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        assert published(site) == before
        assert activate(site, "classifier/chain/2").outcome == "already-active"


@pytest.mark.slow
@pytest.mark.parametrize(("grace_s", "left"), [(300.0, {1, 2, 3}), (1e-9, {2, 3})])
def test_oldest_version_goes_only_after_its_grace_time(
    weights: Path, tmp_path: Path, repository: Repository, releases: Path, grace_s: float, left: set[int]
) -> None:
    write_chain(tmp_path / "more", 3, [2])
    settings: dict[str, Any] = {"max_versions": 2, "classifier_grace_s": grace_s}
    with serve(weights, tmp_path / "state", trusted_root=str(tmp_path / "root.json"), **settings) as site:
        push(site, repository, releases, 1, 2)
        push(site, repository, tmp_path / "more", 3)
        assert {cut.version for cut in published(site)} == left
        assert httpx.get(f"{site.url}{paths.CLASSIFIERS}/chain/1/manifest").is_success == (1 in left)


def test_versions_beyond_the_most_go_unless_new_in_force_or_in_their_grace_time() -> None:
    def loaded(version: int, loaded_s: float) -> Any:
        return SimpleNamespace(directory=Path(str(version)), loaded_s=loaded_s)

    versions = {("n", v): loaded(v, 10.0 * v) for v in (1, 2, 3)} | {("other", 1): loaded(9, 0.0)}
    models: Any = SimpleNamespace(classifiers=versions)
    arriving: Any = [SimpleNamespace(kind="classifier", name="n", version=4)]

    def retired(in_force: set[tuple[str, int]], most: int, before_s: float) -> set[str]:
        return {str(place) for place in retired_classifiers(models, arriving, in_force, most, before_s)}

    assert retired(set(), 2, 100.0) == {"1", "2"}  # 3 is followed only by what is arriving
    assert retired(set(), 3, 100.0) == {"1"}
    assert retired(set(), 4, 100.0) == set()
    assert retired({("n", 1)}, 2, 100.0) == {"2"}
    assert retired(set(), 2, 25.0) == {"1"}  # 2 was followed at 30
    assert retired(set(), 2, 5.0) == set()
