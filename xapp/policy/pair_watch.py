"""How many users are on which pair, on a conventional codec, or without anything they can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xapp.telemetry.columns import CODECS, NO_PAIR
from xapp.telemetry.user_table import UserTable

SEMANTIC: Final = 0
_NAMED: Final = 8
"""Users named in one event; of the others only the number is told."""

_TOLD: Final = {
    "pair": "back on an encoder and decoder pair",
    "fallback": "hold no decoder that is served: a conventional codec stands in",
    "none": "hold no decoder that is served and no codec to fall back to: no directive",
}


class PairWatch(Collector):
    """Compares the table with what it was at the last look.

    Args:
        table: with the columns that :mod:`xapp.policy.controller` decides.
        on_event: told (kind, text, details) of users that moved to or from a pair.
        registry: where the gauges are.

    Attributes:
        without: users without a directive at the last look, since their devices can take nothing served.
    """

    def __init__(
        self, table: UserTable, on_event: Callable[..., None], registry: CollectorRegistry | None = None
    ) -> None:
        self._table = table
        self._on_event = on_event
        self._standing: dict[str, str] = {}
        self._pairs: Counter[tuple[str, int, int]] = Counter()
        self._codecs: Counter[str] = Counter()
        self.without: list[str] = []
        if registry is not None:
            registry.register(self)

    def look(self) -> None:
        """Count anew; an event for each kind of move since the last look."""
        table = self._table
        codec = table.codec
        semantic = np.flatnonzero(codec == SEMANTIC)
        keys = np.stack([table.decoder, table.decoder_version, table.encoder_version])[:, semantic]
        distinct, counts = np.unique(keys, axis=1, return_counts=True)
        self._pairs = Counter(
            {
                (table.decoders.name(int(family)), int(version), int(encoder)): int(count)
                for (family, version, encoder), count in zip(distinct.T, counts, strict=True)
            }
        )
        self._codecs = Counter({CODECS[i]: int((codec == i).sum()) for i in range(1, len(CODECS))})
        self.without = [table.users[row] for row in np.flatnonzero(codec == NO_PAIR)]
        standing = dict.fromkeys(self.without, "none")
        standing |= {table.users[row]: "fallback" for row in np.flatnonzero(codec > SEMANTIC)}
        self._tell(standing)
        self._standing = standing

    def _tell(self, standing: dict[str, str]) -> None:
        moved: dict[str, list[str]] = {}
        for user, now in standing.items():
            if self._standing.get(user) != now:
                moved.setdefault(now, []).append(user)
        back = [user for user in self._standing if user not in standing and self._table.row(user) is not None]
        if back:
            moved["pair"] = back
        for now, users in moved.items():
            more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            details: dict[str, Any] = {"standing": now, "users": len(users)}
            self._on_event("pair", f"{', '.join(users[:_NAMED])}{more}: {_TOLD[now]}", **details)

    def collect(self) -> list[Metric]:
        """The gauges, as of the last look."""
        pairs = GaugeMetricFamily(
            "semcom_xapp_users_on_pair",
            "Users by encoder and decoder version in their directive",
            labels=("decoder", "decoder_version", "encoder_version"),
        )
        for (family, version, encoder), count in sorted(self._pairs.items()):
            pairs.add_metric((family, str(version), str(encoder)), count)
        fallback = GaugeMetricFamily(
            "semcom_xapp_users_on_fallback", "Users on a conventional codec", labels=("codec",)
        )
        for codec, count in sorted(self._codecs.items()):
            fallback.add_metric((codec,), count)
        without = GaugeMetricFamily(
            "semcom_xapp_users_without_pair",
            "Users without a directive: their devices can take nothing that the site serves",
            value=len(self.without),
        )
        return [pairs, fallback, without]
