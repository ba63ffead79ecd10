"""One federated update of an adapter: every site's part, their mean, its measurement. The users' data stay.

Rules
-----
::

    parts --one site--> done
    parts --more--> measuring --> done
    parts, measuring --nothing usable--> failed

- ``parts``: each site with users of the group runs federated rounds among its own, as a training job. A site
  that refuses, fails, forgets (its runtime restarted) or is silent at the deadline is left out; the others go
  on.
- One part: its candidate is the outcome. More: the mean (:mod:`xapp.updates.aggregation`), which then goes to
  the site with most users to be measured on pairs held out there and written as a bundle (``measuring``).
- An unreachable site is asked again at the next step, until the deadline.
- Nothing of it is written down: a restarted xApp begins anew from the drift that is still there, and the jobs
  of the old one end at the sites by their own limits, unread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from codec_runtime.contract.alignment import AlignmentJob, AlignmentUpdate
from codec_runtime.contract.telemetry import TrainingReport
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.settings import XAppSettings
from xapp.updates.aggregation import UpdateRefusedError, aggregate, usable
from xapp.updates.planner import AdapterJob

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.5


class PartClient(Protocol):
    """The part of :class:`xapp.runtime_client.RuntimeClient` needed here."""

    async def submit_alignment_job(self, job: AlignmentJob) -> TrainingReport: ...

    async def job(self, job: str) -> TrainingReport: ...

    async def alignment_update(self, job: str) -> AlignmentUpdate: ...


@dataclass(frozen=True)
class RoundSettings:
    """How long.

    Attributes:
        rounds: federated rounds among a site's users.
        budget_s: of a site's part; deadline_s: after which the parts that there are make the update.
    """

    rounds: int = 8
    budget_s: float = 20.0
    deadline_s: float = 60.0

    @classmethod
    def of(cls, settings: XAppSettings) -> RoundSettings:
        """As configured; parts and measurement share the time that the planner gives a job."""
        limit_s = settings.update_budget_s * settings.job_timeout_factor
        return cls(settings.alignment_rounds, settings.update_budget_s, 0.6 * limit_s)


@dataclass(slots=True)
class Part:
    """A site's part.

    Attributes:
        asked_s: when its site was asked last. report: its last answer.
        update: once it is fetched. failed: why it is left out, for good.
    """

    client: PartClient
    order: AlignmentJob
    submitted: bool = False
    asked_s: float = float("-inf")
    report: TrainingReport | None = None
    update: AlignmentUpdate | None = None
    failed: str = ""

    @property
    def ended(self) -> bool:
        return bool(self.failed) or (self.report is not None and self.report.state == "succeeded")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the candidate is: at which site, of which job; failed: why there is none."""

    site: str = ""
    job: str = ""
    failed: str = ""
    sites: Sequence[str] = ()
    refused: Sequence[str] = field(default=())


class FederatedUpdate:
    """See the module docstring.

    Args:
        job: of the planner. users: by site; sites without any are not asked.
        clients: by site. settings: of the rounds. clock: monotonic seconds.
    """

    def __init__(
        self,
        job: AdapterJob,
        users: Mapping[str, Sequence[str]],
        clients: Mapping[str, PartClient],
        settings: RoundSettings,
        clock: Callable[[], float],
    ) -> None:
        self._job = job
        self._settings = settings
        self._clock = clock
        self._began_s = clock()
        self.parts = {
            site: Part(clients[site], self._order(site, place, users[site]))
            for place, site in enumerate(sorted(users))
            if users[site]
        }
        self._measuring: tuple[str, Part] | None = None
        self._refused: list[str] = []

    @property
    def progress(self) -> float:
        """0..1, of the slowest part; the measurement is short."""
        told = [1.0 if p.ended else p.report.progress if p.report else 0.0 for p in self.parts.values()]
        return 0.9 * min(told, default=0.0)

    async def step(self) -> Outcome | None:
        """Do what can be done now; None while it goes on."""
        if self._measuring is not None:
            return await self._measure(*self._measuring)
        for site, part in self.parts.items():
            await self._advance(site, part)
        late = self._clock() - self._began_s > self._settings.deadline_s
        for part in self.parts.values():
            if late and not part.ended:
                part.failed = f"no end within {self._settings.deadline_s:.0f} s"
        if not all(part.ended for part in self.parts.values()):
            return None
        return await self._join()

    async def _join(self) -> Outcome | None:
        done = [site for site, part in self.parts.items() if not part.failed]
        self._refused = [f"{site}: {part.failed}" for site, part in self.parts.items() if part.failed]
        if not done:
            return Outcome(failed="; ".join(self._refused[:3]) or "no site has users of the group")
        if len(done) == 1:
            return Outcome(done[0], self.parts[done[0]].order.job, sites=done, refused=self._refused)
        updates = {site: update for site in done if (update := self.parts[site].update) is not None}
        weights, refused = usable(updates)
        self._refused += refused
        try:
            mean = aggregate(weights, updates)
        except UpdateRefusedError as error:
            return Outcome(failed="; ".join([str(error), *self._refused[:3]]))
        most = max(weights, key=lambda site: len(self.parts[site].order.users))
        order = self._order(most, len(self.parts), self.parts[most].order.users, mean)
        self._measuring = most, Part(self.parts[most].client, order)
        return None

    async def _measure(self, site: str, part: Part) -> Outcome | None:
        await self._advance(site, part)
        if part.failed:
            return Outcome(failed=f"the mean could not be measured at {site}: {part.failed}")
        if not part.ended:
            return None
        sites = [name for name, other in self.parts.items() if other.update is not None]
        return Outcome(site, part.order.job, sites=sites, refused=self._refused)

    async def _advance(self, site: str, part: Part) -> None:
        now = self._clock()
        if part.ended or now - part.asked_s < _POLL_S:
            return
        part.asked_s = now
        try:
            if not part.submitted:
                part.report = await part.client.submit_alignment_job(part.order)
                part.submitted = True
            else:
                part.report = await part.client.job(part.order.job)
            if part.report.state == "failed":
                part.failed = part.report.detail or "the job failed"
            elif part.report.state == "succeeded" and len(self.parts) > 1 and self._measuring is None:
                succeeded, part.report = part.report, None  # not before its update is here
                part.update = await part.client.alignment_update(part.order.job)
                part.report = succeeded
        except RuntimeUnavailable as error:
            _log.warning("a site's part waits", extra={"site": site, "reason": str(error)})
        except RuntimeRefused as error:
            part.failed = str(error)

    def _order(self, site: str, place: int, users: Sequence[str], weights: bytes = b"") -> AlignmentJob:
        job = self._job
        return AlignmentJob(
            job=f"{job.job}.{place}",
            users=list(users),
            adapter=job.adapter,
            parent_version=job.parent_version,
            new_version=job.new_version,
            rounds=0 if weights else self._settings.rounds,
            weights=weights,
            budget_s=self._settings.budget_s,
            max_age_s=job.max_age_s + (self._clock() - self._began_s),
            seed=1 + place,
        )
