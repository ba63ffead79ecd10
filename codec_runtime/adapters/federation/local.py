"""Engine ``local``: all users on this machine, in this process or in a few; the bytes are those of a network.

Orders and replies pass through the same MessagePack and safetensors as over a network, so byte counts and
refusals are real. Users answer one after another or side by side; the server sorts by name, so the result is
the same. It is so bit for bit where every process uses as many threads as this one: sums within torch depend
on it.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

import torch

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.checkpoint import FederationCheckpoint, Progress
from codec_runtime.adapters.federation.client import ClientState, LocalTask, respond
from codec_runtime.adapters.federation.messages import Member, RoundRecord
from codec_runtime.adapters.federation.server import Server
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.federation.tasks import TaskFactory, load_factory

LOG = logging.getLogger(__name__)

Answer = tuple[bytes, ClientState] | Exception


class Users(Protocol):
    """Those who answer orders."""

    def answers(
        self, orders: Mapping[str, bytes], states: Mapping[str, ClientState]
    ) -> Iterable[tuple[str, Answer]]:
        """A user's reply and new state, or why there is none, for every order; in any order."""
        ...


class InProcess:
    """Users of this process, one after another."""

    def __init__(self, tasks: Mapping[str, LocalTask]) -> None:
        self._tasks = tasks

    def answers(
        self, orders: Mapping[str, bytes], states: Mapping[str, ClientState]
    ) -> Iterator[tuple[str, Answer]]:
        """See :class:`Users`."""
        for client, order in orders.items():
            yield client, _answer(client, self._tasks.get(client), order, states.get(client, ClientState()))


class WorkerProcesses:
    """Users spread over worker processes, each of which makes the tasks that it is asked for.

    Args:
        factory: ``module:function``, a :data:`TaskFactory`.
        options: handed to it.
        processes: number of workers.
        threads: torch threads of each.
    """

    def __init__(self, factory: str, options: Mapping[str, str], processes: int, threads: int = 1) -> None:
        # A fork would copy torch's thread pool in whatever state it is.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, context, _start_worker, (factory, dict(options), threads))

    def __enter__(self) -> WorkerProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def answers(
        self, orders: Mapping[str, bytes], states: Mapping[str, ClientState]
    ) -> Iterator[tuple[str, Answer]]:
        """See :class:`Users`."""
        futures = {
            client: self._pool.submit(_answer_in_worker, client, order, states.get(client, ClientState()))
            for client, order in orders.items()
        }
        for client, future in futures.items():
            try:
                yield client, future.result()
            except Exception as error:  # a worker that died, or what the task raised
                yield client, error


class LocalEngine:
    """Runs rounds to their end, one after another, with a checkpoint after each.

    Args:
        settings: of the federation.
        weights: global adapter to begin with; not used where the checkpoint holds one.
        members: who takes part; of a federation that goes on, who takes part from now on.
        users: who answers.
        checkpoint: file to write after every round and to go on from; its folder exists.

    Raises:
        codec_runtime.training.checkpoint.DifferentTrainingError: the checkpoint is of other settings.
    """

    def __init__(
        self,
        settings: FederationSettings,
        weights: Weights,
        members: Sequence[Member],
        users: Users,
        checkpoint: Path | None = None,
    ) -> None:
        self._users = users
        self._file = FederationCheckpoint(checkpoint, settings) if checkpoint else None
        progress = (self._file.load() if self._file else None) or Progress(Server(settings, weights))
        server = replace(progress.server, members={member.client: member for member in members})
        self._progress = replace(progress, server=server)

    @property
    def weights(self) -> Weights:
        """Global adapter after the rounds so far."""
        return self._progress.server.weights

    @property
    def records(self) -> Sequence[RoundRecord]:
        """Of all rounds so far, those before a restart included."""
        return self._progress.records

    @property
    def states(self) -> Mapping[str, ClientState]:
        """The users' memories."""
        return self._progress.clients

    def join(self, member: Member) -> None:
        """A member more, from the next round on."""
        self._progress = replace(self._progress, server=self._progress.server.joined(member))

    def leave(self, client: str) -> None:
        """A member less, from the next round on."""
        self._progress = replace(self._progress, server=self._progress.server.left(client))

    def run_round(self) -> RoundRecord:
        """One round. A user that fails is noted in the record; the round goes on without it."""
        server, orders = self._progress.server.opened(now=0.0)
        states = dict(self._progress.clients)
        for client, answer in self._users.answers(orders, states):
            if isinstance(answer, Exception):
                LOG.warning("user %s has no update: %s", client, answer)
                server = server.failed(client, f"{type(answer).__name__}: {answer}", server.round + 1)
            else:
                reply, states[client] = answer
                server = server.received(client, reply)
        server, record = server.closed()
        self._progress = Progress(server, (*self._progress.records, record), states)
        if self._file is not None:
            self._file.save(self._progress)
        return record

    def run(self, rounds: int, on_record: Callable[[RoundRecord], None] | None = None) -> list[RoundRecord]:
        """Go on until ``rounds`` in all are done; the records of those run now."""
        found = []
        while self._progress.server.round < rounds:
            found.append(self.run_round())
            if on_record is not None:
                on_record(found[-1])
        return found


_worker_tasks: dict[str, LocalTask] = {}
_worker_factory: list[tuple[TaskFactory, Mapping[str, str]]] = []


def _start_worker(factory: str, options: Mapping[str, str], threads: int) -> None:
    torch.set_num_threads(threads)
    _worker_factory[:] = [(load_factory(factory), options)]


def _answer_in_worker(client: str, order: bytes, state: ClientState) -> tuple[bytes, ClientState]:
    if client not in _worker_tasks:
        make, options = _worker_factory[0]
        _worker_tasks[client] = make(client, options)
    return respond(client, _worker_tasks[client], order, state)


def _answer(client: str, task: LocalTask | None, order: bytes, state: ClientState) -> Answer:
    try:
        if task is None:
            raise KeyError(f"no user {client} here")
        return respond(client, task, order, state)
    except Exception as error:  # a user's bug or data must not end the federation
        return error
