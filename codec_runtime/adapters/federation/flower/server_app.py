"""The federation as a Flower ServerApp: carries bytes between the server's state machine and the SuperNodes.

Flower authenticates nodes by their keys; the name under which a node takes part is its own claim, so a name
belongs to the first node that claims it, for as long as that node is connected.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from codec_runtime.adapters.federation.checkpoint import FederationCheckpoint, Progress
from codec_runtime.adapters.federation.messages import (
    FederationError,
    Member,
    decode,
    read_weights,
    weights_file,
)
from codec_runtime.adapters.federation.server import Server
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.bundle.files import write_atomic

LOG = logging.getLogger(__name__)

POLL_S = 0.2
INTRODUCTION_S = 60.0
"""Seconds after which an unanswered introduction is asked for again."""


@dataclass
class Network:
    """Who is connected, and which answers are outstanding.

    Attributes:
        nodes: node id by user.
        asked: introductions that are outstanding: message id -> (node id, when asked).
        orders: orders that are outstanding, those of past rounds included: message id -> (user, round).
    """

    grid: Grid
    clock: Callable[[], float] = time.monotonic
    nodes: dict[str, int] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    orders: dict[str, tuple[str, int]] = field(default_factory=dict)

    def send(self, kind: str, node: int, data: bytes, ttl_s: float) -> str | None:
        """Push one message; its id, None where the SuperLink did not take it."""
        content = RecordDict({"semcom": ConfigRecord({"data": data})})
        message = Message(content, dst_node_id=node, message_type=kind, ttl=ttl_s)
        return next(iter(self.grid.push_messages([message])), None) or None

    def pull(self, waiting: Iterable[str]) -> list[tuple[str, Message]]:
        """Answers that have come, with the id of what they answer."""
        ids = list(waiting)
        if not ids:
            return []
        return [(message.metadata.reply_to_message_id, message) for message in self.grid.pull_messages(ids)]

    def meet(self) -> None:
        """Ask new nodes who they are, take in the answers, forget the users of nodes that are gone."""
        connected = set(self.grid.get_node_ids())
        for client, node in list(self.nodes.items()):
            if node not in connected:
                LOG.warning("user %s is gone", client)
                del self.nodes[client], self.members[client]
        now = self.clock()
        self.asked = {
            k: v for k, v in self.asked.items() if now - v[1] < INTRODUCTION_S and v[0] in connected
        }
        known = {*self.nodes.values(), *(node for node, _ in self.asked.values())}
        for node in sorted(connected - known):
            if sent := self.send("query", node, b"", INTRODUCTION_S):
                self.asked[sent] = (node, now)
        for asked, message in self.pull(self.asked):
            node, _ = self.asked[asked]
            try:
                member = decode(_data(message), Member)
            except FederationError as error:
                # It stays among the asked, so that it is asked again only after a while.
                LOG.warning("node %d does not say who it is: %s", node, error)
                continue
            del self.asked[asked]
            if member.client in self.nodes:
                LOG.warning("node %d calls itself %s, as another one does", node, member.client)
                continue
            self.nodes[member.client], self.members[member.client] = node, member


def run_round(server: Server, network: Network, sleep: Callable[[float], None] = time.sleep) -> Server:
    """Open a round, carry orders and answers until it is due; the server with the round still open."""
    settings = server.settings
    server, orders = replace(server, members=dict(network.members)).opened(network.clock())
    for client, order in orders.items():
        sent = network.send(
            "train", network.nodes[client], order, settings.deadline_s * (1 + settings.staleness)
        )
        if sent is None:
            server = server.failed(client, "the SuperLink did not take the order", server.round + 1)
        else:
            network.orders[sent] = (client, server.round + 1)
    while not server.due(network.clock()):
        for answered, message in network.pull(network.orders):
            client, number = network.orders.pop(answered)
            try:
                server = server.received(client, _data(message))
            except FederationError as error:
                server = server.failed(client, str(error), number)
        network.meet()
        server = replace(server, members=dict(network.members))
        sleep(POLL_S)
    return server


def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left."""
    config = context.run_config
    state = Path(str(config["state-dir"]))
    state.mkdir(parents=True, exist_ok=True)
    settings = FederationSettings()
    if config["settings"]:
        settings = msgspec.json.decode(Path(str(config["settings"])).read_bytes(), type=FederationSettings)
    checkpoint = FederationCheckpoint(state / "federation.safetensors", settings)
    progress = checkpoint.load()
    if progress is None:
        progress = Progress(Server(settings, read_weights(Path(str(config["weights"])).read_bytes())))
    network = Network(grid)
    wait_until = time.monotonic() + float(config["join-s"])
    wanted = max(settings.needed, int(config["users"]))
    while progress.server.round < int(config["rounds"]):
        network.meet()
        if len(network.members) < wanted and time.monotonic() < wait_until:
            time.sleep(POLL_S)
            continue
        server, record = run_round(progress.server, network).closed()
        progress = Progress(server, (*progress.records, record))
        checkpoint.save(progress)
        write_atomic(state / "records.json", msgspec.json.encode(list(progress.records)))
        LOG.info("round %d: %s", record.round, msgspec.json.encode(record).decode())
        # A federation that has lost its quorum waits for it as it did at first.
        wait_until, wanted = time.monotonic() + float(config["join-s"]), settings.needed
    write_atomic(state / "weights.safetensors", weights_file(progress.server.weights))


def _data(message: Message) -> bytes:
    """What a user sent.

    Raises:
        FederationError: an error, or not what this app's users send.
    """
    if message.has_error():
        raise FederationError(f"Flower: {message.error.reason}")
    try:
        return bytes(message.content["semcom"]["data"])
    except (KeyError, TypeError) as error:
        raise FederationError(f"no data in the message: {error}") from error


app = ServerApp()
app.main()(main)
