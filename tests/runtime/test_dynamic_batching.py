"""Requests computed together: only what belongs together, in time, with the results that each has alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_site import write_decoder, write_encoder

from codec_runtime.serving.backends.interface import CodecNetwork
from codec_runtime.serving.backends.torch_backend import TorchBackend
from codec_runtime.serving.batching import DecodeWork, EncodeWork, OtherWork, Work, compute
from codec_runtime.serving.inference import InferenceInputError
from codec_runtime.serving.metrics import RuntimeMetrics
from codec_runtime.serving.queue import BatchLimits, DeadlineError, Job, RequestQueue
from codec_runtime.serving.registry import LoadedBundle, ModelRegistry, Models
from codec_runtime.serving.warm_up import PictureSizes
from codec_runtime.serving.worker import InferenceWorker

LIMITS = BatchLimits(pictures=4, pixels=400, wait_s=0.01)
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["v1", "v2", "tall"]),
        st.integers(1, 5),  # pictures
        st.sampled_from([100, 150]),  # pixels of one
        st.floats(0.0, 0.02),  # until the next arrival
    ),
    min_size=1, max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(ARRIVALS, st.floats(0.001, 0.03))
def test_batches_are_of_one_key_within_bounds_and_begun_in_time(
    arrivals: list[tuple[str, int, int, float]], service_s: float
) -> None:
    queue: RequestQueue[int] = RequestQueue(1000, LIMITS)
    now, free_at = 0.0, 0.0
    coming = []
    for number, (version, pictures, pixels, gap) in enumerate(arrivals):
        coming.append(Job(number, (version, pixels), pictures, pictures * pixels, "u", now))
        now += gap
    order: list[int] = []
    now, ask_again = 0.0, math.inf
    while coming or queue.depth:
        while coming and coming[0].arrived_s <= now:
            queue.push(coming.pop(0))
        if now >= free_at:
            oldest = min((j.arrived_s for j in queue._waiting), default=math.inf)
            batch, ask_again = queue.take(now)
            if batch:
                assert len({job.key for job in batch}) == 1
                assert batch[0].arrived_s == oldest  # nobody is overtaken by another key for ever
                together = len(batch) > 1
                assert not together or sum(job.pictures for job in batch) <= LIMITS.pictures
                assert not together or sum(job.pixels for job in batch) <= LIMITS.pixels
                assert now <= max(oldest + LIMITS.wait_s, free_at) + 1e-9
                order += [job.work for job in batch]
                queue.done(batch, service_s)
                free_at, ask_again = now + service_s, math.inf
            else:
                assert ask_again > now
        upcoming = [coming[0].arrived_s] if coming else []
        if queue.depth:
            upcoming.append(free_at if free_at > now else ask_again)
        now = min(upcoming, default=now)
    assert sorted(order) == list(range(len(arrivals)))
    for key in {(v, p) for v, _, p, _ in arrivals}:  # within a key, first come is first served
        assert [n for n in order if (arrivals[n][0], arrivals[n][2]) == key] == [
            n for n, a in enumerate(arrivals) if (a[0], a[2]) == key
        ]


def test_without_waiting_each_request_is_computed_alone() -> None:
    queue: RequestQueue[int] = RequestQueue(8, BatchLimits(4, 400, 0.0))
    for number in range(3):
        queue.push(Job(number, "same", 1, 10, "u", 0.0))
    assert [job.work for job in queue.take(0.0)[0]] == [0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root: Path = tmp_path_factory.mktemp("weights")
    encoder = write_encoder(root)
    write_decoder(root, encoder)
    registry = ModelRegistry(TorchBackend(device="cpu"))
    registry.publish(registry.prepare([root / "encoder/anchor/1", root / "decoder/attention/1"]))
    return registry.models


def _encode(models: Models, seed: int, prefix: int, pictures: int = 1) -> EncodeWork:
    images = np.random.default_rng(seed).integers(0, 256, (pictures, 3, 24, 40), dtype=np.uint8)
    snr, prefixes = np.full(pictures, 3.0 + seed, np.float32), np.full(pictures, prefix, np.int32)
    return EncodeWork(models.encoder(), images, snr, prefixes)


def _decode(models: Models, symbols: Any, prefix: int, height: int, width: int) -> DecodeWork:
    batch = symbols.shape[0]
    return DecodeWork(
        models.decoder("attention"), symbols, np.full(batch, 7.0, np.float32),
        np.full(batch, prefix, np.int32), height, width,
    )


def test_results_equal_those_computed_alone(models: Models) -> None:
    works: list[Work] = [_encode(models, 1, 2), _encode(models, 2, 9, pictures=2), _encode(models, 3, 5)]
    assert len({work.key for work in works}) == 1
    together = compute(works)
    alone = [compute([work])[0] for work in works]
    for got, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(got, expected)
    restored: list[Work] = [
        _decode(models, symbols, symbols.shape[1], 24 - index, 40)
        for index, symbols in enumerate(np.asarray(s) for s in alone)
    ]
    pictures = compute(restored)
    for got, work in zip(pictures, restored, strict=True):
        np.testing.assert_array_equal(got, compute([work])[0])
    assert [np.asarray(p).shape for p in pictures] == [(1, 3, 24, 40), (2, 3, 23, 40), (1, 3, 22, 40)]


def test_versions_sizes_and_models_are_never_together(models: Models) -> None:
    decoder = models.decoder("attention")
    same_weights = LoadedBundle(
        decoder.manifest, decoder.module, decoder.directory, decoder.network, decoder.backend
    )
    symbols = np.zeros((1, 4, 6, 10), np.float32)
    snr, prefix = np.zeros(1, np.float32), np.ones(1, np.int32)
    keys = [
        DecodeWork(decoder, symbols, snr, prefix, 24, 40).key,
        DecodeWork(same_weights, symbols, snr, prefix, 24, 40).key,
        DecodeWork(decoder, symbols[:, :, :4], snr, prefix, 16, 40).key,
        _encode(models, 1, 2).key,
    ]
    assert len(set(keys)) == 4


def test_one_picture_that_fails_does_not_fail_its_neighbours(models: Models) -> None:
    encoder = models.encoder()

    class Fragile:
        config = encoder.network.config

        def __call__(self, values: Any, snr_db: Any, prefix: Any, /) -> Any:
            latent = encoder.network(values, snr_db, prefix)
            return latent.where((snr_db < 50.0)[:, None, None, None], math.nan)

    network: CodecNetwork = Fragile()
    bundle = LoadedBundle(encoder.manifest, encoder.module, encoder.directory, network, "torch")
    works = [_encode(models, seed, 4) for seed in (1, 2, 3)]
    works = [EncodeWork(bundle, w.images, w.snr_db, w.prefix) for w in works]
    works[1].snr_db[:] = 55.0
    first, second, third = compute(works)
    assert isinstance(second, FloatingPointError)
    np.testing.assert_array_equal(first, compute([works[0]])[0])
    np.testing.assert_array_equal(third, compute([works[2]])[0])


def test_whatever_an_engine_raises_becomes_an_answer_that_names_it() -> None:
    def run() -> Any:
        raise OSError("encoder error -2")

    (result,) = compute([OtherWork(run)])
    assert isinstance(result, RuntimeError)
    assert str(result) == "OSError: encoder error -2"


@pytest.mark.parametrize("wrong", ["nan", "prefix"])
def test_what_a_request_is_to_blame_for_is_found_before_it_joins(models: Models, wrong: str) -> None:
    symbols = np.zeros((1, 4, 6, 10), np.float32)
    if wrong == "nan":
        symbols[0, 0, 0, 0] = math.nan
    with pytest.raises(InferenceInputError):
        _decode(models, symbols, 9 if wrong == "prefix" else 4, 24, 40).check()


def _worker(wait_s: float = 0.005, limit: int = 8) -> InferenceWorker:
    limits = BatchLimits(8, 1 << 20, wait_s)
    return InferenceWorker(limit, limits, 0, RuntimeMetrics("i", "s"), PictureSizes())


def test_requests_that_come_together_are_computed_together(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(works: Sequence[Work]) -> Any:
        sizes.append(len(works))
        return compute(works)

    monkeypatch.setattr("codec_runtime.serving.worker.compute", counted)

    async def serve() -> list[Any]:
        worker = _worker()
        try:
            works = [_encode(models, seed, 4) for seed in range(4)]
            return await asyncio.gather(*(worker.submit(work, "u", 5.0) for work in works))
        finally:
            worker.close()

    assert len(asyncio.run(serve())) == 4
    assert sizes == [4]


def test_a_request_whose_deadline_passes_in_the_queue_is_not_computed() -> None:
    computed: list[str] = []

    async def serve() -> tuple[list[Any], bytes]:
        worker = _worker()
        blocked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def block() -> Any:
            asyncio.run_coroutine_threadsafe(blocked.wait(), loop).result(10)
            return np.zeros(1)

        def late() -> Any:
            computed.append("late")

        try:
            first = asyncio.ensure_future(worker.submit(OtherWork(block), "a", 5.0))
            expired = asyncio.ensure_future(worker.submit(OtherWork(late), "b", 0.01))
            gone = asyncio.ensure_future(worker.submit(OtherWork(late), "c", 5.0))
            await asyncio.sleep(0)
            gone.cancel()
            results = await asyncio.gather(expired, gone, return_exceptions=True)
            assert worker.depth == 1  # the answer came while the first one still runs
            blocked.set()
            await first
            return results, worker._metrics.render()
        finally:
            worker.close()

    (expired, gone), metrics = asyncio.run(serve())
    assert isinstance(expired, DeadlineError)
    assert isinstance(gone, asyncio.CancelledError)
    assert computed == []
    assert b'requests_dropped_total{cause="expired"} 1.0' in metrics
    assert b'requests_dropped_total{cause="gone"} 1.0' in metrics
