"""What is done to the world: signed assignments, pushes to a site, catalogs. Each action may be repeated.

A repository without a director (one key for everything) cannot take back what it has signed: any site may
serve any signed bundle. There a rollback changes the users' version in the catalogs alone, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from xapp.delivery.push import DEFAULTS, Progress, PushOptions, PushReport, Site, push
from xapp.delivery.repository import RepositoryFiles, TufRepository
from xapp.delivery.roles import DIRECTOR, EVERY_SITE
from xapp.policy.surface import QualitySurface
from xapp.rollout.orders import UpdatedKind
from xapp.rollout.state import Bundle, Intent, Rollout
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable

FLAT_NOTE: Final = (
    "users are back on version {parent}; the repository has no director, so sites keep version {version}, "
    "unused (`semcom keys migrate` gives it one)"
)
_ATTEMPTS: Final = 2
"""A site that is away is owed its push: :mod:`xapp.rollout.pushes` tries again."""

T = TypeVar("T")


class RolloutCatalog(Protocol):
    """The part of :class:`xapp.policy.catalog.DecoderCatalog` and of
    :class:`xapp.policy.adapters.AdapterCatalog` needed here."""

    @property
    def assigned(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def canaries(self) -> Mapping[tuple[str, str], Any]: ...

    def serves(self, family: str, version: int) -> bool: ...

    def lacks(self, family: str, version: int) -> bool: ...

    def assign(self, group: str, family: str, version: int) -> None: ...

    def set_canary(self, group: str, family: str, version: int, users: frozenset[str]) -> None: ...

    def clear_canary(self, group: str, family: str) -> None: ...

    def version_for(self, group: str, family: str) -> Any: ...


class SurfaceCatalog(RolloutCatalog, Protocol):
    """Of decoders: what to expect of them, too."""

    def surface(self, family: str, version: int) -> QualitySurface | None: ...


class SiteRefresh(Protocol):
    """Asks a site what it serves."""

    async def refresh(self) -> bool: ...


class RolloutSite(Protocol):
    """The part of :class:`xapp.sites.SiteLink` needed here."""

    @property
    def name(self) -> str: ...

    @property
    def client(self) -> Site: ...

    @property
    def catalog(self) -> SurfaceCatalog: ...

    @property
    def adapters(self) -> RolloutCatalog: ...

    @property
    def watch(self) -> SiteRefresh: ...


def catalog_of(site: RolloutSite, kind: UpdatedKind) -> RolloutCatalog:
    """The site's catalog of bundles of a kind."""
    return site.adapters if kind == "adapter" else site.catalog


@dataclass(frozen=True, slots=True)
class SiteOutcome:
    """What came of a push: what the site has, what it is still owed, and its answer, if it gave one.

    Attributes:
        error: why it was refused.
    """

    bundle: Bundle
    owed: str = ""
    error: str = ""
    report: PushReport | None = None


class SignedAssignments:
    """The director's side, and the order in which sites hear of it.

    Methods that read or sign block (file I/O); they are called by way of :meth:`call`.
    """

    def __init__(self, repository: TufRepository) -> None:
        self.repository = repository
        self._thread = ThreadPoolExecutor(1, "repository")
        self._turns: dict[str, asyncio.Lock] = {}

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """In the one thread of the repository: a caller that is cancelled leaves its call running, and the
        next one must not sign beside it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def turn(self, site: str) -> asyncio.Lock:
        """Held during a push to a site: of two at a time the older metadata could be written last."""
        return self._turns.setdefault(site, asyncio.Lock())

    def current_files(self) -> RepositoryFiles:
        """What sites need, with fresh signatures."""
        self.repository.refresh()
        return self.repository.files()

    def give(self, sites: Iterable[str], bundle: str) -> str:
        """Name the bundle among those of each site; returns a line of history.

        Raises:
            ValueError: the bundle is not in the repository, or a site's name is not one.
        """
        if bundle not in self.repository.bundles():
            raise ValueError(f"{bundle} is not in the repository")
        if DIRECTOR not in self.repository.versions():
            return "signed; the repository has no director, every site may serve it"
        have = self._bundles_of(sites)
        self._assign({site: [*own, bundle] for site, own in have.items() if bundle not in own})
        return f"director version {self.repository.versions()[DIRECTOR]} assigns it to {', '.join(sites)}"

    def newest(self, site: str, kind: str) -> dict[str, int]:
        """The newest version of each name of a kind among the bundles of a site."""
        newest: dict[str, int] = {}
        for bundle in self._bundles_of([site])[site]:
            of_kind, name, version = bundle.split("/")
            if of_kind == kind:
                newest[name] = max(newest.get(name, 0), int(version))
        return newest

    def take(self, rollout: Rollout, shared: bool) -> tuple[str, bool]:
        """Metadata that names the version no more; (line of history, whether sites can follow it).

        Args:
            shared: another roll-out of the same bundle still needs it.
        """
        if DIRECTOR not in self.repository.versions():
            return FLAT_NOTE.format(parent=rollout.parent, version=rollout.version), False
        if shared:
            return f"users are back on version {rollout.parent}; another group needs the bundle", False
        parent = f"{rollout.kind}/{rollout.family}/{rollout.parent}"
        known = self.repository.bundles()
        changed = {}
        for site, have in self._bundles_of(rollout.sites).items():
            wanted = [bundle for bundle in have if bundle != rollout.bundle]
            if parent in known and parent not in wanted:
                wanted.append(parent)
            if wanted != have:
                changed[site] = wanted
        self._assign(changed)
        return f"director version {self.repository.versions()[DIRECTOR]} assigns it no more", True

    def _bundles_of(self, sites: Iterable[str]) -> dict[str, list[str]]:
        assignments = self.repository.assignments()
        others = assignments.get(EVERY_SITE, [])
        return {site: assignments.get(site, others) for site in sorted(sites)}

    def _assign(self, assignments: Mapping[str, list[str]]) -> None:
        if assignments:
            self.repository.assign_many(assignments)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How pushes are done, and who is told how far they are."""

    options: PushOptions = DEFAULTS
    progress: Progress | None = None


async def push_to(
    signed: SignedAssignments, site: RolloutSite, bundles: list[str], delivery: Delivery
) -> PushReport:
    """Bring bundles and the metadata of now to a site, after any other push to it.

    Raises:
        As :func:`xapp.delivery.push.push`; OSError, RuntimeError, ValueError: of the repository.
    """
    async with signed.turn(site.name):
        files = await signed.call(signed.current_files)
        options = replace(delivery.options, attempts=_ATTEMPTS)
        return await push(site.client, files, bundles, options, name=site.name, progress=delivery.progress)


async def deliver(
    signed: SignedAssignments, site: RolloutSite, rollout: Rollout, delivery: Delivery
) -> SiteOutcome:
    """Bring the bundle to a site and have it served there."""
    outcome = await _pushed(signed, site, [rollout.bundle], delivery, ("delivered", "absent", "refused"))
    catalog = catalog_of(site, rollout.kind)
    if outcome.bundle == "delivered" and not catalog.serves(rollout.family, rollout.version):
        what = f"it does not serve {rollout.bundle} after activation"
        return SiteOutcome("refused", error=what, report=outcome.report)
    return outcome


async def withdraw(
    signed: SignedAssignments, site: RolloutSite, rollout: Rollout, delivery: Delivery
) -> SiteOutcome:
    """Bring the metadata that takes the bundle back; a site that does not follow stays owed."""
    had = rollout.sites[site.name].bundle
    outcome = await _pushed(signed, site, [], delivery, ("withdrawn", had, had))
    return replace(outcome, owed=outcome.error) if outcome.error else outcome


def apply_intent(catalog: RolloutCatalog, rollout: Rollout, intent: Intent) -> list[str]:
    """Bring the canary of a site's catalog in line; returns the users whose version that changes.

    Assignments are left to the caller: others look at those too.
    """
    key = rollout.group, rollout.family
    now = catalog.canaries.get(key)
    users_now: frozenset[str] = frozenset() if now is None else now.users
    if intent.canary is None:
        if now is None:
            return []
        catalog.clear_canary(*key)
        return sorted(users_now)
    version, users = intent.canary
    if now is not None and (now.version, users_now) == (version, users):
        return []
    catalog.set_canary(*key, version, users)
    return sorted(users ^ users_now)


async def _pushed(
    signed: SignedAssignments,
    site: RolloutSite,
    bundles: list[str],
    delivery: Delivery,
    standings: tuple[Bundle, Bundle, Bundle],
) -> SiteOutcome:
    """Push, then ask what is served; ``standings`` of a site that followed, that is away, that refused."""
    done, away, refused = standings
    try:
        report = await push_to(signed, site, bundles, delivery)
    except (RuntimeRefused, KeyError) as error:
        return SiteOutcome(refused, error=str(error))
    except (OSError, RuntimeError, ValueError) as error:
        return SiteOutcome(away, owed=f"{type(error).__name__}: {error}"[:200])
    answer = report.activation
    if answer.outcome == "refused":
        return SiteOutcome(refused, error=f"{answer.error} {answer.detail}".strip(), report=report)
    try:
        await site.watch.refresh()
    except (RuntimeUnavailable, RuntimeRefused) as error:
        return SiteOutcome(away, owed=str(error), report=report)
    return SiteOutcome(done, report=report)
