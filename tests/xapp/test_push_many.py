"""Many sites at a time: one rate for all, progress in metrics and state; how pushes are set."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
from chunked_site import BUNDLE, ChunkedSite, no_sleep, repository_with

from xapp.delivery.pacing import TokenBucket
from xapp.delivery.progress import Deliveries
from xapp.delivery.push import Progress, PushOptions, PushProgress, PushReport, push
from xapp.delivery.repository import RepositoryFiles
from xapp.metrics import XAppMetrics
from xapp.settings import XAppSettings

OPTIONS = PushOptions(chunk_bytes=100, attempts=2, sleep=no_sleep)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> RepositoryFiles:
    return repository_with(tmp_path_factory.mktemp("tuf"), 2).files()


async def push_all(
    sites: dict[str, ChunkedSite],
    files: RepositoryFiles,
    options: PushOptions,
    progress: Progress | None = None,
) -> list[PushReport]:
    pushes = (
        push(site, files, [BUNDLE], options, name=name, progress=progress) for name, site in sites.items()
    )
    return await asyncio.gather(*pushes)


def test_all_sites_share_one_bucket(files: RepositoryFiles) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    shared = TokenBucket(1000.0, 0.0, clock=lambda: 0.0, sleep=sleep)
    sites = {f"site-{n}": ChunkedSite() for n in range(3)}
    reports = asyncio.run(push_all(sites, files, replace(OPTIONS, shared=shared)))
    pushed = [report.bytes_pushed for report in reports]
    last = max(waits)  # the clock stands still, so the last waits for all bytes before it
    assert last == pytest.approx(sum(pushed) / 1000.0, rel=0.2)
    waited = sum(report.waited_s for report in reports)
    assert waited == pytest.approx(sum(waits))


def test_progress_shows_in_metrics_and_state(files: RepositoryFiles) -> None:
    metrics = XAppMetrics()
    deliveries = Deliveries(metrics)
    sites = {f"site-{n}": ChunkedSite() for n in range(2)}
    asyncio.run(push_all(sites, files, OPTIONS, deliveries.on_progress))
    views = deliveries.view()
    assert sorted(view["site"] for view in views) == ["site-0", "site-1"]
    assert all(view["done"] == view["total"] > 1000 for view in views)
    sample = metrics.registry.get_sample_value
    assert sample("semcom_xapp_push_missing_bytes", {"site": "site-1"}) == 0


def test_the_list_of_deliveries_is_bounded() -> None:
    deliveries = Deliveries(XAppMetrics(), size=3)
    for n in range(9):
        deliveries.on_progress(PushProgress(f"site-{n}", BUNDLE, n, 10))
    assert [view["site"] for view in deliveries.view()] == ["site-6", "site-7", "site-8"]
    assert deliveries.view()[-1]["missing"] == 2


def test_options_come_from_the_settings() -> None:
    settings = XAppSettings(push_rate_bytes_per_s=0.0, push_total_rate_bytes_per_s=1e6, push_parallel_sites=3)
    options = PushOptions.of(settings)
    assert (options.rate, options.parallel_sites) == (math.inf, 3)
    assert options.shared is not None
    assert PushOptions.of(XAppSettings()).shared is None


@pytest.mark.parametrize(("name", "value"), [
    ("push_chunk_bytes", 100), ("push_rate_bytes_per_s", -1.0), ("push_total_rate_bytes_per_s", 1.0),
    ("push_parallel_sites", 0), ("push_busy_limit_s", 1e9),
])
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        XAppSettings(**{name: value})  # type: ignore[arg-type]
