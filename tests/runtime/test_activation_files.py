"""Files that come with an activation are put into the inbox as any others, and refused as any others."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
import pytest
from runtime_site import Site, serve, write_decoder, write_encoder

from codec_runtime.contract import paths
from codec_runtime.contract.updates import ActivationReport, ActivationRequest, InboxListing
from xapp.delivery.repository import TufRepository

HASHED = f"decoder/conv/2/{'0' * 64}.manifest.msgpack"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    weights = root / "weights"
    write_decoder(weights, write_encoder(weights))
    repository = TufRepository(root / "tuf")
    with serve(
        weights, root / "state", trusted_root=str(repository.trusted_root), inbox_max_file_bytes=1 << 16
    ) as site:
        yield site


def activate(site: Site, **files: dict[str, bytes]) -> httpx.Response:
    request = ActivationRequest(bundles=[], **files)
    return httpx.post(site.url + paths.ACTIVATIONS, content=msgspec.msgpack.encode(request), timeout=30)


def listing(site: Site) -> InboxListing:
    answer = httpx.get(site.url + paths.INBOX, timeout=30)
    return msgspec.msgpack.decode(answer.content, type=InboxListing)


def test_a_listing_says_that_files_may_come_along(site: Site) -> None:
    assert listing(site).takes_files


def test_they_are_in_the_inbox_when_the_activation_is_refused(site: Site) -> None:
    metadata = {"7.targets.json": b"{}", "timestamp.json": b"?"}
    answer = activate(site, targets={HASHED: b"x"}, metadata=metadata)
    report = msgspec.msgpack.decode(answer.content, type=ActivationReport)
    assert (report.outcome, report.error) == ("refused", "InvalidMetadataError")
    found = listing(site)
    assert {"7.targets.json", "timestamp.json"} <= found.metadata.keys()
    assert "decoder/conv/2/manifest.msgpack" in found.targets


@pytest.mark.parametrize(("files", "status", "error"), [
    ({"metadata": {"../x.json": b"{}"}}, 400, "UnsafePathError"),
    ({"targets": {"decoder/.hidden": b"x"}}, 400, "UnsafePathError"),
    ({"targets": {HASHED: bytes((1 << 16) + 1)}}, 413, "FileTooLargeError"),
])
def test_a_file_that_the_inbox_refuses_ends_it_and_is_counted(
    site: Site, files: dict[str, dict[str, bytes]], status: int, error: str
) -> None:
    labels = {"stage": "inbox", "error": error}
    name = "semcom_runtime_update_refusals_total"
    metrics = site.server._runtime.metrics.registry
    before = metrics.get_sample_value(name, labels) or 0.0
    answer = activate(site, **files)
    assert (answer.status_code, answer.json()["name"]) == (status, error)
    assert metrics.get_sample_value(name, labels) == before + 1


def test_files_of_another_type_are_no_activation(site: Site) -> None:
    body = msgspec.msgpack.encode({"bundles": [], "metadata": {"a.json": 1}})
    assert httpx.post(site.url + paths.ACTIVATIONS, content=body, timeout=30).status_code == 400
