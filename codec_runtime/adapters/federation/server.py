"""The server's side of federated rounds: a pure state machine, without clock, network or disk.

States: *idle* (``open`` is None) and *open*. What moves it:

===========================  =========  ===================================================================
transition                   from       effect
===========================  =========  ===================================================================
:meth:`Server.joined`        any        a member more (or anew); invited from the next round on
:meth:`Server.left`          any        a member less; what it has sent already still counts
:meth:`Server.opened`        idle       invites members; the orders are to be sent
:meth:`Server.received`      any        keeps an update, or its refusal with the reason; never fails
:meth:`Server.failed`        any        notes the reason; the round waits no longer for that user
:meth:`Server.closed`        open       aggregates if enough came, else changes nothing; a record either way
===========================  =========  ===================================================================

1. A round is :meth:`Server.due` to close when every invited member has answered or its deadline has passed.
2. An update that comes later is folded into the round open then, if it is at most ``staleness`` rounds late
   and its user sends no fresh one: its *step*, from the weights it started from, is put on the weights of
   today with ``discount`` of its share for every round. Rules that know no shares, and privacy, drop it
   instead.
3. Updates are aggregated in the order of their users' names, whatever the order of their arrival.
4. Fewer than ``needed`` fresh updates: the weights stay, the round counts, its record says why. With privacy
   it counts for epsilon, too.
5. Every draw is a function of the seed and the round: a server restored from the state between two rounds
   (:mod:`.checkpoint`) goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from codec_runtime.adapters.aggregation import (
    Contribution,
    Weights,
    aggregate,
    flattened,
    unflattened,
    update_problems,
)
from codec_runtime.adapters.federation.messages import (
    FederationError,
    Member,
    RoundOrder,
    RoundRecord,
    RoundReply,
    decode,
    encode,
    read_weights,
    weights_file,
)
from codec_runtime.adapters.federation.records import round_record
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.privacy import private_mean
from codec_runtime.adapters.rescoring import consensus_of_others
from codec_runtime.training.seeds import derived_seed

REFUSALS_LIMIT = 256
"""Refusals noted of a round: a user that floods the server must not fill its memory."""


@dataclass(frozen=True)
class Received:
    """A reply that was taken: its numbers, and its weights apart from the bytes that they came in."""

    reply: RoundReply
    weights: Weights
    bytes: int


@dataclass(frozen=True)
class OpenRound:
    """A round in progress; ``replies`` and ``late`` by user; nobody waits for those that ``failed``."""

    number: int
    invited: tuple[str, ...]
    deadline: float
    bytes_down: int
    replies: Mapping[str, Received] = field(default_factory=dict)
    late: Mapping[str, Received] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Server:
    """State of a federation.

    Attributes:
        round: rounds closed so far.
        weights: global adapter.
        members: by name.
        others: of the last round's participants, the aggregate of all others.
        starts: weights that the last ``staleness`` rounds started from, by round.
        waiting: late updates that came while no round was open, by user.
        refused: ``client: reason`` of what was refused since the last record.
    """

    settings: FederationSettings
    weights: Weights
    round: int = 0
    members: Mapping[str, Member] = field(default_factory=dict)
    others: Mapping[str, Weights] = field(default_factory=dict)
    starts: Mapping[int, Weights] = field(default_factory=dict)
    waiting: Mapping[str, Received] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    open: OpenRound | None = None

    def joined(self, member: Member) -> Server:
        """With a member more; one of the same name is replaced."""
        return replace(self, members={**self.members, member.client: member})

    def left(self, client: str) -> Server:
        """Without that member; unknown names are ignored."""
        return replace(self, members={name: m for name, m in self.members.items() if name != client})

    def opened(self, now: float) -> tuple[Server, dict[str, bytes]]:
        """Begin a round.

        Args:
            now: seconds of any clock, the one that :meth:`due` is asked by.

        Returns:
            The open state and the orders to send, by user; possibly none (too few members).

        Raises:
            FederationError: a round is open.
        """
        if self.open is not None:
            raise FederationError(f"round {self.open.number} is still open")
        number = self.round + 1
        weights = weights_file(self.weights)
        orders: dict[str, bytes] = {}
        down = 0
        for client in self._selected(number):
            others = weights_file(self.others[client]) if client in self.others else b""
            seed = derived_seed(self.settings.seed, "train", number, client)
            orders[client] = encode(
                RoundOrder(round=number, client=client, seed=seed, weights=weights, others=others)
            )
            down += len(weights) + len(others)
        opened = OpenRound(number, tuple(orders), now + self.settings.deadline_s, down, late=self.waiting)
        return replace(self, open=opened, waiting={}), orders

    def received(self, client: str, data: bytes) -> Server:
        """Take in what a user has sent.

        Args:
            client: who it came from, as the transport knows it.
            data: a :class:`RoundReply` as bytes, or anything.
        """
        try:
            arrived = self._checked(client, data)
        except FederationError as error:
            return self._refuse(client, str(error))
        if self.open is None:
            return replace(self, waiting={**self.waiting, client: arrived})
        if arrived.reply.round == self.open.number:
            return replace(self, open=replace(self.open, replies={**self.open.replies, client: arrived}))
        return replace(self, open=replace(self.open, late={**self.open.late, client: arrived}))

    def failed(self, client: str, reason: str, number: int) -> Server:
        """A user says, or its transport does, that it will not answer the order of round ``number``."""
        state = self._refuse(client, reason)
        if state.open is None or state.open.number != number:
            return state
        return replace(state, open=replace(state.open, failed=state.open.failed | {client}))

    def due(self, now: float) -> bool:
        """Whether the open round is over: all that can answer have, or the deadline has passed."""
        if self.open is None:
            return False
        answered = self.open.replies.keys() | self.open.failed
        silent = [client for client in self.open.invited if client in self.members and client not in answered]
        return not silent or now >= self.open.deadline

    def closed(self) -> tuple[Server, RoundRecord]:
        """End the open round.

        Raises:
            FederationError: no round is open.
        """
        now = self.open
        if now is None:
            raise FederationError("no round is open")
        fresh = self._contributions(now.replies)
        folded = self._contributions({c: u for c, u in now.late.items() if c not in now.replies}, now.number)
        needed = self.settings.needed
        enough = len(fresh) >= needed
        weights, others = self.weights, dict[str, Weights]()
        if enough:
            everyone = sorted((*fresh, *folded), key=lambda contribution: contribution.client)
            weights = self._aggregated(everyone, now.number)
            if self.settings.shares_consensus:
                others = consensus_of_others(self.settings.rule, self.weights, everyone)
        record = round_record(
            self.settings,
            now.number,
            members=self.members,
            invited=now.invited,
            replies={client: received.reply for client, received in now.replies.items()},
            late=[contribution.client for contribution in folded] if enough else [],
            refused=self.refused,
            bytes_down=now.bytes_down,
            bytes_up=sum(u.bytes for u in (*now.replies.values(), *now.late.values())),
            reason="" if enough else f"{len(fresh)} usable updates, {needed} are needed",
        )
        starts = {**self.starts, now.number: self.weights}
        oldest = now.number - self.settings.staleness
        state = replace(
            self,
            round=now.number,
            weights=weights,
            others=others,
            starts={number: start for number, start in starts.items() if number > oldest},
            refused=(),
            open=None,
        )
        return state, record

    def _selected(self, number: int) -> list[str]:
        """Members of a round, sorted; none where they cannot be enough."""
        names = sorted(self.members)
        if len(names) < self.settings.needed:
            return []
        generator = torch.Generator().manual_seed(derived_seed(self.settings.seed, "select", number))
        if self.settings.privacy is not None:
            draws = torch.rand(len(names), generator=generator, dtype=torch.float64).tolist()
            return [name for name, draw in zip(names, draws, strict=True) if draw < self.settings.fraction]
        count = max(self.settings.needed, round(self.settings.fraction * len(names)))
        return sorted(names[i] for i in torch.randperm(len(names), generator=generator)[:count].tolist())

    def _checked(self, client: str, data: bytes) -> Received:
        reply = decode(data, RoundReply)
        if reply.client != client:
            raise FederationError(f"signs as {reply.client[:64]!r}")
        current = self.open.number if self.open else self.round + 1
        if reply.round == current and self.open is not None:
            if client not in self.open.invited:
                raise FederationError(f"was not invited to round {current}")
            if client in self.open.replies:
                raise FederationError(f"answers round {current} twice")
        elif not self.settings.folds_late_updates:
            raise FederationError(f"answers round {reply.round}; late updates are dropped")
        elif reply.round not in self.starts:
            raise FederationError(f"answers round {reply.round}, which is no longer or not yet open")
        weights = read_weights(reply.weights)
        if problems := update_problems(weights, self.weights):
            raise FederationError("; ".join(problems[:3]))
        return Received(_without_weights(reply), weights, len(reply.weights))

    def _refuse(self, client: str, reason: str) -> Server:
        if len(self.refused) >= REFUSALS_LIMIT:
            return self
        return replace(self, refused=(*self.refused, f"{client}: {reason}"))

    def _contributions(self, updates: Mapping[str, Received], folded_into: int = 0) -> list[Contribution]:
        """Usable updates by name: those whose user trusted at least one pair; late ones moved to today."""
        found = []
        for client in sorted(updates):
            reply, weights = updates[client].reply, updates[client].weights
            share = reply.samples * reply.confidence
            if folded_into:
                step = flattened(weights) - flattened(self.starts[reply.round])
                weights = unflattened(flattened(self.weights) + step, self.weights)
                share *= self.settings.discount ** (folded_into - reply.round)
            if share > 0.0:
                found.append(Contribution(client, weights, share, reply.loss))
        return found

    def _aggregated(self, contributions: list[Contribution], number: int) -> Weights:
        privacy = self.settings.privacy
        if privacy is None:
            return aggregate(self.settings.rule, self.weights, contributions)
        expected = max(1.0, self.settings.fraction * len(self.members))
        updates = [contribution.weights for contribution in contributions]
        return private_mean(
            self.weights, updates, privacy, expected, derived_seed(privacy.secret, "noise", number)
        )


def _without_weights(reply: RoundReply) -> RoundReply:
    return RoundReply(**{name: getattr(reply, name) for name in reply.__struct_fields__} | {"weights": b""})
