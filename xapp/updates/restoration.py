"""Brings back what a site lost, e.g. when it was installed anew: versions that are assigned but not served.

Each site is looked at by itself; one that refuses is asked less and less often. Of classifiers, which have no
roll-outs, the newest version that is assigned counts; whether it is there is asked after each start of the
runtime.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from xapp.rollout.actions import push_to
from xapp.rollout.announce import tell_pushed, tell_refused
from xapp.rollout.driver import RolloutDriver
from xapp.runtime_client import RuntimeUnavailable
from xapp.sites import SiteLink
from xapp.status import Status

PERIOD_S: Final = 1.0
LONGEST_S: Final = 300.0

_log = logging.getLogger(__name__)


class LostBundles:
    """See the module docstring.

    Args:
        sites: by name. rollouts: know what is signed, and what is being taken back. status: told.
    """

    def __init__(self, sites: Mapping[str, SiteLink], rollouts: RolloutDriver, status: Status) -> None:
        self._sites = sites
        self._rollouts = rollouts
        self._status = status
        self._refusals: dict[int, str] = {}
        self._classifying: dict[int, str] = {}

    async def run(self) -> None:
        """Look at every site until cancelled."""
        async with asyncio.TaskGroup() as sites:
            for site in self._sites.values():
                sites.create_task(self._keep(site))

    async def _keep(self, site: SiteLink) -> None:
        wait = PERIOD_S
        while True:
            await asyncio.sleep(wait)
            try:
                well = await self.look(site)
            except RuntimeUnavailable as error:
                _log.warning("lost bundles wait", extra={"site": site.name, "reason": str(error)})
                well = False
            except Exception as error:  # what one site or bundle does is no matter of the others
                _log.exception("lost bundles are not back", extra={"site": site.name})
                self._refused(site, f"{type(error).__name__}: {error}")
                well = False
            wait = PERIOD_S if well else min(2.0 * wait, LONGEST_S)

    async def look(self, site: SiteLink) -> bool:
        """Bring back what can be; False when the site should be left alone for a while.

        Raises:
            As :func:`xapp.rollout.actions.push_to`.
        """
        catalog, adapters, signed = site.catalog, site.adapters, self._rollouts.signed
        if not catalog.decoders or not self._status.peers.is_up("runtime", site.label):
            return True
        if not (catalog.missing() or adapters.missing() or await self._lost_classifiers(site)):
            return True
        await site.watch.refresh()
        lost = await self._lost_classifiers(site)
        lost |= {
            f"{kind}/{family}/{version}"
            for kind, missing in (("decoder", catalog.missing()), ("adapter", adapters.missing()))
            for (group, family), version in missing.items()
            if not self._rollouts.takes_back(group, family, version)
        }
        bundles = sorted(lost & set(await signed.call(signed.repository.bundles)))
        if not bundles:
            return not lost
        for bundle in bundles:  # a site with another name than before has no assignment yet
            await signed.call(signed.give, [site.name], bundle)
        report = await push_to(signed, site, bundles, self._rollouts.delivery)
        tell_pushed(self._status, site.name, bundles, report)
        if report.activation.outcome == "refused":
            self._refused(site, f"{report.activation.error} {report.activation.detail}".strip())
            return False
        self._refusals.pop(site.index, None)
        await site.watch.refresh()
        still = {f"decoder/{f}/{v}" for (_, f), v in catalog.missing().items()}
        still |= {f"adapter/{f}/{v}" for (_, f), v in adapters.missing().items()}
        return not lost & (still | await self._lost_classifiers(site))

    async def _lost_classifiers(self, site: SiteLink) -> set[str]:
        instance = site.client.instance
        if not instance or self._classifying.get(site.index) == instance:
            return set()
        signed = self._rollouts.signed
        newest = await signed.call(signed.newest, site.name, "classifier")
        served = site.splits.controller.versions
        lost = {f"classifier/{name}/{version}" for name, version in set(newest.items()) - served}
        if not lost:
            self._classifying[site.index] = instance
        return lost

    def _refused(self, site: SiteLink, reason: str) -> None:
        if self._refusals.get(site.index) != reason:
            self._refusals[site.index] = reason
            tell_refused(self._status, site.name, reason)
