"""Run an update method round by round, and measure every user after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Rule, Weights
from codec_runtime.adapters.evaluation import Retrieval, fairness, retrieval
from codec_runtime.adapters.federation.local import InProcess, LocalEngine
from codec_runtime.adapters.federation.messages import Member
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.methods.problem import Federation, UpdateMethod, UpdateProblem
from codec_runtime.adapters.tracking import LabelStates
from codec_runtime.adapters.training import embed, new_adapter
from codec_runtime.adapters.views import SampleTokens, with_view_edges

RULE = Rule(holders=True)


@dataclass(frozen=True)
class RoundScores:
    """After a round, 0 being before the first.

    Attributes:
        users: retrieval of each on the test pairs.
        held_out: mean RSUM of the users on pairs of their own that they do not train on, labels as given:
            what a user can know.
    """

    round: int
    users: Mapping[str, Retrieval]
    held_out: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the mean over the users, the worst, and all."""
        told = fairness(self.users)
        return {
            "round": self.round, "rsum": told.mean, "worst": told.worst, "worst_user": told.worst_user,
            "held_out": self.held_out, "users": {name: found.rsum for name, found in self.users.items()},
        }


@dataclass(frozen=True)
class MethodRun:
    """What became of an update.

    Attributes:
        curve: round 0 and every round.
        bytes_up, bytes_down: adapters sent and received in all rounds; 0 where nothing is aggregated.
        labels: share of wrong pairs still learned from (``wrong_kept``) and of right ones left out
            (``right_dropped``) at the end; empty for methods without a state per user.
    """

    curve: list[RoundScores]
    bytes_up: int
    bytes_down: int
    labels: dict[str, float]

    @property
    def chosen(self) -> RoundScores:
        """The round where the users' held-out pairs score best, the earlier of equals: early stopping."""
        return max(self.curve, key=lambda scores: (scores.held_out, -scores.round))


class Examination:
    """Retrieval of users on the test pairs; users of equal encoders and weights are computed once.

    Args:
        problem, method: whose view of the data.
    """

    def __init__(self, problem: UpdateProblem, method: UpdateMethod) -> None:
        variant = method.variant
        config = variant.config(problem)
        self._adapter = new_adapter(config, problem.seed)
        self._prototypes = problem.prototypes
        self._tokens: dict[str, SampleTokens] = {}
        self._users = {user.name: variant.samples(user).encoders for user in problem.users}
        for user in problem.users:
            test = variant.samples(user).test
            self._owner = test.owner
            for tokens in (test.images, test.texts):
                if tokens.encoder not in self._tokens:
                    self._tokens[tokens.encoder] = (
                        with_view_edges(tokens, config.neighbours) if config.neighbours else tokens
                    )

    def measured(self, weights: Weights, users: Mapping[str, object]) -> dict[str, Retrieval]:
        """Of each of ``users``."""
        self._adapter.load_state_dict(weights)
        needed = {encoder for name in users for encoder in self._users[name]}
        embedded: dict[str, Tensor] = {
            name: embed(self._adapter, self._tokens[name], self._prototypes) for name in sorted(needed)
        }
        kinds: dict[tuple[str, str], Retrieval] = {}
        for name in users:
            images, texts = kind = self._users[name]
            if kind not in kinds:
                kinds[kind] = retrieval(embedded[images], embedded[texts], self._owner)
        return {name: kinds[self._users[name]] for name in users}


def run_method(
    method: UpdateMethod, problem: UpdateProblem, rounds: int,
    on_round: Callable[[RoundScores], object] | None = None,
) -> MethodRun:
    """Train for ``rounds`` rounds; a function of its arguments."""
    test = Examination(problem, method)
    federations = method.federations(problem)
    engines = [_engine(federation, problem) for federation in federations]
    curve: list[RoundScores] = []
    for number in range(rounds + 1):
        users: dict[str, Retrieval] = {}
        held_out: list[float] = []
        for federation, engine in zip(federations, engines, strict=True):
            if number:
                _refuse_failures(engine.run_round().refused)
            users |= test.measured(engine.weights, federation.models)
            held_out += [model.score(engine.weights) for model in federation.models.values()]
        curve.append(RoundScores(number, users, fmean(held_out)))
        if on_round is not None:
            on_round(curve[-1])
    records = [record for engine in engines for record in engine.records]
    together = any(len(federation.tasks) > 1 for federation in federations)
    return MethodRun(
        curve,
        sum(record.bytes_up for record in records) if together else 0,
        sum(record.bytes_down for record in records) if together else 0,
        _labels(problem, engines),
    )


def _engine(federation: Federation, problem: UpdateProblem) -> LocalEngine:
    settings = FederationSettings(
        seed=problem.seed, rule=RULE, quorum=min(2, len(federation.tasks)), rescoring=federation.rescoring
    )
    encoders = {user.name: "-".join(user.own.encoders) for user in problem.users}
    members = [Member(client=name, group=encoders.get(name, "")) for name in federation.tasks]
    return LocalEngine(settings, federation.start, members, InProcess(federation.tasks))


def _refuse_failures(refused: list[str]) -> None:
    """A user's failure would end no federation, but it would spoil a measurement."""
    if refused:
        raise RuntimeError(f"users failed: {'; '.join(refused[:3])}")


def _labels(problem: UpdateProblem, engines: list[LocalEngine]) -> dict[str, float]:
    states = {name: state.after for engine in engines for name, state in engine.states.items() if state.after}
    pairs = [
        (LabelStates.from_bytes(states[user.name]).in_gradient, user.wrong)
        for user in problem.users if user.name in states
    ]
    if not pairs:
        return {}
    learned, wrong = torch.cat([own for own, _ in pairs]), torch.cat([truth for _, truth in pairs])
    kept = {"wrong_kept": (learned & wrong, wrong), "right_dropped": (~learned & ~wrong, ~wrong)}
    return {
        name: float(part.sum() / whole.sum()) for name, (part, whole) in kept.items() if bool(whole.any())
    }
