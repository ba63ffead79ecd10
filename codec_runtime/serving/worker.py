"""The inference thread and the queue before it: the edge of :mod:`.queue` and :mod:`.batching`."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from codec_runtime.serving.batching import Array, DecodeWork, EncodeWork, Work, compute
from codec_runtime.serving.metrics import RuntimeMetrics
from codec_runtime.serving.priority import lower_priority
from codec_runtime.serving.queue import BatchLimits, DeadlineError, Job, RequestQueue
from codec_runtime.serving.warm_up import PictureSizes

_Results = tuple[list[Array | Exception], float]


class InferenceWorker:
    """Computes works one batch after another in a thread of its own; used from one event loop.

    Args:
        limit: requests waiting or running.
        batch: bounds of a batch.
        nice: niceness added to the thread, so that control traffic goes first.
        metrics: counted into.
        sizes: told those of the pictures computed.
    """

    def __init__(
        self, limit: int, batch: BatchLimits, nice: int, metrics: RuntimeMetrics, sizes: PictureSizes
    ) -> None:
        self._queue: RequestQueue[tuple[Work, asyncio.Future[Array]]] = RequestQueue(limit, batch)
        self._metrics = metrics
        self._sizes = sizes
        self._thread = ThreadPoolExecutor(1, "inference", initializer=lower_priority, initargs=(nice,))
        self._running = False
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """Requests waiting or running."""
        return self._queue.depth

    def check_room(self) -> None:
        """Raises: OverloadedError: :meth:`submit` would refuse whoever asks now."""
        self._queue.check_room()

    def retry_after_s(self) -> int:
        """What a refused request is told."""
        return self._queue.retry_after_s()

    async def submit(self, work: Work, user: str, timeout_s: float) -> Array:
        """The result of ``work``. Cancelled, it leaves the queue; a batch that has begun goes on.

        Args:
            user: whose place in the queue it takes.
            timeout_s: the longest that it may wait; once begun it is finished.

        Raises:
            OverloadedError, UnfairShareError: it was not let in.
            DeadlineError: its turn did not come in time.
            FloatingPointError, RuntimeError: what the network raised.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Array] = loop.create_future()
        now = loop.time()
        job = Job((work, answer), work.key, work.pictures, work.pixels, user, now, now + timeout_s)
        self._queue.push(job)
        self._dispatch()
        try:
            return await answer
        except asyncio.CancelledError:
            job.gone = True
            self._dispatch()
            raise

    def _dispatch(self) -> None:
        """Answer those who waited too long; begin the next batch if the thread is free."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for job in self._queue.drop(now):
            self._metrics.requests_dropped.labels("gone" if job.gone else "expired").inc()
            answer = job.work[1]
            if not answer.done():
                answer.set_exception(DeadlineError(
                    f"deadline passed after {job.deadline_s - job.arrived_s:.3f} s in the queue; not computed"
                ))
        ask_again = self._queue.next_deadline_s()
        if not self._running:
            jobs, grown = self._queue.take(now)
            if jobs:
                self._begin(jobs, now)
            ask_again = min(self._queue.next_deadline_s(), grown)
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(ask_again, self._dispatch) if ask_again < float("inf") else None
        self._metrics.queue_depth.set(self._queue.depth)

    def _begin(self, jobs: list[Job[tuple[Work, asyncio.Future[Array]]]], now: float) -> None:
        self._running = True
        self._metrics.batch_pictures.observe(sum(job.pictures for job in jobs))
        for job in jobs:
            self._metrics.queue_seconds.observe(now - job.arrived_s)
            if isinstance(job.work[0], EncodeWork | DecodeWork):
                self._sizes.note(job.work[0].size)
        loop = asyncio.get_running_loop()
        computed = loop.run_in_executor(self._thread, _timed, [job.work[0] for job in jobs])
        computed.add_done_callback(partial(self._finish, jobs))

    def _finish(
        self, jobs: list[Job[tuple[Work, asyncio.Future[Array]]]], computed: asyncio.Future[_Results]
    ) -> None:
        if computed.cancelled():  # the process ends
            return
        results, seconds = computed.result()
        self._running = False
        self._queue.done(jobs, seconds)
        self._dispatch()  # before the answers are written, so that the thread need not wait for that
        for job, result in zip(jobs, results, strict=True):
            answer = job.work[1]
            if answer.done():  # the client has gone
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def close(self) -> None:
        """Begin nothing more; what runs is finished and thrown away."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _timed(works: list[Work]) -> _Results:
    started = time.perf_counter()
    return compute(works), time.perf_counter() - started
