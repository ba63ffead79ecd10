"""From A1 policy instances to what each user is owed: target, limits, weights, deciding policy, experiment
arm.

Precedence, field by field: of the instances that govern a user, the one with the most specific scope that
sets a field decides it (user, slice, cell, group, all); among equals the later one. ``weights`` and
``policy`` count as one field each, every constraint as its own.

Pools: users whose deciding policy or budget comes from the same instances are decided about together, apart
from the others: a ``budget_prefix`` is the mean over the users that its instance governs, and the arms of an
experiment do not share a budget. Pool 0 is the configured policy with the configured budget.

What has an effect today: ``quality_target_db``, ``max_prefix`` and ``max_bandwidth_ratio``,
``budget_prefix``, ``policy``, ``experiment``, and the weights for quality, bits and latency. Latency counts
with bits: fewer symbols are the one way to be faster as long as nothing is split. The weight for energy and
``deadline_ms`` are kept and shown, and wait for split computing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from msgspec import UNSET

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.ric.a1.instances import Instance
from xapp.ric.a1.policy_type import A1Policy, Constraints, Experiment, Scope
from xapp.telemetry.columns import COLUMNS, BoolArray, FloatArray, IntArray
from xapp.telemetry.user_table import UserTable

PRECEDENCE: Final = ("all", "group", "cell", "slice", "user")
"""Scope kinds, weakest first."""

OBJECTIVES: Final = ("quality", "bits", "latency", "energy")
"""Columns of :attr:`Objectives.weights`."""

_UNIT: Final = 1 << 32

Labels = Sequence[tuple[IntArray, Sequence[str]]]
"""Columns that may name a user's place: index of each user (-1 unknown) and the names."""


@dataclass(frozen=True, slots=True)
class UsersView:
    """N users as scopes see them.

    Attributes:
        users: their ids. labels: scope kind (``slice``, ``cell``, ``group``) -> :data:`Labels`; a user
            belongs to a scope that any of the columns names.
    """

    users: Sequence[str]
    labels: Mapping[str, Labels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def same_as(self, other: UsersView) -> bool:
        """The same users at the same places, so that :func:`resolve` would say the same.

        Names are only ever appended to, so their places say enough.
        """
        if self.users != other.users or self.labels.keys() != other.labels.keys():
            return False
        return all(
            len(columns) == len(other.labels[kind])
            and all(
                names is other_names and np.array_equal(index, other_index)
                for (index, names), (other_index, other_names) in zip(
                    columns, other.labels[kind], strict=True
                )
            )
            for kind, columns in self.labels.items()
        )


def view_users(table: UserTable, rows: IntArray) -> UsersView:
    """View of some rows of the user table.

    Cells are named by their id where the table has a column ``cell``, and by E2 node in any case; slices are
    known where it has a column ``slice``.
    """
    labels: dict[str, list[tuple[IntArray, Sequence[str]]]] = {
        "group": [(table.group[rows], table.groups.names)],
        "cell": [(table.e2_node[rows], table.e2_nodes.names)],
        "slice": [],
    }
    for kind in ("cell", "slice"):
        if kind in COLUMNS:
            labels[kind].append((getattr(table, kind)[rows], getattr(table, f"{kind}s").names))
    return UsersView([table.users[row] for row in rows], labels)


@dataclass(frozen=True, slots=True)
class Pool:
    """Users decided about together.

    Attributes:
        policy: instance that names the deciding policy; None: the configured one.
        budget: instance that sets the budget; None: the policy's own.
    """

    policy: Instance | None = None
    budget: Instance | None = None


@dataclass(frozen=True, slots=True)
class Objectives:
    """What N users are owed.

    Attributes:
        quality_target_db: float64 [N], NaN: the policy's own.
        max_prefix: float64 [N], inf: none. deadline_ms: float64 [N], inf: none.
        weights: float64 [N, 4], columns :data:`OBJECTIVES`, sum 1; (1, 0, 0, 0) where nothing is set.
        pool: int64 [N], index in ``pools``. arm: int64 [N], index in ``arms``, -1 for none.
        governed: instance id -> users in its scope (and arm).
    """

    quality_target_db: FloatArray
    max_prefix: FloatArray
    deadline_ms: FloatArray
    weights: FloatArray
    pool: IntArray
    arm: IntArray
    pools: tuple[Pool, ...]
    arms: tuple[str, ...]
    governed: Mapping[str, int]

    @property
    def quality_share(self) -> FloatArray:
        """Weight of quality among the weights that have an effect, float64 [N] in 0..1; 1 if none is set."""
        applied = self.weights[:, :3].sum(axis=1)
        share: FloatArray = np.where(
            applied > 0, self.weights[:, 0] / np.where(applied > 0, applied, 1.0), 1.0
        )
        return share


@lru_cache(maxsize=1 << 17)
def arm_position(user: str, seed: int) -> int:
    """Where a user stands in the experiments of a seed: 0..2**32 - 1, uniform, the same in every process."""
    digest = hashlib.blake2b(f"{seed}/{user}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def resolve(instances: Sequence[Instance], view: UsersView) -> Objectives:
    """Objectives of the users of ``view``; see the module docstring for precedence."""
    n = len(view)
    limits = {name: np.full(n, np.nan) for name in Constraints.__struct_fields__}
    weights = np.zeros((n, len(OBJECTIVES)))
    weights[:, 0] = 1.0
    policy_of, budget_of, arm = np.full(n, -1), np.full(n, -1), np.full(n, -1)
    arms: list[str] = []
    governed: dict[str, int] = {}
    rows_of: dict[str, int] = {}
    ordered = sorted(instances, key=lambda i: (PRECEDENCE.index(i.policy.scope.kind), i.order))
    for number, instance in enumerate(ordered):
        policy = instance.policy
        rows = _members(policy.scope, view, rows_of)
        if policy.experiment is not UNSET:
            rows = _in_arm(rows, view, policy.experiment)
            if policy.experiment.arm not in arms:
                arms.append(policy.experiment.arm)
            arm[rows] = arms.index(policy.experiment.arm)
        governed[instance.instance_id] = len(rows)
        if policy.weights is not UNSET:
            values = np.array([getattr(policy.weights, name) for name in OBJECTIVES])
            weights[rows] = values / values.sum()
        if policy.policy is not UNSET:
            policy_of[rows] = number
        if policy.constraints is not UNSET:
            for name, column in limits.items():
                value = getattr(policy.constraints, name)
                if value is not UNSET:
                    column[rows] = value
            if policy.constraints.budget_prefix is not UNSET:
                budget_of[rows] = number
    pool, pools = _pools(ordered, policy_of, budget_of)
    by_ratio = np.floor(limits["max_bandwidth_ratio"] * RATE_DENOMINATOR + 1e-9)
    return Objectives(
        quality_target_db=limits["quality_target_db"],
        max_prefix=np.fmin(np.fmin(limits["max_prefix"], by_ratio), np.inf),
        deadline_ms=np.fmin(limits["deadline_ms"], np.inf),
        weights=weights,
        pool=pool,
        arm=arm,
        pools=pools,
        arms=tuple(arms),
        governed=governed,
    )


def check_arms(policy: A1Policy, others: Mapping[str, A1Policy]) -> None:
    """Whether the experiment arm of an instance keeps clear of those of the other instances.

    Raises:
        ValueError: users of the same scope could fall into both.
    """
    if policy.experiment is UNSET:
        return
    for instance_id, other in others.items():
        if other.experiment is not UNSET and _overlap(policy, policy.experiment, other, other.experiment):
            raise ValueError(
                f"arm {policy.experiment.arm!r} overlaps arm {other.experiment.arm!r} of instance "
                f"{instance_id[:80]!r}: other shares and offsets, or another seed, are needed"
            )


def _members(scope: Scope, view: UsersView, rows_of: dict[str, int]) -> IntArray:
    if scope.kind == "all":
        return np.arange(len(view))
    if scope.kind == "user":
        if not rows_of:
            rows_of.update((user, row) for row, user in enumerate(view.users))
        return np.array(sorted({rows_of[user] for user in scope.ids if user in rows_of}), np.int64)
    member: BoolArray = np.zeros(len(view), bool)
    wanted = set(scope.ids)
    for index, names in view.labels.get(scope.kind, ()):
        # One place more than there are names: index -1 finds it.
        chosen = np.array([*(name in wanted for name in names), False])
        member |= chosen[index]
    return np.flatnonzero(member)


def _in_arm(rows: IntArray, view: UsersView, experiment: Experiment) -> IntArray:
    seed = int(experiment.seed)
    position = np.array([arm_position(view.users[row], seed) for row in rows], np.int64)
    start, width = _interval(experiment)
    return rows[(position - start) % _UNIT < width]


def _interval(experiment: Experiment) -> tuple[int, int]:
    """First position and number of positions of an arm; neighbours that meet as decimals meet here too."""
    start = round(experiment.offset * _UNIT)
    return start, round((experiment.offset + experiment.share) * _UNIT) - start


def _overlap(mine: A1Policy, arm: Experiment, other: A1Policy, other_arm: Experiment) -> bool:
    """The same users could fall into both arms, by scope and interval.

    Scopes of different kinds are not compared: there the more specific one decides.
    """
    if arm.seed != other_arm.seed or mine.scope.kind != other.scope.kind:
        return False
    if mine.scope.kind != "all" and not set(mine.scope.ids) & set(other.scope.ids):
        return False
    start, width = _interval(arm)
    other_start, other_width = _interval(other_arm)
    return (other_start - start) % _UNIT < width or (start - other_start) % _UNIT < other_width


def _pools(
    ordered: Sequence[Instance], policy_of: IntArray, budget_of: IntArray
) -> tuple[IntArray, tuple[Pool, ...]]:
    """Pool of each user and the pools; pool 0 is the configured policy."""
    keys = (policy_of + 1) * (len(ordered) + 1) + budget_of + 1
    distinct, index = np.unique(np.append(keys, 0), return_inverse=True)
    pools = []
    for key in distinct:
        policy, budget = divmod(int(key), len(ordered) + 1)
        pools.append(Pool(ordered[policy - 1] if policy else None, ordered[budget - 1] if budget else None))
    return index[:-1], tuple(pools)
