"""An emulated E2 node with its E2 termination: reports users' measurements as a gNB would, over RMR.

It sends E2AP RIC Indications (KPM header format 1, message format 3) in RMR frames, the E2 event instance as
subscription id, straight to the xApp's RMR port. It has no clock and no radio: whoever drives the lab calls
:meth:`E2Node.report` with what the users measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xapp.ric.e2ap import RicIndication, encode_ric_indication
from xapp.ric.kpm import MeasurementList, Value, encode_indication_header, encode_indication_message
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_INDICATION
from xapp.ric.rmr.wire import RmrSender

MEASUREMENTS = ("SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl")
"""Names of the reported measurements, in the order of the values: dB (real), index, dBm (real), kbit/s, %."""

_SENDER_NAME = "semcom-lab"
_AMF = bytes.fromhex("010040")
_DUE_SLACK_S = 0.005


@dataclass(frozen=True, slots=True)
class UserMeasurement:
    """What one user measures in one period; None where there is no value.

    Attributes:
        amf_ue_ngap_id: 0 .. 2**40 - 1.
        sinr_db, rsrp_dbm: dB, dBm.
        cqi: 0..15.
        throughput_kbps: downlink, kbit/s, from 0.
        prb_percent: share of the cell's resource blocks, 0..100.
    """

    amf_ue_ngap_id: int
    sinr_db: float | None
    cqi: int | None
    rsrp_dbm: float | None
    throughput_kbps: int | None
    prb_percent: int | None

    def values(self) -> tuple[Value, ...]:
        """In the order of :data:`MEASUREMENTS`."""
        return (self.sinr_db, self.cqi, self.rsrp_dbm, self.throughput_kbps, self.prb_percent)


@dataclass(frozen=True)
class Reporting:
    """A subscription as the E2 node knows it.

    Attributes:
        meid: of the node that was asked.
        instance_id: E2 event instance: ``ricInstanceID`` and the ``sub_id`` of the RMR messages.
        request_id: ``ricRequestorID``.
        action_ids: RIC actions to report under; one indication for each.
        period_ms: reporting period.
        rmr_host, rmr_port: where the indications go.
    """

    meid: str
    instance_id: int
    request_id: int
    action_ids: tuple[int, ...]
    period_ms: int
    rmr_host: str
    rmr_port: int

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where the indications go."""
        return self.rmr_host, self.rmr_port


@dataclass
class _Active:
    reporting: Reporting
    sender: RmrSender
    due: float = float("-inf")
    sequence_number: int = 0


class UnknownNode(LookupError):
    """The subscription names an E2 node that is not this one."""


class E2Node:
    """One E2 node.

    Args:
        meid: RAN name, e.g. ``gnb_001_001_00000001``.
        ran_function_id: of KPM at this node.
        plmn: MCC and MNC, 5 or 6 digits; part of the users' GUAMI.

    Attributes:
        indications_sent: queued for sending.
        indications_dropped: the xApp was not there for so long that its queue overflowed.
    """

    def __init__(self, meid: str, ran_function_id: int = 2, *, plmn: str = "00101") -> None:
        self.meid = meid
        self.ran_function_id = ran_function_id
        self.indications_sent = 0
        self.indications_dropped = 0
        self._guami = encode_plmn(plmn) + _AMF
        self._measurements = MeasurementList(MEASUREMENTS)
        self._active: dict[tuple[int, tuple[str, int]], _Active] = {}

    @property
    def reportings(self) -> tuple[Reporting, ...]:
        """Subscriptions in force."""
        return tuple(active.reporting for active in self._active.values())

    async def start_reporting(self, reporting: Reporting) -> None:
        """Begin, or begin anew under the same instance id at the same endpoint.

        The same instance at another endpoint is one subscription of two xApps: both get the indications.

        Raises:
            UnknownNode: ``reporting.meid`` is another node.
        """
        if reporting.meid != self.meid:
            raise UnknownNode(f"E2 node {reporting.meid} is not connected; {self.meid} is")
        await self.stop_reporting(reporting.instance_id, reporting.endpoint)
        # Measurements are worthless when late: a short queue.
        sender = await RmrSender.connect(
            reporting.rmr_host, reporting.rmr_port, source=f"e2term-{self.meid}:38000"[-63:], queue_frames=16
        )
        self._active[reporting.instance_id, reporting.endpoint] = _Active(reporting, sender)

    async def stop_reporting(self, instance_id: int, endpoint: tuple[str, int] | None = None) -> None:
        """End, at one endpoint or (None) at all; nothing happens if there is no such instance."""
        for key in list(self._active):
            if key[0] == instance_id and endpoint in (None, key[1]):
                await self._active.pop(key).sender.close()

    def report(self, users: Sequence[UserMeasurement], now: float) -> int:
        """Send ``users``' measurements to every subscription whose period is over.

        Args:
            users: those attached now; with none, nothing is sent.
            now: Unix seconds; becomes the time stamp.

        Returns:
            Indications queued.
        """
        due = [active for active in self._active.values() if now >= active.due - _DUE_SLACK_S]
        if not due or not users:
            return 0
        header = encode_indication_header(now, sender_name=_SENDER_NAME)
        reports = [(user.amf_ue_ngap_id, user.values()) for user in users]
        messages: dict[int, bytes] = {}
        queued = 0
        for active in due:
            reporting = active.reporting
            period_s = reporting.period_ms / 1000
            active.due = active.due + period_s if now - active.due < period_s else now + period_s
            message = messages.get(reporting.period_ms)
            if message is None:
                message = messages[reporting.period_ms] = encode_indication_message(
                    reports, self._measurements, granularity_ms=reporting.period_ms, guami=self._guami
                )
            for action_id in reporting.action_ids:
                queued += self._send(active, action_id, header, message)
        return queued

    async def close(self) -> None:
        """End every subscription."""
        for instance_id, endpoint in list(self._active):
            await self.stop_reporting(instance_id, endpoint)

    def _send(self, active: _Active, action_id: int, header: bytes, message: bytes) -> bool:
        reporting = active.reporting
        pdu = encode_ric_indication(
            RicIndication(
                requestor_id=reporting.request_id,
                instance_id=reporting.instance_id,
                ran_function_id=self.ran_function_id,
                action_id=action_id,
                indication_type=0,
                header=header,
                message=message,
                sequence_number=active.sequence_number,
            )
        )
        active.sequence_number = (active.sequence_number + 1) & 0xFFFF
        sent = active.sender.send(
            RmrMessage(mtype=RIC_INDICATION, payload=pdu, sub_id=reporting.instance_id, meid=self.meid)
        )
        self.indications_sent += sent
        self.indications_dropped += not sent
        return sent


def encode_plmn(plmn: str) -> bytes:
    """PLMN identity of TS 23.003 in 3 octets (digits swapped in pairs, F fills a 2-digit MNC).

    Raises:
        ValueError: not 5 or 6 digits.
    """
    if not (plmn.isascii() and plmn.isdigit() and len(plmn) in (5, 6)):
        raise ValueError(f"PLMN {plmn!r}: 5 or 6 digits are expected, e.g. 00101")
    mcc, mnc = plmn[:3], plmn[3:]
    third = mnc[2] if len(mnc) == 3 else "f"
    return bytes.fromhex(mcc[1] + mcc[0] + third + mcc[2] + mnc[1] + mnc[0])
