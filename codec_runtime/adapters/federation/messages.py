"""What travels in a federated round, as MessagePack; weights inside are real safetensors files.

The byte counts of a :class:`RoundRecord` are those of the safetensors files, headers included, envelopes not.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

import msgspec

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file

WEIGHTS_LIMIT = 64 << 20
"""Bytes of an adapter's safetensors file: an adapter is small, or it is no adapter."""

Message = TypeVar("Message")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class FederationError(ValueError):
    """A message that cannot be used; the text says what is wrong with it."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user that can be invited.

    Attributes:
        client: name, unique in the federation.
        group: for reports of fairness between groups, e.g. the modality or the encoder.
        encoder_bytes: size of its frozen encoder's weights: what an update of the encoder would send.
    """

    client: str
    group: str = ""
    encoder_bytes: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.client):
            raise ValueError(f"a user's name is 1 to 64 of A-Z a-z 0-9 _ . -, got {self.client[:80]!r}")
        if self.encoder_bytes < 0:
            raise ValueError(f"encoder_bytes of {self.client} must not be negative, got {self.encoder_bytes}")


class RoundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Server to user: train from these weights.

    Attributes:
        round: from 1.
        client: whom it is for.
        seed: of all of the user's random draws in this round.
        weights: global adapter.
        others: aggregate of last round's other users, to re-score the labels by; empty where there is none.
    """

    round: int
    client: str
    seed: int
    weights: bytes
    others: bytes = b""


class RoundReply(msgspec.Struct, frozen=True, kw_only=True):
    """User to server.

    Attributes:
        round, client: as in the order.
        weights: adapter after training.
        samples: pairs learned from, >= 0.
        confidence: mean confidence in them, in [0, 1].
        loss: mean loss under the weights of the order, >= 0.
        score: quality of the weights of the order at this user, higher is better (recall, RSUM).
        labels: pairs by state of their label.
    """

    round: int
    client: str
    weights: bytes
    samples: int
    confidence: float
    loss: float
    score: float
    labels: dict[str, int] = {}

    def __post_init__(self) -> None:
        if self.samples < 0 or not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"samples {self.samples} or confidence {self.confidence} out of range")
        if not (0.0 <= self.loss < math.inf and math.isfinite(self.score)):
            raise ValueError(f"loss {self.loss} or score {self.score} out of range")


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a round.

    Attributes:
        round: from 1.
        invited, participants: users asked, and those whose update came in time and was taken.
        late: users whose update of an earlier round was folded in.
        stragglers: invited, still members, and silent at the deadline.
        refused: ``client: reason`` of every message that was not taken.
        aggregated: whether the global weights changed; else ``reason`` says why not.
        bytes_down, bytes_up: adapters sent to and received from the users.
        encoder_bytes: what the participants' encoders would have taken in both directions.
        confidence: mean over the participants' pairs in use; 0 without any.
        labels: pairs of the participants by state of their label.
        epsilon: differential privacy spent so far, at the settings' delta; None without.
        scores: of the weights that the round *started from*, by user.
        worst_user, worst_score: lowest of them; empty and None without any.
        groups: mean score by group.
    """

    round: int
    invited: list[str]
    participants: list[str]
    late: list[str]
    stragglers: list[str]
    refused: list[str]
    aggregated: bool
    reason: str
    bytes_down: int
    bytes_up: int
    encoder_bytes: int
    confidence: float
    labels: dict[str, int]
    epsilon: float | None
    scores: dict[str, float]
    worst_user: str
    worst_score: float | None
    groups: dict[str, float]


def encode(message: msgspec.Struct) -> bytes:
    """MessagePack of a message of this module."""
    return msgspec.msgpack.encode(message)


def decode(data: bytes, kind: type[Message]) -> Message:
    """A message of the given kind.

    Raises:
        FederationError: it is none, or a field is out of range.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FederationError(f"not a {kind.__name__}: {error}") from error


def weights_file(weights: Weights) -> bytes:
    """Safetensors; equal weights give equal bytes."""
    return tensor_file(weights)


def read_weights(data: bytes) -> Weights:
    """Tensors of a safetensors file, copied.

    Raises:
        FederationError: too large, not safetensors, or a pickle.
    """
    if len(data) > WEIGHTS_LIMIT:
        raise FederationError(f"weights of {len(data)} bytes, the limit is {WEIGHTS_LIMIT}")
    try:
        return read_tensors(data, parse_header(data, "weights"))
    except BundleError as error:
        raise FederationError(str(error)) from error
