"""UE clients: every user sends a picture now and then, and reports how good it arrived.

Per user one task: take a picture, encode under the directive in force, channel, decode, measure, report.
All users share a bound on transmissions in flight; a user that falls behind skips pictures rather than
queueing them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import torch
from msgspec.structs import replace

from codec_runtime.contract.telemetry import FailureReport, QualityReport
from xapp.lab.cell import Cell
from xapp.lab.channel import effective_snr_db
from xapp.lab.classifying import classifier_of
from xapp.lab.comparison import Comparisons, Version
from xapp.lab.device_updates import DeviceUpdates, Fleet
from xapp.lab.inference_client import CodecClient, InferenceError, with_retries
from xapp.lab.metrics import LabMetrics
from xapp.lab.peers import Peer
from xapp.lab.pictures import Camera, PictureLibrary
from xapp.lab.records import SAMPLES_FOLDER, TRANSMISSIONS_FILE, JsonLines, Transmission
from xapp.lab.samples import SampleChoice, save_sample
from xapp.lab.settings import LabSettings
from xapp.lab.telemetry_reports import ReportSender, capability_report
from xapp.lab.transmission import Draw, PictureLost, Restored, draw_seed, send_picture

logger = logging.getLogger(__name__)

CAPABILITY_PERIOD_S = 5.0
_PAUSE_AFTER_ERROR_S = 1.0


class _Abandoned(Exception):
    """The lab ends and the runtime is away: a transmission that neither arrived nor used up its retries."""


class Traffic:
    """The traffic of all users.

    Attributes:
        last: last successful transmission by user.
        finished, failed, retried: counts of transmissions, of those given up, and of attempts repeated.
        fleet: what the users' devices hold.

    Args:
        started: ``time.monotonic()`` of the lab's start.
    """

    def __init__(
        self,
        settings: LabSettings,
        cell: Cell,
        library: PictureLibrary,
        metrics: LabMetrics,
        *,
        started: float,
        http: httpx.AsyncClient,
    ) -> None:
        self._settings = settings
        self._cell = cell
        self._library = library
        self._metrics = metrics
        self._started = started
        self.client = CodecClient(http, settings.request_timeout_s)
        self.reports = ReportSender(http)
        self.fleet = Fleet(
            cell.classes, settings.update_delay_s, settings.seed,
            no_updates=settings.no_update_class, no_decoders=settings.no_decoder_class,
        )
        self._comparisons = Comparisons()
        self._updates = DeviceUpdates(
            self.fleet, http, self._announce, time.monotonic, self._comparisons
        )
        self._reports_lost_seen = 0
        self.runtime = Peer("runtime", metrics)
        self._cameras = [
            Camera(library, i, settings.seed, float(cell.mobility.speeds[i])) for i in range(len(cell.users))
        ]
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._executor = ThreadPoolExecutor(
            settings.max_in_flight, "pictures", initializer=lambda: torch.set_num_threads(1)
        )
        self._samples = SampleChoice(settings.samples, settings.drift_group, settings.drift_at_s)
        self._log = JsonLines(Path(settings.out) / TRANSMISSIONS_FILE)
        self._stopping = asyncio.Event()
        self.last: dict[str, Transmission] = {}
        self.finished = self.failed = self.retried = self._numbered = 0

    async def run(self) -> None:
        """Send until :meth:`stop`; returns when the transmissions in flight are finished."""
        sender = asyncio.create_task(self.reports.run())
        announcer = asyncio.create_task(self._announce_all())
        updates = asyncio.create_task(self._updates.run())
        try:
            await asyncio.gather(*(self._user(i) for i in range(len(self._cell.users))))
        finally:
            for task in (announcer, updates, sender):
                task.cancel()
            await asyncio.gather(announcer, updates, sender, return_exceptions=True)
            await self.reports.flush()
            self._executor.shutdown(wait=True)
            self._log.close()

    def stop(self) -> None:
        """Begin no further transmission."""
        self._stopping.set()

    async def _announce_all(self) -> None:
        while True:
            self._announce(range(len(self._cell.users)))
            await asyncio.sleep(CAPABILITY_PERIOD_S)

    def _announce(self, indices: Iterable[int]) -> None:
        now, cell = time.time_ns(), self._cell
        for index in indices:
            held = self.fleet.holds(index)
            classifier = classifier_of(index, cell.classes[index], self._settings)
            self.reports.put(
                capability_report(cell.users[index], cell.classes[index], now, held, classifier)
            )

    async def _user(self, index: int) -> None:
        settings = self._settings
        drone = self._cell.classes[index] == "drone"
        mean = settings.drone_interval_s if drone else settings.other_interval_s
        random = np.random.default_rng([settings.seed, 701, index])
        due = time.monotonic() + float(random.uniform(0.0, mean))
        sent = 0
        while not await self._stopped_within(due - time.monotonic()):
            async with self._slots:
                if self._stopping.is_set():
                    return
                try:
                    await self._send(index, draw_seed(settings.seed, index, sent))
                except Exception:
                    # A defect must not end one user's traffic silently: count, log, go on.
                    self._metrics.errors.labels("traffic").inc()
                    logger.exception("transmission broke", extra={"user": self._cell.users[index]})
                    await self._stopped_within(_PAUSE_AFTER_ERROR_S)
            sent += 1
            due += mean * float(random.uniform(1.0 - settings.jitter, 1.0 + settings.jitter))
            due = max(due, time.monotonic())

    async def _stopped_within(self, seconds: float) -> bool:
        if seconds > 0.0 and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _send(self, index: int, seed: int) -> None:
        settings, cell = self._settings, self._cell
        user, device_class = cell.users[index], cell.classes[index]
        elapsed = time.monotonic() - self._started
        condition = cell.scenario.condition(elapsed, device_class)
        draw = Draw(
            window=self._cameras[index].window(elapsed),
            drift=condition.drift,
            seed=seed,
            snr_db=cell.snr_db(index),
            diversity=settings.diversity if settings.fading == "rayleigh" else 0,
        )
        self._numbered += 1
        record = _record(self._numbered, user, device_class, elapsed, draw)
        retries = 0

        def on_retry(error: InferenceError) -> None:
            nonlocal retries
            if self._stopping.is_set():
                raise _Abandoned from error
            retries += 1
            self.retried += 1
            self._metrics.retries.inc()
            self.runtime.note(False, str(error))

        def parent_of(decoder: Version) -> int | None:
            return self._comparisons.parent(index, decoder, self.fleet.holds(index))

        try:
            restored = await with_retries(
                lambda: send_picture(
                    self.client, self._library, user, draw, self._executor, self.fleet.holds(index), parent_of
                ),
                budget_s=settings.retry_budget_s,
                on_retry=on_retry,
            )
        except _Abandoned:
            self._metrics.transmissions.labels(device_class, "abandoned").inc()
            logger.info("transmission abandoned at the end: runtime is away", extra={"user": user})
            return
        except PictureLost as lost:
            self.runtime.note(self.client.reachable)
            self._report_failure(user, lost)
            sent = lost.encoded
            self._finish(
                replace(
                    record, directive_snr_db=sent.snr_db, prefix=sent.prefix, codec=sent.codec, lost=True,
                    retries=retries, error=str(lost)[:300],
                )
            )
            return
        except InferenceError as error:
            self.runtime.note(self.client.reachable, str(error))
            self._report_failure(user, error)
            self._finish(replace(record, retries=retries, failed=True, error=str(error)[:300]))
            return
        # Not simply True: another request may have found the runtime gone since this one was answered.
        self.runtime.note(self.client.reachable)
        await self._succeeded(record, restored, retries)

    def _report_failure(self, user: str, error: InferenceError) -> None:
        family, version = error.decoder
        self.reports.put(
            FailureReport(
                user=user, time_ns=time.time_ns(), decoder=family, decoder_version=version,
                reason=str(error)[:300],
            )
        )

    async def _succeeded(self, record: Transmission, outcome: Restored, retries: int) -> None:
        encoded = outcome.encoded
        done = replace(
            record,
            directive_snr_db=encoded.snr_db,
            prefix=encoded.prefix,
            decoder=encoded.decoder,
            decoder_version=encoded.decoder_version,
            encoder_version=encoded.encoder_version,
            psnr_db=outcome.psnr_db,
            ms_ssim=outcome.ms_ssim,
            latency_ms=outcome.latency_ms,
            retries=retries,
            codec=encoded.codec,
        )
        done = replace(done, sample=self._samples.choose(done))
        self.reports.put(
            QualityReport(
                user=done.user,
                time_ns=time.time_ns(),
                prefix=done.prefix,
                decoder=done.decoder,
                decoder_version=done.decoder_version,
                snr_db=done.effective_snr_db,
                psnr_db=outcome.psnr_db,
                ms_ssim=outcome.ms_ssim,
                latency_ms=done.latency_ms,
                encoder_version=done.encoder_version,
                codec=encoded.codec,
                parent_version=outcome.parent_version,
                parent_psnr_db=outcome.parent_psnr_db,
            )
        )
        if done.sample:
            folder = Path(self._settings.out) / SAMPLES_FOLDER
            await asyncio.get_running_loop().run_in_executor(
                self._executor, save_sample, folder, done.id, outcome.original, outcome.restored
            )
        self.last[done.user] = done
        self._metrics.latency.observe(done.latency_ms / 1e3)
        self._metrics.psnr.labels(done.user).set(outcome.psnr_db)
        self._finish(done)

    def _finish(self, record: Transmission) -> None:
        self.finished += 1
        self.failed += int(record.failed)
        outcome = "failed" if record.failed else "lost" if record.lost else "restored"
        self._metrics.transmissions.labels(record.device_class, outcome).inc()
        self._metrics.reports_lost.inc(self.reports.lost - self._reports_lost_seen)
        self._reports_lost_seen = self.reports.lost
        self._log.write(record)


def _record(number: int, user: str, device_class: str, elapsed_s: float, draw: Draw) -> Transmission:
    gain = draw.gain
    return Transmission(
        id=number,
        time_ns=time.time_ns(),
        elapsed_s=elapsed_s,
        user=user,
        device_class=device_class,
        group=device_class,
        picture=draw.window.picture,
        top=draw.window.top,
        left=draw.window.left,
        size=draw.window.size,
        drift=draw.drift or "",
        drifted=draw.drift is not None,
        noise_seed=draw.seed,
        snr_db=draw.snr_db,
        fading_gain=gain,
        effective_snr_db=effective_snr_db(draw.snr_db, gain),
    )
