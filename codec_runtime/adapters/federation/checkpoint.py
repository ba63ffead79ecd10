"""A federation between two rounds on disk: one file, replaced atomically after every round.

Tensors and numbers lie in one :class:`codec_runtime.training.checkpoint.Checkpoint`. The users' memories are
in it only where the engine holds them (``local``); over a network every user keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.client import ClientState
from codec_runtime.adapters.federation.messages import (
    FederationError,
    Member,
    RoundRecord,
    RoundReply,
    decode,
    encode,
)
from codec_runtime.adapters.federation.server import Received, Server
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.training.checkpoint import Checkpoint, Snapshot


@dataclass(frozen=True)
class Progress:
    """How far a federation has come: the server between two rounds, the records, the users' memories."""

    server: Server
    records: Sequence[RoundRecord] = ()
    clients: Mapping[str, ClientState] = field(default_factory=dict)


class FederationCheckpoint:
    """The file of one federation.

    Args:
        path: its file; the folder exists.
        settings: must be those that it was saved with.
    """

    def __init__(self, path: Path, settings: FederationSettings) -> None:
        self._settings = settings
        self._file = Checkpoint(path, {"federation": msgspec.to_builtins(settings)})

    def save(self, progress: Progress) -> None:
        """Replace the file.

        Raises:
            FederationError: a round is open.
        """
        server = progress.server
        if server.open is not None:
            raise FederationError(f"round {server.open.number} is open; a checkpoint lies between two rounds")
        tensors = _prefixed("weights", server.weights)
        for client, weights in server.others.items():
            tensors |= _prefixed(f"others/{client}", weights)
        for number, weights in server.starts.items():
            tensors |= _prefixed(f"starts/{number}", weights)
        for client, arrived in server.waiting.items():
            tensors |= _prefixed(f"waiting/{client}", arrived.weights)
        for client, state in progress.clients.items():
            tensors[f"clients/{client}"] = torch.frombuffer(bytearray(encode(state)), dtype=torch.uint8)
        record = {
            "round": server.round,
            "members": [msgspec.to_builtins(member) for member in server.members.values()],
            "waiting": [
                [client, arrived.bytes, msgspec.to_builtins(arrived.reply)]
                for client, arrived in server.waiting.items()
            ],
            "refused": list(server.refused),
            "records": [msgspec.to_builtins(entry) for entry in progress.records],
        }
        self._file.save(Snapshot(tensors, record))

    def load(self) -> Progress | None:
        """What was saved; None where nothing is.

        Raises:
            codec_runtime.training.checkpoint.DifferentTrainingError: saved with other settings.
            ValueError: the file is no such checkpoint.
        """
        snapshot = self._file.load()
        if snapshot is None:
            return None
        members = msgspec.convert(snapshot.record["members"], list[Member])
        server = Server(
            self._settings,
            _named(snapshot.tensors, "weights"),
            round=snapshot.record["round"],
            members={member.client: member for member in members},
            others={key: _named(snapshot.tensors, f"others/{key}") for key in _keys(snapshot, "others")},
            waiting={
                client: Received(
                    msgspec.convert(reply, RoundReply), _named(snapshot.tensors, f"waiting/{client}"), size
                )
                for client, size, reply in snapshot.record["waiting"]
            },
            refused=tuple(snapshot.record["refused"]),
            starts={int(key): _named(snapshot.tensors, f"starts/{key}") for key in _keys(snapshot, "starts")},
        )
        clients = {
            name.removeprefix("clients/"): decode(bytes(value.tolist()), ClientState)
            for name, value in snapshot.tensors.items()
            if name.startswith("clients/")
        }
        return Progress(server, msgspec.convert(snapshot.record["records"], list[RoundRecord]), clients)


def _prefixed(prefix: str, weights: Weights) -> dict[str, Tensor]:
    # Clones: what no rule averages is one tensor in all of them, and the file's writer refuses shared memory.
    return {f"{prefix}/{name}": tensor.clone() for name, tensor in weights.items()}


def _named(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {
        name.removeprefix(f"{prefix}/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}/")
    }


def _keys(snapshot: Snapshot, prefix: str) -> list[str]:
    """Second part of the names below a prefix, e.g. the users of ``others/<user>/<tensor>``."""
    return sorted({name.split("/")[1] for name in snapshot.tensors if name.startswith(f"{prefix}/")})
