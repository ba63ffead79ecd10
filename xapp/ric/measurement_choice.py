"""What to subscribe to at an E2 node: report style and measurements, by what the node offers.

- Report style: 4 (all users), else 5 (listed users), 3 (users that meet a condition), 2 (one user), 1 (the
  cell: nothing is known of single users). A style without any source of the SINR comes last.
- Source of the SINR: SINR, CQI, RSRP, else throughput per resource block (``PROXY``). One name of each of
  these and of throughput and blocks is subscribed to where offered, the most preferred in
  :data:`xapp.ric.measurement_names.KNOWN`: what is not the source now is what is left when the source turns
  out to be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from xapp.ric.aper import E2DecodeError
from xapp.ric.kpm.function import KpmRanFunction, decode_ran_function
from xapp.ric.kpm.measurements import MEASUREMENT_ID_PREFIX
from xapp.ric.kpm.versions import DEFAULT_KPM_VERSION, KpmVersion
from xapp.ric.measurement_names import (
    OAI_2024,
    OAI_2024_UNITS,
    SRSRAN,
    UNITS,
    Carrier,
    Reading,
    rank_of,
    read_name,
)
from xapp.ric.rnib import RanFunction

FloatArray = NDArray[np.float64]

Source = Literal["SINR", "CQI", "RSRP", "PROXY", "none"]

STYLE_ORDER: Final = (4, 5, 3, 2, 1)

CONFIGURED_MEASUREMENTS: Final = ("SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl")
"""Asked for at a node of which nothing but its name is known."""

CONFIGURED_FUNCTION: Final = 2
"""RAN function id of KPM at srsRAN, OAI, FlexRIC and this project's lab."""

PERIOD_RANGE_MS: Final = (1, 4_294_967_295)
"""Range of GranularityPeriod and reportingPeriod in the ASN.1 of E2SM-KPM."""

_MOST_NAMES: Final = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SubscriptionPlan:
    """One KPM subscription at one node.

    Attributes:
        node: its name, the meid. ran_function_id: of KPM there. version: layout to encode with.
        style_type, action_format: report style and the action definition format it wants.
        measurements: names to ask for.
        readings: of them, by name.
        period_ms: reporting and granularity period: one record a user and indication.
        source: best source of the SINR among the readings.
        carrier: used for the readings.
        needs_user_ids: style 2 or 5: users must be known from elsewhere, and the action changes with them.
        notes: for people: what was left out and why, which units are assumptions.
        units: overrides that hold for names reported but not asked for, too.
        numbers: readings by ``measID:<n>``, as a node may report by number what was asked for by name.
    """

    node: str
    ran_function_id: int
    version: KpmVersion
    style_type: int
    action_format: int
    measurements: tuple[str, ...]
    readings: Mapping[str, Reading]
    period_ms: int
    source: Source
    carrier: Carrier
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Reading] = field(default_factory=dict)
    _cache: dict[str, Reading | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def per_user(self) -> bool:
        """Reports name users."""
        return self.style_type != 1

    @property
    def needs_user_ids(self) -> bool:
        """See the attributes."""
        return self.style_type in (2, 5)

    @property
    def proxy_hz(self) -> float:
        """For ``UserTable.use_proxy``: usable bandwidth if throughput and blocks are both read, else 0."""
        metrics = {reading.metric for reading in self.readings.values()}
        return self.carrier.usable_hz if {"DRB.UEThpDl", "RRU.PrbTotDl"} <= metrics else 0.0

    def reading(self, name: str) -> Reading | None:
        """Reading of a reported name, label included or not; nodes may report other names than asked for."""
        found = self.readings.get(name)
        if found is not None:
            return found
        if name not in self._cache:
            if len(self._cache) >= _MOST_NAMES:
                self._cache.clear()
            numbered = self.numbers.get(name.partition("[")[0])
            self._cache[name] = numbered or read_name(name, self.carrier, self.period_ms, self.units)
        return self._cache[name]

    def columns(
        self, reported: Mapping[str, Sequence[float | int | None] | FloatArray]
    ) -> dict[str, FloatArray]:
        """Canonical columns for ``UserTable.fold_indication``.

        Args:
            reported: name -> N values in the node's unit, None or NaN where a user has none.

        Returns:
            Canonical name -> float64 [N]. Where several names read as one metric, each user has the value of
            the first (in the order of ``reported``) that it has one of.
        """
        columns: dict[str, FloatArray] = {}
        for name, raw in reported.items():
            reading = self.reading(name)
            if reading is None:
                continue
            values = np.asarray(raw, np.float64)
            if reading.scale != 1.0 or reading.offset != 0.0:
                with np.errstate(over="ignore"):  # the table counts what is out of range
                    values = reading.scale * values + reading.offset
            before = columns.get(reading.metric)
            columns[reading.metric] = values if before is None else np.where(np.isnan(before), values, before)
        return columns


def choose_measurements(
    node: str,
    ran_functions: Sequence[RanFunction],
    *,
    version: KpmVersion | None = None,
    period_ms: int = 100,
    carrier: Carrier | None = None,
    units: Mapping[str, str] | None = None,
    ask_for: Sequence[str] = (),
    styles: Sequence[int] = STYLE_ORDER,
) -> SubscriptionPlan | None:
    """Choose from what a node offers.

    Args:
        node: its name.
        ran_functions: as in the R-NIB.
        version: of the node's KPM where the OID does not tell it, e.g. ``flexric``.
        period_ms: wanted reporting period.
        carrier: see :class:`Carrier`; its defaults where None.
        units: measurement name -> unit, where a node's differs from :data:`KNOWN`.
        ask_for: names to ask for besides, offered or not; ``CQI`` for srsRAN with a single user, see
            :data:`xapp.ric.measurement_names.SRSRAN`.
        styles: report styles that may be chosen, best first.

    Returns:
        The plan; None if there is no KPM function of a version known here, its description cannot be decoded,
        or nothing it offers is of use (each is logged with the node's name).

    Raises:
        ValueError: ``period_ms`` outside :data:`PERIOD_RANGE_MS`, or an unknown unit.
    """
    units = dict(units or {})
    _check(period_ms, units)
    carrier = carrier or Carrier()
    for function in ran_functions:
        model = function.service_model
        if model is not None and (model[0] != "KPM" or model[1] < 2):
            continue
        try:
            offered = decode_ran_function(function.definition, version)
        except E2DecodeError as error:
            if model is not None:
                _refused(node, f"KPM description of RAN function {function.id} cannot be decoded: {error}")
            continue
        if model is None and not offered.is_kpm:
            continue
        plan = _choose(node, function.id, offered, period_ms, carrier, units, ask_for, styles)
        if plan is not None:
            return plan
        _refused(node, f"RAN function {function.id} offers no measurement of use")
    return None


def configured_plan(
    node: str,
    *,
    period_ms: int,
    version: KpmVersion | None = None,
    carrier: Carrier | None = None,
    units: Mapping[str, str] | None = None,
    ask_for: Sequence[str] = (),
) -> SubscriptionPlan:
    """What to ask of a node of which only the name is known: style 4, the usual names and ``ask_for``.

    Args: as for :func:`choose_measurements`; ``version`` is 3.00 where None.

    Raises:
        ValueError: ``period_ms`` outside :data:`PERIOD_RANGE_MS`, or an unknown unit.
    """
    units = dict(units or {})
    _check(period_ms, units)
    carrier = carrier or Carrier()
    found = (read_name(name, carrier, period_ms, units) for name in (*CONFIGURED_MEASUREMENTS, *ask_for))
    readings = {reading.name: reading for reading in found if reading is not None}
    return SubscriptionPlan(
        node=node,
        ran_function_id=CONFIGURED_FUNCTION,
        version=version or DEFAULT_KPM_VERSION,
        style_type=4,
        action_format=4,
        measurements=tuple(readings),
        readings=readings,
        period_ms=period_ms,
        source=_source(readings),
        carrier=carrier,
        units=units,
    )


def _check(period_ms: int, units: Mapping[str, str]) -> None:
    if not PERIOD_RANGE_MS[0] <= period_ms <= PERIOD_RANGE_MS[1]:
        raise ValueError(f"report period {period_ms} ms: 1 to 4294967295 is expected")
    for name, unit in units.items():
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r} of {name}: one of {', '.join(UNITS)} is expected")


def _choose(
    node: str,
    function_id: int,
    function: KpmRanFunction,
    period_ms: int,
    carrier: Carrier,
    units: dict[str, str],
    ask_for: Sequence[str],
    styles: Sequence[int],
) -> SubscriptionPlan | None:
    plans = []
    only_style_4 = {style.style for style in function.report_styles} == {4}
    for style in function.report_styles:
        if style.style not in styles:
            continue
        offered = set(style.names)
        notes: list[str] = []
        style_units = dict(units)
        if only_style_4 and offered >= OAI_2024 and "CARR.PDSCHMCSDist" not in offered:
            style_units = {**OAI_2024_UNITS, **units}
            notes.append("taken for OpenAirInterface before 2026: RRU.PrbTotDl counts blocks, volume in kbit")
        if offered >= SRSRAN and "SINR" not in offered:
            if style.style in (3, 4, 5):
                offered -= {"CQI", "RSRP", "RSRQ"}
                notes.append("taken for srsRAN: its CQI, RSRP and RSRQ are one user's, and not asked for")
            else:
                offered -= {"RSRP", "RSRQ"}
                notes.append("taken for srsRAN: its RSRP and RSRQ are the PUSCH SNR, and not asked for")
        readings: dict[str, Reading] = {}
        for name in [name for name in style.names if name in offered] + list(ask_for):
            reading = read_name(name, carrier, period_ms, style_units)
            if reading is not None:
                readings.setdefault(name, reading)
        readings = _best(readings, keep=ask_for)
        if not readings:
            continue
        notes += [
            f"the unit of {r.name} ({r.unit}) is an assumption" for r in readings.values() if not r.verified
        ]
        plans.append(
            SubscriptionPlan(
                node=node,
                ran_function_id=function_id,
                version=function.version,
                style_type=style.style,
                action_format=style.action_format,
                measurements=tuple(readings),
                readings=readings,
                period_ms=period_ms,
                source=_source(readings) if style.style != 1 else "none",
                carrier=carrier,
                notes=tuple(notes),
                units=style_units,
                numbers={
                    f"{MEASUREMENT_ID_PREFIX}{offer.number}": readings[offer.name]
                    for offer in style.measurements
                    if offer.number is not None and offer.name in readings
                },
            )
        )
    # A style without any source of the SINR is the last resort; else the order of styles decides.
    plans.sort(key=lambda plan: (plan.source == "none", styles.index(plan.style_type)))
    return plans[0] if plans else None


def _best(readings: dict[str, Reading], keep: Sequence[str]) -> dict[str, Reading]:
    """One name a metric, the most preferred; names in ``keep`` in any case. Best source first."""
    best: dict[str, Reading] = {}
    taken: set[str] = set()
    for name in sorted(readings, key=lambda name: rank_of(name) or 0):
        metric = readings[name].metric
        if metric not in taken or name in keep:
            taken.add(metric)
            best[name] = readings[name]
    return best


def _source(readings: Mapping[str, Reading]) -> Source:
    metrics = {reading.metric for reading in readings.values()}
    if "SINR" in metrics:
        return "SINR"
    if "CQI" in metrics:
        return "CQI"
    if "RSRP" in metrics:
        return "RSRP"
    return "PROXY" if {"DRB.UEThpDl", "RRU.PrbTotDl"} <= metrics else "none"


def _refused(node: str, reason: str) -> None:
    _log.warning("no subscription for an E2 node", extra={"e2_node": node, "reason": reason})
