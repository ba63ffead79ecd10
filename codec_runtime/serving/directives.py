"""The table of directives in force at this site.

Rules:

1. Batches of one issuer apply in order of ``sequence``; one that is not newer is acknowledged, not applied.
2. A new issuer (another xApp process) starts its own sequence.
3. A directive that the loaded models cannot follow is rejected with a reason; the user's earlier one stays.
4. A full batch replaces the table: users not in it fall back to the default directive.
5. When a decoder is withdrawn, its users go on with the newest version of the family that is loaded and that
   their device holds, always with the encoder of that version; without one the default directive applies.
6. A directive with a conventional codec needs no models, only that codec here.
7. The default never names what the user's device has said that it cannot take.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import msgspec

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.directives import (
    RATE_DENOMINATOR,
    Directive,
    DirectiveBatch,
    RejectedDirective,
)
from codec_runtime.serving.classification_table import SplitTable
from codec_runtime.serving.conventional import available_codecs
from codec_runtime.serving.devices import Device, Devices
from codec_runtime.serving.inference import SNR_LIMITS_DB, latent_channels
from codec_runtime.serving.registry import Models, UnknownModelError

DEFAULT_PREFIX = 6
DEFAULT_SNR_DB = 7.0
MAX_USERS = 100_000
MAX_USER_LENGTH = 128
_MAX_ISSUERS = 64


class NoUsablePairError(UnknownModelError):
    """The user's device holds no decoder that is served, and no conventional codec to fall back to."""


class DirectiveTable:
    """Directives by user. Written by one thread (the event loop), read by any.

    Attributes:
        devices: what the users' devices hold.
        splits: where users cut their classifiers, told in the same batches.
    """

    def __init__(self) -> None:
        self.devices = Devices()
        self.splits = SplitTable(MAX_USERS, MAX_USER_LENGTH)
        self._by_user: dict[str, Directive] = {}
        self._applied: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_user)

    def in_force(self, user: str) -> Directive | None:
        """The user's directive, None if the default applies."""
        return self._by_user.get(user)

    def for_user(self, user: str, models: Models) -> Directive:
        """The user's directive, or the default.

        Raises:
            UnknownModelError: no decoder is loaded. NoUsablePairError.
        """
        return self._by_user.get(user) or default_directive(user, models, self.devices.of(user))

    def decoders_in_force(self) -> frozenset[tuple[str, int]]:
        """(family, version) of every decoder that some user is told to use."""
        semantic = (d for d in self._by_user.values() if d.codec == "semantic")
        return frozenset((d.decoder, d.decoder_version) for d in semantic)

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
        splits_applied, splits_rejected = self.splits.apply(batch, models.classifiers)
        self._by_user = table  # one assignment: readers see the old table or the new one
        self._applied[batch.issuer] = batch.sequence
        self._applied.move_to_end(batch.issuer)
        if len(self._applied) > _MAX_ISSUERS:
            self._applied.popitem(last=False)
        return applied + splits_applied, rejected + splits_rejected

    def fall_back(self, models: Models) -> tuple[int, int]:
        """Move the users of decoders that ``models`` lacks, right after it was published.

        Returns:
            (users moved to another version, users left to the default directive).
        """
        table: dict[str, Directive] = {}
        moved = 0
        for user, directive in self._by_user.items():
            loaded = (directive.decoder, directive.decoder_version) in models.decoders
            if loaded or directive.codec != "semantic":
                table[user] = directive
            elif (other := newest_instead(directive, models, self.devices.of(user))) is not None:
                table[user] = other
                moved += 1
        left = len(self._by_user) - len(table)
        self._by_user = table
        return moved, left


def newest_instead(
    directive: Directive, models: Models, device: Device | None = None
) -> Directive | None:
    """``directive`` with the newest loaded version of its decoder that the device holds; None without one."""
    versions = [
        version
        for family, version in models.decoders
        if family == directive.decoder and (device is None or device.takes((family, version)))
    ]
    if not versions:
        return None
    newest = max(versions)
    encoder = models.encoder_of(models.decoders[directive.decoder, newest])
    return msgspec.structs.replace(
        directive, decoder_version=newest, encoder_version=encoder.manifest.version,
        prefix=min(directive.prefix, latent_channels(encoder.module)),
    )


def refusal(directive: Directive, models: Models) -> str:
    """Why ``directive`` cannot be followed with ``models``; "" if it can."""
    if not 0 < len(directive.user) <= MAX_USER_LENGTH:
        return f"user: 1..{MAX_USER_LENGTH} characters are needed"
    low, high = SNR_LIMITS_DB
    if not (math.isfinite(directive.snr_db) and low <= directive.snr_db <= high):
        return f"snr out of range: {directive.snr_db} dB, {low:g}..{high:g} is served"
    if directive.codec != "semantic":
        return _conventional_refusal(directive)
    return _pair_refusal(directive, models)


def _conventional_refusal(directive: Directive) -> str:
    if directive.codec not in available_codecs():
        return f"codec {directive.codec} is not installed here, only {', '.join(available_codecs())}"
    if not 1 <= directive.prefix <= RATE_DENOMINATOR:
        return f"prefix out of range: {directive.prefix}, 1..{RATE_DENOMINATOR} is served"
    return ""


def _pair_refusal(directive: Directive, models: Models) -> str:
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


def default_directive(user: str, models: Models, device: Device | None = None) -> Directive:
    """What applies to a user without a directive: R = 1/16, 7 dB, the newest base version.

    Of the versions that the device holds, if it has said so; of its families the best; without any the first
    conventional codec that both have.

    Raises:
        UnknownModelError: no decoder is loaded.
        NoUsablePairError: none that the device holds, and no codec that it falls back to.
        MixedPairError: cannot happen with models of a registry.
    """
    if device is None or device.holds is None:
        decoder = models.decoder(models.default_decoder())
    else:
        held = device.holds & models.decoders.keys()
        if not held:
            return _conventional(user, device)
        order = {family: -place for place, family in enumerate(device.families)}
        decoder = max(
            (models.decoders[key] for key in held),
            key=lambda b: (
                order.get(b.manifest.name, -len(order)), b.manifest.parent is None, b.manifest.version
            ),
        )
    encoder = models.encoder_of(decoder)
    return Directive(
        user=user,
        prefix=min(DEFAULT_PREFIX, latent_channels(encoder.module)),
        snr_db=DEFAULT_SNR_DB,
        decoder=decoder.manifest.name,
        decoder_version=decoder.manifest.version,
        encoder_version=encoder.manifest.version,
    )


def _conventional(user: str, device: Device) -> Directive:
    for codec in device.fallbacks:
        if codec in available_codecs():
            return Directive(
                user=user, prefix=DEFAULT_PREFIX, snr_db=DEFAULT_SNR_DB, decoder="", decoder_version=0,
                encoder_version=0, codec=codec,
            )
    raise NoUsablePairError(
        f"the device of user {user!r} holds no decoder that is served and names no conventional codec that is"
    )
