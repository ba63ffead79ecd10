"""Directives: what the xApp tells a site to do for each user."""

from __future__ import annotations

from typing import Literal

import msgspec

ConventionalCodec = Literal["heic", "jpeg"]

RATE_DENOMINATOR = 96
"""A prefix of k latent channels is bandwidth ratio R = k / 96, complex symbols per source value."""


class Directive(msgspec.Struct, frozen=True, kw_only=True):
    """How one user's pictures are to be sent from now on.

    Attributes:
        user: user id, ``ue-<AMF UE NGAP ID>`` for a gNB user.
        prefix: latent channels to send, 1..c; bandwidth ratio R = prefix / 96.
        snr_db: channel estimate the encoder conditions on, dB per complex symbol.
        decoder: decoder family, e.g. ``attention`` or ``conv``.
        decoder_version: version of that decoder's bundle.
        encoder_version: version of the encoder bundle the decoder belongs to.
        split_point: index of the DNN split, None where the codec is not split.
        codec: ``semantic``, or a conventional codec for a device that holds no decoder of any encoder served;
            decoder and versions then say nothing.
    """

    user: str
    prefix: int
    snr_db: float
    decoder: str
    decoder_version: int
    encoder_version: int = 1
    split_point: int | None = None
    codec: Literal["semantic", "jpeg", "heic"] = "semantic"


class DirectiveBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changed directives of one decision.

    Attributes:
        issuer: id of the issuing xApp process; a new process starts a new sequence.
        sequence: 1, 2, ... within one issuer. A batch not newer than the last applied one of the same
            issuer is acknowledged and not applied again (idempotent).
        issued_ns: wall clock, nanoseconds since the epoch.
        full: the batch is the whole table: users not in it fall back to the default directive.
    """

    issuer: str
    sequence: int
    issued_ns: int
    directives: list[Directive]
    full: bool = False


class RejectedDirective(msgspec.Struct, frozen=True, kw_only=True):
    """A directive that the site cannot follow; the user's earlier directive stays in force."""

    user: str
    reason: str


class DirectiveAck(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a batch.

    Attributes:
        instance: id of the runtime process; a change means that it restarted and holds no directives.
        applied: directives now in force from this batch (0 for a repeated one).
    """

    instance: str
    sequence: int
    applied: int
    rejected: list[RejectedDirective]
