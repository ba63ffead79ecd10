"""Policy pools of several sites: one configuration and the same A1 instances, a budget and a state each.

A policy's state (the weight it took last, whom it governed last) is that of the users of one site, so that
sites that decide in turns do not disturb each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xapp.policy.pools import ConfiguredPolicy, PolicyPools
from xapp.ric.a1.instances import Instance
from xapp.ric.a1.policy_type import A1Policy


class SitePools:
    """See the module docstring.

    Args:
        configured: what decides where no instance says otherwise. sites: how many, at least 1.

    Raises:
        UnknownPolicyError: the configured policy does not exist.
    """

    def __init__(self, configured: ConfiguredPolicy, sites: int) -> None:
        self._pools = tuple(PolicyPools(configured) for _ in range(sites))

    def __getitem__(self, site: int) -> PolicyPools:
        return self._pools[site]

    def configure(self, configured: ConfiguredPolicy) -> None:
        """As :meth:`PolicyPools.configure`, at every site or, raising UnknownPolicyError, at none."""
        # All have the same instances, so what the first one takes, the others do.
        for pools in self._pools:
            pools.configure(configured)

    def check(self, policy: A1Policy, others: Mapping[str, A1Policy]) -> None:
        """As :meth:`PolicyPools.check`. Raises ValueError."""
        self._pools[0].check(policy, others)

    def replace(self, instances: Sequence[Instance]) -> None:
        """From now on these instances are in force at every site."""
        for pools in self._pools:
            pools.replace(instances)

    def describe(self) -> list[dict[str, Any]]:
        """As :meth:`PolicyPools.describe`, users of all sites together."""
        described = [pools.describe() for pools in self._pools]
        return [
            {**same[0], "users": sum(entry["users"] for entry in same)}
            for same in zip(*described, strict=True)
        ]
