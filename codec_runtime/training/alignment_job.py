"""``python -m codec_runtime.training.alignment_job JOBDIR``: a site's part of a federated adapter update.

Every user of the site is a client of the local engine: rounds of error-aware local training and aggregation
among them (hierarchical federated averaging, Liu et al., ICC 2020: edges aggregate before the cloud does).
Encoders and knowledge base stay as they are. A share of every user's items is held out; the round whose
adapter serves them best is the outcome, and that may be the one before the first.

Reads ``job.msgpack``, ``pairs.safetensors``, ``parent/`` and ``knowledge/`` of the job directory; writes
``update.msgpack`` (:class:`codec_runtime.contract.alignment.AlignmentUpdate`) and the bundle ``candidate/``.
Progress lines, priority, threads and budget as of :mod:`codec_runtime.training.site_job`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import msgspec
import torch

from codec_runtime.adapters.adapter import GraphAdapter
from codec_runtime.adapters.adapter_bundle import load_adapter
from codec_runtime.adapters.aggregation import Weights, update_problems
from codec_runtime.adapters.federation.client import ClientState, LabelledTask
from codec_runtime.adapters.federation.local import InProcess
from codec_runtime.adapters.federation.messages import Member, read_weights, weights_file
from codec_runtime.adapters.federation.server import OpenRound, Server
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.methods.running import RULE
from codec_runtime.adapters.pairs import PairSet, split_pictures
from codec_runtime.adapters.skb import SemanticKnowledgeBase, load_knowledge_base
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.adapters.training import TrainingConfig
from codec_runtime.adapters.user_pairs import UserPairs
from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.files import write_atomic
from codec_runtime.bundle.store import bundle_contents, write_contents
from codec_runtime.bundle.store import read_weights as read_bundle_weights
from codec_runtime.contract.alignment import AlignmentJob, AlignmentUpdate
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.training.job_files import JOB_FILE, PAIRS_FILE, UPDATE_FILE, Progress, emit
from codec_runtime.training.pair_files import read_pairs
from codec_runtime.training.seeds import derived_seed

FEWEST_ITEMS = 16
"""Of a user: with fewer, what is held out says nothing."""
_HELD_OUT = 0.15
_EPOCHS = 2
_TRAINING = TrainingConfig(batch=32, learning_rate=2e-3)


@dataclass(frozen=True)
class Outcome:
    """The adapter that serves held-out pairs best.

    Attributes:
        rounds: that led to it. shares, samples, confidence: of the last of them; see
            :class:`AlignmentUpdate`.
        rsum: mean over the users on pairs held out.
    """

    weights: Weights
    rsum: float
    rounds: int = 0
    shares: Mapping[str, float] | None = None
    samples: int = 0
    confidence: float = 0.0


def run_job(directory: Path, *, started: float) -> Progress:
    """Do the job and write update and candidate.

    Args:
        started: time.monotonic() from which the budget counts.

    Raises:
        BundleError, ValueError, OSError, RuntimeError: the message is the reason.
    """
    job = msgspec.msgpack.decode((directory / JOB_FILE).read_bytes(), type=AlignmentJob)
    torch.manual_seed(job.seed)
    knowledge = load_knowledge_base(directory / "knowledge")
    parent, adapter = load_adapter(directory / "parent", knowledge)
    before: Weights = {name: value.detach().clone() for name, value in adapter.state_dict().items()}
    start = read_weights(job.weights) if job.weights else before
    if problems := update_problems(start, before):
        raise ValueError(f"weights to start from: {'; '.join(problems[:3])}")
    models = user_models(read_pairs(directory / PAIRS_FILE), adapter, knowledge, job.seed)
    if not models:
        raise ValueError(f"no user has {FEWEST_ITEMS} labelled items of encoders that the adapter knows")
    rsum_before = _score(models, before)
    first = Outcome(start, _score(models, start)) if job.weights else Outcome(start, rsum_before)
    best = federate(models, first, job, deadline=started + job.budget_s)
    update = AlignmentUpdate(
        job=job.job, weights=weights_file(best.weights), shares=dict(best.shares or {}), samples=best.samples,
        confidence=best.confidence, rounds=best.rounds, users=len(models), rsum_before=rsum_before,
        rsum_after=best.rsum,
    )
    write_atomic(directory / UPDATE_FILE, msgspec.msgpack.encode(update))
    _write_candidate(directory, job, parent, adapter, models, before, best, rsum_before)
    return Progress(
        progress=1.0, step=best.rounds, heldout_gain_rsum=best.rsum - rsum_before,
        detail=f"{best.rounds} rounds of {len(models)} users: RSUM {rsum_before:.0f} -> {best.rsum:.0f}",
    )


def user_models(
    users: Mapping[str, PairSet], adapter: GraphAdapter, knowledge: SemanticKnowledgeBase, seed: int
) -> dict[str, UserPairs]:
    """Training and held-out pairs of everybody with enough items of encoders that the adapter knows."""
    features = adapter.config.features
    models = {}
    for name, pairs in users.items():
        known = all(
            isinstance(side, Tokens) and features.get(side.encoder) == side.features
            for side in (pairs.images, pairs.texts)
        )
        count = len(pairs.images)
        if not known or count < FEWEST_ITEMS:
            continue
        kept, held_out = split_pictures(count, max(2, round(_HELD_OUT * count)), derived_seed(seed, name))
        models[name] = UserPairs(
            pairs.of_images(kept), pairs.of_images(held_out), knowledge.prototypes, adapter.config, _TRAINING
        )
    return models


def federate(models: Mapping[str, UserPairs], first: Outcome, job: AlignmentJob, deadline: float) -> Outcome:
    """Rounds among the users; a round that would not end before the deadline is not begun.

    Raises:
        RuntimeError: no round changed anything; says what the users' updates were refused for.
    """
    tasks = {name: LabelledTask(model, epochs=_EPOCHS, warm_up=1) for name, model in models.items()}
    # Members' names are short and plain, users' need not be.
    names = {f"u{place}": name for place, name in enumerate(sorted(models))}
    users = InProcess({client: tasks[name] for client, name in names.items()})
    server = Server(
        FederationSettings(seed=job.seed, rule=RULE, quorum=1), first.weights,
        members={client: Member(client=client) for client in names},
    )
    states: dict[str, ClientState] = {}
    best, refused = first, ""
    for number in range(1, job.rounds + 1):
        began = time.monotonic()
        server, orders = server.opened(now=0.0)
        for client, answer in users.answers(orders, dict(states)):
            if isinstance(answer, Exception):
                server = server.failed(client, f"{type(answer).__name__}: {answer}", number)
            else:
                reply, states[client] = answer
                server = server.received(client, reply)
        assert server.open is not None
        shares = shares_of(server.open, server.weights)
        trusted = sum(received.reply.samples for received in server.open.replies.values())
        server, record = server.closed()
        refused = "; ".join([record.reason, *record.refused][:3])
        rsum = _score(models, server.weights)
        if record.aggregated and rsum > best.rsum:
            best = Outcome(server.weights, rsum, number, shares, trusted, record.confidence)
        emit(Progress(
            progress=number / job.rounds, step=number,
            detail=f"round {number}: RSUM {rsum:.0f}, confidence in labels {record.confidence:.2f}",
        ))
        if time.monotonic() + 1.2 * (time.monotonic() - began) > deadline:
            break
    if job.rounds and all(torch.equal(server.weights[name], value) for name, value in first.weights.items()):
        raise RuntimeError(f"no round changed the adapter: {refused or 'no user trusted a pair'}")
    return best


def shares_of(opened: OpenRound, before: Weights) -> dict[str, float]:
    """Of each tensor, the sum of samples x mean confidence of the users that changed it."""
    found: dict[str, float] = {}
    for received in opened.replies.values():
        share = received.reply.samples * received.reply.confidence
        for name, value in received.weights.items():
            if share > 0.0 and not torch.equal(value, before[name]):
                found[name] = found.get(name, 0.0) + share
    return found


def _score(models: Mapping[str, UserPairs], weights: Weights) -> float:
    return fmean(model.score(weights) for model in models.values())


@torch.no_grad()
def _confidence(adapter: GraphAdapter, models: Mapping[str, UserPairs], weights: Weights) -> float:
    """Mean alignment confidence of held-out samples, 0..1."""
    adapter.load_state_dict(weights)
    adapter.eval()
    return fmean(
        float(adapter(side, model.prototypes).confidence.mean())
        for model in models.values() for side in (model.test.images, model.test.texts)
    )


def _write_candidate(
    directory: Path, job: AlignmentJob, parent: BundleManifest, adapter: GraphAdapter,
    models: Mapping[str, UserPairs], before: Weights, best: Outcome, rsum_before: float,
) -> None:
    pairs = sum(model.pairs for model in models.values())
    contents = bundle_contents(
        kind="adapter", name=parent.name, version=job.new_version, architecture=parent.architecture,
        hyperparameters=parent.hyperparameters, state=best.weights, parent=parent.version,
        parent_weights=read_bundle_weights(directory / "parent", parent), compatible=parent.compatible,
        provenance={
            **{key: value for key, value in parent.provenance.items() if key.startswith("encoder ")},
            "recipe": "federated rounds among a site's users, encoders frozen",
            "command": f"python -m codec_runtime.training.alignment_job {directory.name}",
            "seed": str(job.seed), "rounds": str(best.rounds), "users": str(len(models)), "pairs": str(pairs),
            "started_from": "weights of the order" if job.weights else "parent",
        },
        metrics={
            "heldout_gain_rsum": best.rsum - rsum_before, "heldout_rsum_parent": rsum_before,
            "heldout_rsum": best.rsum, "heldout_confidence_parent": _confidence(adapter, models, before),
            "heldout_confidence": _confidence(adapter, models, best.weights),
        },
    )
    write_contents(directory / "candidate", contents)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="alignment_job", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="JOBDIR")
    parser.add_argument("--nice", type=int, default=19, help="niceness of the process (default 19)")
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    torch.set_num_threads(1)
    try:
        emit(run_job(given.directory, started=started))
    except (BundleError, ValueError, OSError, RuntimeError) as error:
        emit(Progress(error=f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
