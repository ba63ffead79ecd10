"""Who gets a new version first: an order of the users, and how many of them each stage takes. Pure.

Rules
-----
- The order is random but fixed by the roll-out's id (a hash), not by anything measured: whom the canary meets
  must not depend on how well they did. Users of the canary sites come first, among them those with enough
  reports from before the change, since a user without a baseline cannot be compared. A site with no such
  user, which may be away, is a canary site only for want of others.
- A gated stage takes the first ``count`` users of the order, so that a later stage contains the earlier ones,
  and leaves at least one user on the old version: the concurrent control group.
- A population below ``small_population`` is observed in one stage, half against half, for
  ``small_observe_s``: smaller fractions of it would be one or two users, and a comparison is sharpest
  between halves.
- One user alone has no control group. There is then no gated stage; the plan says so in its history.
- Behind the last gated stage come all users of the group, those included that appeared meanwhile.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence

import msgspec

CANARY = "canary"


class Member(msgspec.Struct, frozen=True, order=True):
    """A user at a site; the same device at another site is another member."""

    site: str
    user: str


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A gated stage as planned for a population.

    Attributes:
        name: ``canary``, or the share in per cent (``50%``).
        count: users on the new version, the first ones of the order.
        observe_s: after which a decision is made on what is known, s.
    """

    name: str
    count: int
    observe_s: float


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How roll-outs are staged (the module's rules).

    Attributes:
        canary_share: of the users at the canary sites, 0..1; canary_sites: how many sites that is.
        shares: of all users, for the gated stages behind the canary; rising, below 1.
        observe_s: length of a stage, s.
        small_population, small_observe_s: see the rules.
    """

    canary_share: float = 0.1
    canary_sites: int = 1
    shares: tuple[float, ...] = (0.5,)
    observe_s: float = 300.0
    small_population: int = 10
    small_observe_s: float = 6.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and what would be right."""
        if not 0 < self.canary_share < 1:
            raise ValueError(f"canary_share = {self.canary_share}: above 0 and below 1 is needed")
        if self.canary_sites < 1:
            raise ValueError(f"canary_sites = {self.canary_sites}: at least 1 is needed")
        if list(self.shares) != sorted(set(self.shares)) or not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares = {list(self.shares)}: rising values between 0 and 1 are needed")
        if min(self.observe_s, self.small_observe_s) <= 0:
            raise ValueError("the observation time of a stage must be above 0 s")


def order_members(
    population: Mapping[str, Sequence[str]], seed: str, canary_sites: int, baselined: Collection[Member]
) -> tuple[list[Member], int]:
    """Everybody in the order of change, and how many of them are at the canary sites.

    Args:
        population: users by site. seed: the roll-out's id.
        canary_sites: how many sites come first. baselined: members with enough reports from before.
    """
    heard = {member.site for member in baselined}
    sites = sorted(
        (site for site, users in population.items() if users), key=lambda s: (s not in heard, _rank(seed, s))
    )
    first = set(sites[:canary_sites])
    members = [Member(site, user) for site in sites for user in sorted(set(population[site]))]
    members.sort(
        key=lambda m: (m.site not in first, m not in baselined, _rank(seed, f"{m.site}/{m.user}"))
    )
    return members, sum(member.site in first for member in members)


def plan_stages(settings: PlanSettings, population: int, at_canary_sites: int) -> list[Stage]:
    """The gated stages for a population of that size; empty where there can be no control group."""
    if population < 2:
        return []
    if population < settings.small_population:
        return [Stage(name=CANARY, count=population // 2, observe_s=settings.small_observe_s)]
    wanted = [(CANARY, settings.canary_share * at_canary_sites)]
    wanted += [(f"{share:.0%}", share * population) for share in settings.shares]
    stages: list[Stage] = []
    for name, users in wanted:
        count = min(max(math.ceil(users), 1), population - 1)
        if not stages or count > stages[-1].count:
            stages.append(Stage(name=name, count=count, observe_s=settings.observe_s))
    return stages


def _rank(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
