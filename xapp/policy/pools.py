"""Policies at work under A1 instances: one policy object a pool, decisions put together again.

Without instances the configured policy decides, exactly as if this module were not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from msgspec import UNSET

from xapp.policy.decision import Decision, Observation, Policy, make_policy
from xapp.policy.objectives import Objectives, Pool, UsersView, check_arms, resolve
from xapp.ric.a1.instances import Instance
from xapp.ric.a1.policy_type import A1Policy


@dataclass(frozen=True, slots=True)
class ConfiguredPolicy:
    """What decides where no instance says otherwise.

    Attributes:
        name: in the registry.
        parameters: all of them, with ``quality_target_db`` and ``budget_prefix``, which every policy takes.
    """

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    def make(self) -> Policy:
        """The policy. Raises UnknownPolicyError."""
        return make_policy(self.name, self.parameters)

    def under(self, policy: A1Policy | None, budget: A1Policy | None) -> Policy:
        """The policy of a pool: named by one instance, its budget set by another (None: no instance does).

        A policy of another name takes over the configured target and budget, and no other parameter.

        Raises:
            UnknownPolicyError: no such policy or parameter.
        """
        name, parameters = self.name, dict(self.parameters)
        if policy is not None and policy.policy is not UNSET:
            if policy.policy.name != name:
                name = policy.policy.name
                common = ("quality_target_db", "budget_prefix")
                parameters = {key: parameters[key] for key in common if key in parameters}
            parameters.update(policy.policy.parameters)
        limits = UNSET if budget is None else budget.constraints
        if limits is not UNSET and limits.budget_prefix is not UNSET:
            parameters["budget_prefix"] = limits.budget_prefix
        return make_policy(name, parameters)


class PolicyPools:
    """Decides for users under different instances.

    Args:
        configured: see :class:`ConfiguredPolicy`.
        policy: its policy object, when there is one already.

    Attributes:
        last: objectives of the last decision under the instances in force, None for none.

    Raises:
        UnknownPolicyError: the configured policy does not exist.
    """

    def __init__(self, configured: ConfiguredPolicy, policy: Policy | None = None) -> None:
        self.last: Objectives | None = None
        self._last_view: UsersView | None = None
        self._configured = configured
        self._default = configured.make() if policy is None else policy
        self._instances: tuple[Instance, ...] = ()
        self._policies: dict[tuple[Any, ...], Policy] = {}

    @property
    def last_users(self) -> Sequence[str]:
        """Users of :attr:`last`."""
        return () if self._last_view is None else self._last_view.users

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Instances in force."""
        return self._instances

    def configure(self, configured: ConfiguredPolicy) -> None:
        """Another configured policy from now on; all policies start without state.

        Raises:
            UnknownPolicyError: no such policy or parameter, also together with an instance in force; nothing
                changed.
        """
        default = configured.make()
        for instance in self._instances:
            configured.under(instance.policy, instance.policy)
        self._default, self._configured = default, configured
        self._policies = {}

    def check(self, policy: A1Policy, others: Mapping[str, A1Policy]) -> None:
        """Whether an instance that keeps to the policy type can be followed.

        Raises:
            ValueError: its policy or a parameter is not known, a parameter is a constraint, too, or its arm
                overlaps another one.
        """
        if policy.policy is not UNSET:
            for name in ("budget_prefix", "quality_target_db"):
                limit = UNSET if policy.constraints is UNSET else getattr(policy.constraints, name)
                if limit is not UNSET and name in policy.policy.parameters:
                    raise ValueError(f"{name} is a constraint and a policy parameter: one of them is needed")
            self._configured.under(policy, policy)
        check_arms(policy, others)

    def replace(self, instances: Sequence[Instance]) -> None:
        """From now on these instances are in force. Policies of unchanged instances keep their state."""
        self._instances = tuple(instances)
        self.last, self._last_view = None, None

    def decide(self, observation: Observation, view: UsersView | None = None) -> Decision:
        """One decision for all users; ``view`` has the users of ``observation``, in the same order.

        Without a view nobody is governed.
        """
        if not self._instances or view is None:
            return self._default.decide(observation)
        if self.last is None or self._last_view is None or not view.same_as(self._last_view):
            self.last, self._last_view = resolve(self._instances, view), view
        objectives = self.last
        observed = apply(objectives, observation)
        policies: dict[tuple[Any, ...], Policy] = {}
        decided: list[tuple[np.ndarray[Any, Any], Decision]] = []
        for index, pool in enumerate(objectives.pools):
            rows = np.flatnonzero(objectives.pool == index)
            policy = self._policy(pool, policies)
            if len(rows) == len(observed):
                decision = policy.decide(observed)
                decided = [(rows, decision)]
            elif len(rows):
                decided.append((rows, policy.decide(observed.take(rows))))
        self._policies = policies
        return decided[0][1] if len(decided) == 1 else merge(observation, decided)

    def describe(self) -> list[dict[str, Any]]:
        """Instances in force, for people: scope, what is set, and how many users it governed last."""
        governed = {} if self.last is None else self.last.governed
        return [
            {
                "instance": instance.instance_id,
                "scope": instance.policy.scope.kind,
                "ids": list(instance.policy.scope.ids),
                "arm": "" if instance.policy.experiment is UNSET else instance.policy.experiment.arm,
                "sets": [
                    name
                    for name in ("weights", "constraints", "policy", "experiment")
                    if getattr(instance.policy, name) is not UNSET
                ],
                "users": governed.get(instance.instance_id, 0),
            }
            for instance in self._instances
        ]

    def _policy(self, pool: Pool, used: dict[tuple[Any, ...], Policy]) -> Policy:
        """Policy object of a pool; it is kept as long as the instances that define it stay as they are."""
        if pool.policy is None and pool.budget is None:
            return self._default
        key = tuple(None if i is None else (i.instance_id, i.order) for i in (pool.policy, pool.budget))
        policy = self._policies.get(key)
        if policy is None:
            policy = self._configured.under(
                None if pool.policy is None else pool.policy.policy,
                None if pool.budget is None else pool.budget.policy,
            )
        used[key] = policy
        return policy


def apply(objectives: Objectives, observation: Observation) -> Observation:
    """The observation with targets, limits and weights; what nobody set stays out."""
    target = objectives.quality_target_db
    cap = objectives.max_prefix
    share = objectives.quality_share
    return replace(
        observation,
        quality_target_db=target if np.isfinite(target).any() else None,
        max_prefix=cap if np.isfinite(cap).any() else None,
        quality_share=share if (share < 1.0).any() else None,
    )


def merge(observation: Observation, decided: Sequence[tuple[np.ndarray[Any, Any], Decision]]) -> Decision:
    """Decisions of disjoint rows as one; its summary is the mean over pools, weighted by pictures sent."""
    prefix = np.zeros(len(observation), np.int64)
    expected = np.zeros(len(observation))
    sent = np.array([observation.weight[rows].sum() for rows, _ in decided])
    share = sent / sent.sum() if len(decided) else sent
    for rows, decision in decided:
        prefix[rows] = decision.prefix
        expected[rows] = decision.expected_psnr_db

    def mean(name: str) -> float:
        return float(share @ np.array([getattr(decision, name) for _, decision in decided], np.float64))

    return Decision(
        prefix=prefix,
        expected_psnr_db=expected,
        mean_prefix=mean("mean_prefix"),
        predicted_miss=mean("predicted_miss"),
        predicted_psnr_db=mean("predicted_psnr_db"),
        uniform_psnr_db=mean("uniform_psnr_db"),
        miss_weight=mean("miss_weight"),
        details={"pools": float(len(decided))},
    )
