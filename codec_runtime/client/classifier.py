"""A device that classifies pictures with its site, cutting where it is told.

Rules:

1. A picture takes the plan of the moment it comes and keeps it: network, version and cut go with its
   features, and the answer must name the same. Plans are exchanged whole, by one assignment.
2. A cut is moved to only when its head is here, verified and loaded; until then the old one serves, or the
   picture is sent.
3. Without a head (no trusted root, a refusal, torch of another version) the picture is sent: same answer. The
   head is tried again, less and less often.
4. What the site no longer serves (404, 409) is asked for anew, and the picture computed anew for what it
   does: an old stream is never sent to another version.
5. Told nothing, a device stays where it is while that is served; if it sends pictures, then to the newest
   version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codec_runtime.bundle.errors import BundleError, RefusalError
from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import (
    BadAnswerError,
    NoClassifierError,
    SiteError,
    SiteRefusedError,
)
from codec_runtime.client.heads import HeadStore
from codec_runtime.client.plan import Computed, Plan, picture_plan
from codec_runtime.client.protocol import InferAnswer, Parameter, build_request, parse_answer
from codec_runtime.client.reports import ReportQueue
from codec_runtime.contract import paths
from codec_runtime.contract.classification import PublishedCut, SplitDirective, SplitReport
from codec_runtime.contract.directives import UserDirectives
from codec_runtime.contract.updates import SiteStatus

logger = logging.getLogger(__name__)

INFER: Final = "/v2/models/classify_tail/infer"
_ANSWER_LIMIT: Final = 1 << 20
_MOVES_A_PICTURE: Final = 3
_MOVED: Final = frozenset({404, 409})
_FIRST_HEAD_WAIT_S: Final = 2.0
_LONGEST_HEAD_WAIT_S: Final = 300.0

Paced = Callable[[PublishedCut, float], Awaitable[float]]
"""Told the cut and the ms that this machine took for its head; returns the ms that count. An emulated device
waits here for the time that it would have taken."""


@dataclass(frozen=True)
class Device:
    """Who classifies, and what its reports say.

    Attributes:
        user: id, as in directives. network: that it classifies with, "" for the only one.
        device_class: of the cost profiles, e.g. ``phone-mid``.
    """

    user: str
    network: str = ""
    device_class: str = ""


@dataclass(frozen=True)
class Answer:
    """What a picture shows.

    Attributes:
        classes: best first. scores: softmax, of each.
        report: which cut of which version answered, and what it took.
    """

    classes: tuple[int, ...]
    scores: tuple[float, ...]
    report: SplitReport


class SplitClassifier:
    """Classifies for one user; used from one event loop, any number of pictures at a time.

    Args:
        connection: to the site.
        heads: None: pictures are always sent.
        device: who it is.
        reports: where timings go.
        refresh_s: how often directives and versions are asked for, whatever answers say.
        paced: see :data:`Paced`.

    Attributes:
        moves: changes of plan. refusals: heads that were not taken, by the refusal's class.
    """

    def __init__(
        self,
        connection: SiteConnection,
        heads: HeadStore | None,
        device: Device,
        reports: ReportQueue,
        *,
        refresh_s: float = 5.0,
        paced: Paced | None = None,
    ) -> None:
        self._connection = connection
        self._heads = heads
        self._device = device
        self._reports = reports
        self._refresh_s = refresh_s
        self._paced = paced
        self._plan: Plan | None = None
        self._reported: tuple[str, int, str] | None = None
        self._wanted: tuple[str, int, str] | None = None
        self._news = asyncio.Event()
        self._one_refresh = asyncio.Lock()
        self._failures = _Failures()
        self.moves = 0
        self.refusals: Counter[str] = Counter()

    @property
    def plan(self) -> Plan | None:
        """What the next picture follows; None before the first :meth:`refresh`."""
        return self._plan

    async def run(self) -> None:
        """Follow directives until cancelled."""
        while True:
            self._news.clear()
            try:
                await self.refresh()
            except SiteError as error:
                logger.warning("site not asked", extra={"user": self._device.user, "reason": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_s):
                    await self._news.wait()

    async def refresh(self) -> None:
        """Ask what the site serves and tells this user; move there, head first.

        Raises:
            NoClassifierError: no version of the network is served. SiteError.
        """
        async with self._one_refresh:
            status = await self._connection.get(paths.SITE, SiteStatus)
            told = await self._connection.get(paths.DIRECTIVES, UserDirectives, user=self._device.user)
            served = {(c.network, c.version, c.cut): c for c in status.classifiers}
            wanted = self._followed(told.split, served)
            plan = self._plan
            if plan is None or plan.identity not in served or (wanted is None and plan.head is None):
                # At once, before a head is fetched: better a picture sent than a refusal.
                self._move(self._picture(status, self._newest(status)))
            if wanted is not None and self._plan is not None and wanted != self._plan.identity:
                self._move(await self._headed(status, served[wanted]))

    async def classify(self, picture: NDArray[np.uint8], top: int = 5) -> Answer:
        """The best ``top`` classes of a picture (3, size, size).

        Raises:
            ValueError: the picture does not fit. SiteError: no answer; nothing was guessed.
        """
        failure: SiteError = NoClassifierError("nothing is served")
        for _ in range(_MOVES_A_PICTURE):
            plan = self._plan
            if plan is None:
                await self.refresh()
                continue
            try:
                return await self._classified(plan, picture, top)
            except SiteRefusedError as refused:
                if refused.status not in _MOVED:
                    raise
                failure = refused
                if self._plan is plan:
                    self._plan = None
                    await self.refresh()
        raise NoClassifierError(f"the site serves nothing that this device could follow: {failure}")

    async def _classified(self, plan: Plan, picture: NDArray[np.uint8], top: int) -> Answer:
        started = time.perf_counter()
        computed = await asyncio.to_thread(plan.compute, picture)
        device_ms = 1e3 * (time.perf_counter() - started)
        if self._paced is not None:
            device_ms = await self._paced(plan.cut, device_ms)
        if computed.logits is not None:
            classes, scores = _best(computed.logits, top)
            return self._answered(plan, classes, scores, device_ms, 0.0, 0.0, 0)
        sent = time.perf_counter()
        answer = await self._asked(plan, computed, top)
        round_trip_ms = 1e3 * (time.perf_counter() - sent)
        edge_ms = min(round_trip_ms, _number(answer, "edge_ms"))
        self._note_directive(answer)
        return self._answered(
            plan, *_told(answer), device_ms, round_trip_ms - edge_ms, edge_ms, len(computed.stream)
        )

    async def _asked(self, plan: Plan, computed: Computed, top: int) -> InferAnswer:
        network, version, cut = plan.identity
        named: dict[str, Parameter] = {"network": network, "version": version, "cut": cut}
        body, headers = build_request(
            {"features": np.frombuffer(computed.stream, np.uint8)}, ("classes", "scores"),
            {**named, "user": self._device.user, "top": top},
        )
        reply = await self._connection.call("POST", INFER, limit=_ANSWER_LIMIT, body=body, headers=headers)
        answer = parse_answer(reply.body, reply.headers.get("Inference-Header-Content-Length"))
        said = {name: answer.parameters.get(name) for name in named}
        if said != named:
            raise BadAnswerError(f"the answer is of {said}, asked was {named}")
        return answer

    def _answered(
        self, plan: Plan, classes: tuple[int, ...], scores: tuple[float, ...], device_ms: float,
        network_ms: float, edge_ms: float, feature_bytes: int,
    ) -> Answer:
        network, version, cut = plan.identity
        report = SplitReport(
            user=self._device.user, network=network, version=version, cut=cut,
            device_class=self._device.device_class, time_ns=time.time_ns(), device_ms=device_ms,
            network_ms=network_ms, edge_ms=edge_ms, feature_bytes=feature_bytes,
            moved=self._reported not in (None, plan.identity),
        )
        self._reported = plan.identity
        self._reports.add(report)
        return Answer(classes, scores, report)

    def _note_directive(self, answer: InferAnswer) -> None:
        """Wake :meth:`run` if the answer tells another cut than the one last told."""
        told = tuple(answer.parameters.get(f"next_{name}") for name in ("network", "version", "cut"))
        if told != self._wanted and None not in told:
            self._news.set()

    def _followed(
        self, directive: SplitDirective | None, served: dict[tuple[str, int, str], PublishedCut]
    ) -> tuple[str, int, str] | None:
        """The directive, if it is for this network and can be followed."""
        if directive is None:
            return None
        wanted = (directive.network, directive.version, directive.cut)
        self._wanted = wanted
        mine = self._device.network in ("", directive.network)
        return wanted if mine and wanted in served else None

    def _newest(self, status: SiteStatus) -> tuple[str, int]:
        names = sorted({cut.network for cut in status.classifiers})
        network = self._device.network or next(iter(names), "")
        version = max((c.version for c in status.classifiers if c.network == network), default=0)
        if not version:
            raise NoClassifierError(f"no version of classifier {network!r}; served are {names or 'none'}")
        return network, version

    def _picture(self, status: SiteStatus, named: tuple[str, int]) -> Plan:
        cuts = [cut for cut in status.classifiers if (cut.network, cut.version) == named]
        for manifest in status.models:
            if manifest.kind == "classifier" and (manifest.name, manifest.version) == named:
                plan = picture_plan(manifest, cuts)
                if plan is not None:
                    return plan
        raise NoClassifierError(f"{named[0]} version {named[1]} takes no pictures, and no head of it is here")

    async def _headed(self, status: SiteStatus, cut: PublishedCut) -> Plan:
        """The plan of a cut with its head, or of sending the picture to its version where there is none."""
        picture = self._picture(status, (cut.network, cut.version))
        if cut.cut == picture.cut.cut or self._heads is None or self._failures.waits(cut):
            return picture
        try:
            head = await self._heads.head(cut)
        except (RefusalError, BundleError, SiteRefusedError, OSError) as error:
            self._failures.note(cut)
            self.refusals[type(error).__name__] += 1
            logger.warning(
                "head not taken", extra={"cut": cut.cut, "error": type(error).__name__, "reason": str(error)}
            )
            return picture
        return Plan(cut, picture.size, head.coder, head)

    def _move(self, plan: Plan) -> None:
        if self._plan is None or self._plan.identity != plan.identity:
            self.moves += self._plan is not None
            self._plan = plan


class _Failures:
    """The head that was refused last: when it may be tried again, with doubled waits."""

    def __init__(self) -> None:
        self._cut: PublishedCut | None = None
        self._wait_s = 0.0
        self._until = 0.0

    def note(self, cut: PublishedCut) -> None:
        doubled = min(2 * self._wait_s, _LONGEST_HEAD_WAIT_S)
        self._wait_s = doubled if cut == self._cut else _FIRST_HEAD_WAIT_S
        self._cut, self._until = cut, time.monotonic() + self._wait_s

    def waits(self, cut: PublishedCut) -> bool:
        return cut == self._cut and time.monotonic() < self._until


def _number(answer: InferAnswer, name: str) -> float:
    value = answer.parameters.get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else 0.0


def _told(answer: InferAnswer) -> tuple[tuple[int, ...], tuple[float, ...]]:
    classes, scores = answer.outputs.get("classes"), answer.outputs.get("scores")
    if classes is None or scores is None or classes.shape != scores.shape or classes.ndim != 1:
        raise BadAnswerError("the answer has no classes with scores")
    return tuple(map(int, classes)), tuple(map(float, scores))


def _best(logits: NDArray[np.float32], top: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Classes by falling logit and their softmax."""
    order = np.argsort(-logits, kind="stable")[:top]
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return tuple(map(int, order)), tuple(map(float, shares[order] / shares.sum()))
