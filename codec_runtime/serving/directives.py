"""The table of directives in force at this site.

Rules:

1. Batches of one issuer apply in order of ``sequence``; one that is not newer is acknowledged, not applied.
2. A new issuer (another xApp process) starts its own sequence.
3. A directive that the loaded models cannot follow is rejected with a reason; the user's earlier one stays.
4. A full batch replaces the table: users not in it fall back to the default directive.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.directives import Directive, DirectiveBatch, RejectedDirective
from codec_runtime.serving.inference import SNR_LIMITS_DB, latent_channels
from codec_runtime.serving.registry import Models, UnknownModelError

DEFAULT_PREFIX = 6
DEFAULT_SNR_DB = 7.0
MAX_USERS = 100_000
MAX_USER_LENGTH = 128
_MAX_ISSUERS = 64


class DirectiveTable:
    """Directives by user. Written by one thread (the event loop), read by any."""

    def __init__(self) -> None:
        self._by_user: dict[str, Directive] = {}
        self._applied: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_user)

    def in_force(self, user: str) -> Directive | None:
        """The user's directive, None if the default applies."""
        return self._by_user.get(user)

    def decoders_in_force(self) -> frozenset[tuple[str, int]]:
        """(family, version) of every decoder that some user is told to use."""
        return frozenset((d.decoder, d.decoder_version) for d in self._by_user.values())

    def apply(self, batch: DirectiveBatch, models: Models) -> tuple[int, list[RejectedDirective]]:
        """Apply a batch.

        Returns:
            (directives now in force from this batch, rejected ones); (0, []) for a repeated batch.
        """
        if batch.sequence <= self._applied.get(batch.issuer, 0):
            return 0, []
        table = {} if batch.full else dict(self._by_user)
        rejected: list[RejectedDirective] = []
        applied = 0
        for directive in batch.directives:
            reason = refusal(directive, models)
            if not reason and directive.user not in table and len(table) >= MAX_USERS:
                reason = f"table full: {MAX_USERS} users already have a directive"
            if reason:
                rejected.append(RejectedDirective(user=directive.user[:MAX_USER_LENGTH], reason=reason))
                if directive.user in self._by_user:
                    table.setdefault(directive.user, self._by_user[directive.user])
            else:
                table[directive.user] = directive
                applied += 1
        self._by_user = table  # one assignment: readers see the old table or the new one
        self._applied[batch.issuer] = batch.sequence
        self._applied.move_to_end(batch.issuer)
        if len(self._applied) > _MAX_ISSUERS:
            self._applied.popitem(last=False)
        return applied, rejected


def refusal(directive: Directive, models: Models) -> str:
    """Why ``directive`` cannot be followed with ``models``; "" if it can."""
    if not 0 < len(directive.user) <= MAX_USER_LENGTH:
        return f"user: 1..{MAX_USER_LENGTH} characters are needed"
    low, high = SNR_LIMITS_DB
    if not (math.isfinite(directive.snr_db) and low <= directive.snr_db <= high):
        return f"snr out of range: {directive.snr_db} dB, {low:g}..{high:g} is served"
    try:
        decoder = models.decoder(directive.decoder, directive.decoder_version)
        encoder = models.encoder(directive.encoder_version)
        if models.encoder_of(decoder) is not encoder:
            return (
                f"mixed pair: decoder {directive.decoder} version {directive.decoder_version} does not "
                f"belong to encoder version {directive.encoder_version}"
            )
    except (UnknownModelError, MixedPairError) as error:
        return str(error)
    longest = latent_channels(encoder.module)
    if not 1 <= directive.prefix <= longest:
        return f"prefix out of range: {directive.prefix}, 1..{longest} is served"
    return ""


def default_directive(user: str, models: Models) -> Directive:
    """What applies to a user without a directive: R = 1/16, 7 dB, the newest base version.

    Raises:
        UnknownModelError: no decoder is loaded.
        MixedPairError: cannot happen with models of a registry.
    """
    decoder = models.decoder(models.default_decoder())
    encoder = models.encoder_of(decoder)
    return Directive(
        user=user,
        prefix=min(DEFAULT_PREFIX, latent_channels(encoder.module)),
        snr_db=DEFAULT_SNR_DB,
        decoder=decoder.manifest.name,
        decoder_version=decoder.manifest.version,
        encoder_version=encoder.manifest.version,
    )
