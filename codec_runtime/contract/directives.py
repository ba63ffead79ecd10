"""Directives: what the xApp tells a site to do for each user."""

from __future__ import annotations

from typing import Literal

import msgspec

from codec_runtime.contract.classification import SplitDirective

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
        codec: ``semantic``, or a conventional codec for a device that holds no decoder of any encoder served;
            decoder and versions then say nothing.
    """

    user: str
    prefix: int
    snr_db: float
    decoder: str
    decoder_version: int
    encoder_version: int = 1
    codec: Literal["semantic", "jpeg", "heic"] = "semantic"


class DirectiveBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Changed directives of one decision.

    Attributes:
        issuer: id of the issuing xApp process; a new process starts a new sequence.
        sequence: 1, 2, ... within one issuer. A batch not newer than the last applied one of the same
            issuer is acknowledged and not applied again (idempotent).
        issued_ns: wall clock, nanoseconds since the epoch.
        full: the batch is the whole table: users not in it fall back to the default directive.
        splits: where users cut their classifiers, under the same sequence and the same ``full``.
    """

    issuer: str
    sequence: int
    issued_ns: int
    directives: list[Directive]
    full: bool = False
    splits: list[SplitDirective] = []


class UserDirectives(msgspec.Struct, frozen=True, kw_only=True):
    """What one user is told at present; None where nobody has told anything, and defaults apply."""

    user: str
    codec: Directive | None = None
    split: SplitDirective | None = None


class RejectedDirective(msgspec.Struct, frozen=True, kw_only=True):
    """A directive that the site cannot follow; the user's earlier directive stays in force.

    Attributes:
        about: ``split`` for a :class:`~codec_runtime.contract.classification.SplitDirective`.
    """

    user: str
    reason: str
    about: Literal["codec", "split"] = "codec"


class DirectiveAck(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a batch.

    Attributes:
        instance: id of the runtime process; a change means that it restarted and holds no directives.
        applied: directives now in force from this batch, splits included (0 for a repeated one).
    """

    instance: str
    sequence: int
    applied: int
    rejected: list[RejectedDirective]
