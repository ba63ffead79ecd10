"""From the user table to changed directives: observation, policy, hysteresis. Pure; a call an indication."""

from __future__ import annotations

from typing import Final

import numpy as np

from codec_runtime.contract.directives import Directive
from xapp.policy.catalog import DecoderCatalog, ServedDecoder
from xapp.policy.content import content_slope
from xapp.policy.decision import Decision, Observation, Policy
from xapp.policy.objectives import view_users
from xapp.policy.pairing import PairChoice
from xapp.policy.pools import PolicyPools
from xapp.telemetry.columns import CODECS, NO_PAIR, BoolArray, FloatArray, IntArray
from xapp.telemetry.user_table import UserTable

_PRIOR_REPORTS: Final = 4.0
"""Measured offset and fading count like this many reports of "no offset, spread as measured by others"."""
_SNR_HYSTERESIS_DB: Final = 0.75
SNR_RANGE_DB: Final = (-20.0, 40.0)
"""Range of ``snr_db`` in directives."""


class DirectiveController:
    """Decides for every active user and remembers, in the table, what was last decided.

    Args:
        table: user table; its "decided" columns are written here.
        catalog: decoders served.
        policy: rate policy, or :class:`PolicyPools`, which asks whom A1 instances govern.
        stale_after_s: users not heard of for so long keep their directive and are not decided about.
        site: index of the site decided for: its users only; None for all users of the table.
    """

    def __init__(
        self,
        table: UserTable,
        catalog: DecoderCatalog,
        policy: Policy,
        stale_after_s: float,
        site: int | None = None,
    ) -> None:
        self._table = table
        self._catalog = catalog
        self._policy = policy
        self._site = site
        self.stale_after_s = stale_after_s
        self.last: Decision | None = None
        self._pairs = PairChoice(table, catalog)

    def decide(self, now_s: float) -> list[Directive]:
        """Decide about all active users; returns the directives that changed."""
        table = self._table
        rows: IntArray = np.flatnonzero(self._served(table.active(now_s, self.stale_after_s)))
        chosen, choice = self._pairs.choose(rows)
        if any(decoder is None for decoder in chosen):
            usable = np.array([decoder is not None for decoder in chosen])[choice]
            self._without_pair(rows[~usable])
            rows, choice = rows[usable], choice[usable]
        if not len(rows):
            return []
        served = [decoder for decoder in chosen if decoder is not None]
        position = np.cumsum([decoder is not None for decoder in chosen]) - 1
        choice = position[choice]
        observation = self._observe(rows, served, choice)
        if isinstance(self._policy, PolicyPools) and self._policy.instances:
            self.last = self._policy.decide(observation, view_users(table, rows))
        else:
            self.last = self._policy.decide(observation)
        return self._changed(rows, served, choice, observation.snr_db, self.last)

    def full(self) -> list[Directive]:
        """Every directive decided so far, for a runtime that restarted."""
        return [self._directive(int(row)) for row in np.flatnonzero(self._served(self._table.prefix > 0))]

    def _served(self, rows: BoolArray) -> BoolArray:
        """Of the rows in this mask, bool [N], those whose users are at the site decided for."""
        if self._site is None:
            return rows
        at_site: BoolArray = rows & (self._table.site == self._site)
        return at_site

    def _without_pair(self, rows: IntArray) -> None:
        """Users that can take nothing served get no directive (a site that serves nothing may come back)."""
        if not self._catalog.decoders:
            return
        table = self._table
        table.codec[rows] = NO_PAIR
        table.prefix[rows] = 0
        table.decoder[rows] = -1
        table.decoder_version[rows] = 0
        table.encoder_version[rows] = 0
        table.directive_snr_db[rows] = np.nan
        table.expected_psnr_db[rows] = np.nan

    def _observe(self, rows: IntArray, served: list[ServedDecoder], choice: IntArray) -> Observation:
        table = self._table
        surfaces = sorted({decoder.surface for decoder in served})
        surface = np.array([surfaces.index(decoder.surface) for decoder in served])[choice]
        picked = tuple(self._catalog.surfaces[index] for index in surfaces)
        count = table.qualities[rows].astype(np.float64)
        trust = count / (count + _PRIOR_REPORTS)
        spread = np.array([s.spread_db for s in picked])[surface]
        rate = table.sending_rate[rows]
        known = np.isfinite(rate)
        typical = float(rate[known].mean()) if known.any() else 1.0
        reference = table.surface_db[rows]
        return Observation(
            snr_db=table.snr_db[rows] + trust * table.snr_bias_db[rows],
            snr_sd_db=np.sqrt(trust * table.snr_bias_var[rows] + (1 - trust) * table.snr_var[rows]),
            offset_db=trust * table.offset_db[rows],
            offset_sd_db=np.sqrt(trust * table.offset_var[rows] + (1 - trust) * spread**2),
            reference_db=reference,
            slope=content_slope(table.group[rows], count, table.step_power[rows], table.step_product[rows]),
            surface=surface,
            weight=np.where(known, rate, typical),
            prefix=table.prefix[rows],
            surfaces=picked,
        )

    def _changed(
        self,
        rows: IntArray,
        served: list[ServedDecoder],
        choice: IntArray,
        snr_db: FloatArray,
        decision: Decision,
    ) -> list[Directive]:
        table = self._table
        codec = np.array([CODECS.index(decoder.codec) for decoder in served])[choice]
        family = np.array(
            [table.decoders.index(decoder.family) if decoder.family else -1 for decoder in served]
        )[choice]
        version = np.array([decoder.version for decoder in served])[choice]
        encoder = np.array([decoder.encoder_version for decoder in served])[choice]
        before = table.directive_snr_db[rows]
        # NaN (no directive yet) compares as changed.
        keep_snr = np.abs(snr_db - before) <= _SNR_HYSTERESIS_DB
        snr = np.where(keep_snr, before, np.clip(np.round(snr_db), *SNR_RANGE_DB))
        changed = (
            (decision.prefix != table.prefix[rows])
            | (codec != table.codec[rows])
            | (family != table.decoder[rows])
            | (version != table.decoder_version[rows])
            | (encoder != table.encoder_version[rows])
            | (snr != before)
        )
        table.expected_psnr_db[rows] = decision.expected_psnr_db
        table.codec[rows] = codec
        table.prefix[rows] = decision.prefix
        table.decoder[rows] = family
        table.decoder_version[rows] = version
        table.encoder_version[rows] = encoder
        table.directive_snr_db[rows] = snr
        return [self._directive(int(row)) for row in rows[changed]]

    def _directive(self, row: int) -> Directive:
        table = self._table
        return Directive(
            user=table.users[row],
            prefix=int(table.prefix[row]),
            snr_db=float(table.directive_snr_db[row]),
            decoder=table.decoders.name(int(table.decoder[row])),
            decoder_version=int(table.decoder_version[row]),
            encoder_version=int(table.encoder_version[row]),
            codec=CODECS[max(int(table.codec[row]), 0)],
        )
