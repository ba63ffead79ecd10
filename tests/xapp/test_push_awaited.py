"""A site that can is asked to activate while the last chunks are on their way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from chunked_site import BUNDLE, WEIGHTS, ChunkedSite, no_sleep, repository_with

from codec_runtime.contract.updates import ActivationReport
from xapp.delivery.push import PushOptions, push
from xapp.delivery.repository import RepositoryFiles
from xapp.runtime_client import RuntimeRefused

OPTIONS = PushOptions(attempts=3, sleep=no_sleep)
LARGE = WEIGHTS * 100
ACTIVATED = ActivationReport(instance="i", outcome="activated")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RepositoryFiles:
    return repository_with(tmp_path_factory.mktemp("tuf"), 2, weights=LARGE).files()


def waiting_site() -> ChunkedSite:
    site = ChunkedSite()
    site.takes_files = site.awaits_files = True
    return site


def weights_of(files: RepositoryFiles) -> str:
    return files.targets[f"{BUNDLE}/weights.safetensors"][0]


def test_the_site_is_told_what_is_coming(large: RepositoryFiles) -> None:
    site = waiting_site()
    report = asyncio.run(push(site, large, [BUNDLE], OPTIONS))
    assert site.announced == [[weights_of(large)]]
    assert report.activation == ACTIVATED
    assert report.targets_pushed == len(large.targets)


def test_who_waited_in_vain_is_asked_again_when_all_is_there(large: RepositoryFiles) -> None:
    site = waiting_site()
    site.answers = [ActivationReport(instance="i", outcome="refused", error="MissingFileError"), ACTIVATED]
    report = asyncio.run(push(site, large, [BUNDLE], OPTIONS))
    assert site.announced == [[weights_of(large)], []]
    assert report.activation == ACTIVATED


def test_another_refusal_is_the_answer(large: RepositoryFiles) -> None:
    site = waiting_site()
    site.answers = [ActivationReport(instance="i", outcome="refused", error="NotAssignedError"), ACTIVATED]
    report = asyncio.run(push(site, large, [BUNDLE], OPTIONS))
    assert (report.activation.error, len(site.announced)) == ("NotAssignedError", 1)


@pytest.mark.parametrize("options", [
    replace(OPTIONS, chunk_bytes=len(LARGE) // 4), replace(OPTIONS, rate=len(LARGE) / 20)
])
def test_no_site_is_made_to_wait_for_a_long_transfer(large: RepositoryFiles, options: PushOptions) -> None:
    site = waiting_site()
    asyncio.run(push(site, large, [BUNDLE], options))
    assert site.announced == [[]]


def test_what_is_refused_meanwhile_ends_the_push(large: RepositoryFiles) -> None:
    def fault(kind: str) -> None:
        if kind == "chunk":
            raise RuntimeRefused("too large", 413)

    site = waiting_site()
    site.fault = fault
    with pytest.raises(RuntimeRefused, match="too large"):
        asyncio.run(push(site, large, [BUNDLE], OPTIONS))


def test_small_files_alone_are_not_waited_for(tmp_path: Path) -> None:
    site = waiting_site()
    asyncio.run(push(site, repository_with(tmp_path, 2).files(), [BUNDLE], OPTIONS))
    assert site.announced == [[]]
