"""Instances, users and observations for the tests of A1 policies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from xapp_simulated_site import quality_points

from xapp.policy.decision import Observation
from xapp.policy.objectives import UsersView
from xapp.policy.pools import ConfiguredPolicy, PolicyPools
from xapp.policy.surface import QualitySurface
from xapp.ric.a1.instances import Instance
from xapp.ric.a1.policy_type import A1Policy, decode_policy

SURFACE = QualitySurface(quality_points())
CONFIGURED = ConfiguredPolicy("adaptive", {"quality_target_db": 25.0, "budget_prefix": 6.0})
USERS = [f"ue-{i}" for i in range(20)]
GROUPS = np.arange(20) % 2
VIEW = UsersView(
    USERS,
    {
        "group": [(GROUPS, ["drone", "car"])],
        "cell": [(np.arange(20) // 10, ["gnb-1", "gnb-2"])],
        "slice": [(np.where(np.arange(20) < 5, 0, -1), ["1-000001"])],
    },
)
DRONES = {"kind": "group", "ids": ["drone"]}


def policy(scope: Any = None, **parts: Any) -> A1Policy:
    return decode_policy(json.dumps({"scope": scope or {"kind": "all"}, **parts}).encode())


def in_force(*policies: A1Policy) -> list[Instance]:
    return [Instance(f"i-{order}", order, each) for order, each in enumerate(policies, 1)]


def target(value: float, scope: Any = None) -> A1Policy:
    return policy(scope, constraints={"quality_target_db": value})


def observation(seed: int = 0, users: int = 20, **changes: Any) -> Observation:
    rng = np.random.default_rng(seed)
    observed = Observation(
        snr_db=rng.uniform(-4, 20, users),
        snr_sd_db=np.full(users, 2.3),
        offset_db=rng.normal(0, 1.5, users),
        offset_sd_db=np.full(users, 2.0),
        reference_db=np.full(users, 25.0),
        slope=np.ones(users),
        surface=np.zeros(users, np.int64),
        weight=np.ones(users),
        prefix=np.zeros(users, np.int64),
        surfaces=(SURFACE,),
    )
    return replace(observed, **changes)


def pools(*policies: A1Policy) -> PolicyPools:
    made = PolicyPools(CONFIGURED)
    made.replace(in_force(*policies))
    return made


def arm(name: str, share: float, offset: float = 0.0, seed: int = 7, scope: Any = None) -> A1Policy:
    return policy(scope, experiment={"arm": name, "share": share, "offset": offset, "seed": seed})
