"""Users of the lab who classify what their cameras see, together with the site, at an emulated device's pace.

Each runs :class:`codec_runtime.client.classifier.SplitClassifier` as a device would: heads verified by the
site's signed metadata, cuts moved where directives say. Emulated are the device (a head takes the time of its
compute class's roofline) and the link (rate by the cell's SINR). Every answer is compared with that of the
whole network, computed here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import torch
from numpy.typing import NDArray

from codec_runtime.bundle.errors import BundleError, RefusalError
from codec_runtime.client.classifier import INFER, Answer, Device, Paced, SplitClassifier
from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import SiteError
from codec_runtime.client.heads import HeadStore
from codec_runtime.client.plan import network_input
from codec_runtime.client.reports import ReportQueue
from codec_runtime.contract import paths
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.devices import DEVICES, class_profile
from codec_runtime.contract.split import SplitGraph
from codec_runtime.contract.telemetry import ClassifierCapability, DeviceClass
from codec_runtime.contract.updates import SiteStatus
from xapp.lab.cell import Cell
from xapp.lab.classification_records import CLASSIFICATIONS_FILE, Classification
from xapp.lab.emulated_link import EmulatedLink
from xapp.lab.pictures import Camera, PictureLibrary
from xapp.lab.records import JsonLines
from xapp.lab.settings import LabSettings
from xapp.lab.small_classifier import NAME, SIZE, network_picture
from xapp.split.scenario import RadioShare

logger = logging.getLogger(__name__)

COMPUTE_CLASS: Final[dict[DeviceClass, str]] = {
    "mobile": "sensor",
    "drone": "sensor-small",
    "car": "sensor-small",
    "fixed": "sensor-small",
}
"""Weak ones, since the lab's network is small."""
SHARE: Final = RadioShare(cell_share=0.4)
"""What of the cell classifying users get: the bands between a good and a bad channel then decide."""
_RETRY_S: Final = 1.0
_ANSWER_BYTES: Final = 400


def classifier_of(
    index: int, device_class: DeviceClass, settings: LabSettings
) -> ClassifierCapability | None:
    """What user ``index`` says of its classifier; None for one who sends pictures alone."""
    if index >= settings.classifiers:
        return None
    rate = 1.0 / settings.classify_interval_s
    return ClassifierCapability(network=NAME, compute_class=COMPUTE_CLASS[device_class], requests_per_s=rate)


class ClassifyingUsers:
    """The first ``classifiers`` users of the cell.

    Args:
        started: ``time.monotonic()`` of the lab's start.

    Attributes:
        answered, failed: pictures.
    """

    def __init__(self, settings: LabSettings, cell: Cell, library: PictureLibrary, started: float) -> None:
        self._settings, self._cell, self._library, self._started = settings, cell, library, started
        self._records = JsonLines(Path(settings.out) / CLASSIFICATIONS_FILE)
        self._http = httpx.AsyncClient(base_url=settings.runtime_url, trust_env=False)
        self._connection = SiteConnection(self._http)
        root = Path(settings.trusted_root) if settings.trusted_root else None
        self._heads = HeadStore(self._connection, Path(settings.out) / "devices", root)
        self._graph: SplitGraph | None = None
        self._whole: torch.nn.Module | None = None
        self._cuts: dict[str, PublishedCut] = {}
        self._picture_bytes = 0
        self._edge_ms = 0.0
        self.answered = self.failed = 0

    async def run(self) -> None:
        """Classify until cancelled; begins when the site serves the lab's classifier."""
        try:
            while True:
                await asyncio.sleep(_RETRY_S)
                if await self._ready():
                    break
            await asyncio.gather(*(self._user(index) for index in range(self._settings.classifiers)))
        finally:
            self._records.close()
            await self._http.aclose()

    async def _ready(self) -> bool:
        """Fetch graph and whole network, once the site serves them."""
        try:
            status = await self._connection.get(paths.SITE, SiteStatus)
            whole = next((c for c in status.classifiers if c.network == NAME and not c.feature_bytes), None)
            if whole is None:
                return False
            self._cuts = {c.cut: c for c in status.classifiers if c.network == NAME}
            self._picture_bytes = next(
                (cut.feature_bytes for cut in self._cuts.values() if len(cut.device) == 1), 0
            )
            self._graph = await self._connection.get(f"{paths.GRAPHS}/{whole.graph}", SplitGraph)
            self._whole = (await self._heads.head(whole)).head
        except (SiteError, RefusalError, BundleError, OSError) as error:
            logger.info("classifying users wait", extra={"reason": str(error)})
            return False
        return True

    async def _user(self, index: int) -> None:
        user, device_class = self._cell.users[index], self._cell.classes[index]
        compute_class = COMPUTE_CLASS[device_class]
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=2))
        link = EmulatedLink(inner, lambda: self._rates(index), SHARE.delay_s, INFER)
        async with httpx.AsyncClient(
            base_url=self._settings.runtime_url, transport=link, trust_env=False
        ) as http:
            connection = SiteConnection(http)
            reports = ReportQueue(connection, every_s=0.5)
            classifier = SplitClassifier(
                connection, self._heads, Device(user, NAME, compute_class), reports, refresh_s=2.0,
                paced=self._pace(compute_class),
            )
            following = [asyncio.create_task(classifier.run()), asyncio.create_task(reports.run())]
            try:
                await self._classify(index, classifier, compute_class)
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)

    async def _classify(self, index: int, classifier: SplitClassifier, compute_class: str) -> None:
        interval = self._settings.classify_interval_s
        camera = Camera(self._library, index, self._settings.seed, float(self._cell.mobility.speeds[index]))
        due = time.monotonic() + interval * (index + 1) / (self._settings.classifiers + 1)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + interval, time.monotonic())
            elapsed = time.monotonic() - self._started
            picture = network_picture(self._library.crop(camera.window(elapsed)))
            try:
                answer = await classifier.classify(picture, top=1)
            except SiteError as error:
                self.failed += 1
                logger.info("picture not classified", extra={"reason": str(error)})
                continue
            whole = await asyncio.to_thread(self._whole_answer, picture)
            self._note(index, compute_class, elapsed, answer, whole)

    def _pace(self, compute_class: str) -> Paced:
        """Heads take the time of the class; what this machine took is not counted."""
        assert self._graph is not None
        seconds = np.array(class_profile(self._graph, DEVICES[compute_class]).seconds)

        async def wait(cut: PublishedCut, here_ms: float) -> float:
            device_s = float(seconds[list(cut.device)].sum())
            await asyncio.sleep(max(0.0, device_s - here_ms / 1e3))
            return 1e3 * device_s

        return wait

    def _rates(self, index: int) -> tuple[float, float]:
        cqi = np.array([self._cell.link.cqi[index]], dtype=np.float64)
        return float(SHARE.uplink_bps(cqi)[0]), float(SHARE.downlink_bps(cqi)[0])

    def _whole_answer(self, picture: NDArray[np.uint8]) -> int:
        assert self._whole is not None
        with torch.inference_mode():
            _, (logits,) = self._whole(torch.from_numpy(network_input(picture, SIZE)))
        return int(logits.reshape(-1).argmax())

    def _note(self, index: int, compute_class: str, elapsed: float, answer: Answer, whole: int) -> None:
        assert self._graph is not None
        report, (up, down) = answer.report, self._rates(index)
        cut = self._cuts.get(report.cut)
        nodes = len(cut.device) if cut else 0
        if nodes == 1:
            self._edge_ms = report.edge_ms
        picture_s = 8.0 * self._picture_bytes / up + 8.0 * _ANSWER_BYTES / down + 2.0 * SHARE.delay_s
        device_s = sum(class_profile(self._graph, DEVICES[compute_class]).seconds)
        self.answered += 1
        self._records.write(
            Classification(
                time_ns=report.time_ns, elapsed_s=elapsed, user=report.user, compute_class=compute_class,
                network=report.network, version=report.version, cut=report.cut, device_nodes=nodes,
                snr_db=self._cell.snr_db(index), uplink_bps=up, device_ms=report.device_ms,
                network_ms=report.network_ms, edge_ms=report.edge_ms, feature_bytes=report.feature_bytes,
                on_device_ms=1e3 * device_s, on_edge_ms=1e3 * picture_s + (self._edge_ms or report.edge_ms),
                best=answer.classes[0], agrees=answer.classes[0] == whole, moved=report.moved,
            )
        )
