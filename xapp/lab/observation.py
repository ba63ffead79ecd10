"""What an observer of the lab sees: the live state and the time line, from cell and traffic."""

from __future__ import annotations

import time
from collections.abc import Mapping

from xapp.lab.cell import Cell
from xapp.lab.pictures import PictureLibrary
from xapp.lab.records import LabState, TimelineSample, TimelineUser, Transmission, UserState
from xapp.lab.traffic import Traffic


def timeline_sample(cell: Cell, last: Mapping[str, Transmission], elapsed_s: float) -> TimelineSample:
    """All users now: SNR of the link, and rate, decoder and quality of the last transmission."""
    users = []
    for index, user in enumerate(cell.users):
        seen = last.get(user)
        users.append(
            TimelineUser(
                user=user,
                device_class=cell.classes[index],
                snr_db=round(cell.snr_db(index), 3),
                prefix=seen.prefix if seen else 0,
                psnr_db=seen.psnr_db if seen else None,
                decoder=seen.decoder if seen else "",
                decoder_version=seen.decoder_version if seen else 0,
            )
        )
    return TimelineSample(time_ns=time.time_ns(), elapsed_s=elapsed_s, users=users)


def lab_state(
    cell: Cell,
    library: PictureLibrary,
    traffic: Traffic | None,
    elapsed_s: float,
    *,
    indications_sent: int,
    e2_connected: bool,
) -> LabState:
    """The live state; without traffic its counters are 0."""
    positions = cell.mobility.positions
    last = traffic.last if traffic else {}
    users = []
    for index, user in enumerate(cell.users):
        seen = last.get(user)
        group = cell.classes[index]
        users.append(
            UserState(
                user=user,
                device_class=group,
                group=group,
                x_m=round(float(positions[index, 0]), 2),
                y_m=round(float(positions[index, 1]), 2),
                height_m=round(float(positions[index, 2]), 2),
                speed_mps=round(float(cell.mobility.speeds[index]), 2),
                los=bool(cell.link.los[index]),
                snr_db=round(cell.snr_db(index), 3),
                cqi=int(cell.link.cqi[index]),
                rsrp_dbm=round(float(cell.link.rsrp_dbm[index]), 2),
                attenuation_db=float(cell.attenuation_db[index]),
                drift=cell.scenario.condition(elapsed_s, group).drift or "",
                prefix=seen.prefix if seen else 0,
                decoder=seen.decoder if seen else "",
                decoder_version=seen.decoder_version if seen else 0,
                psnr_db=seen.psnr_db if seen else None,
            )
        )
    return LabState(
        time_ns=time.time_ns(),
        elapsed_s=elapsed_s,
        users=users,
        transmissions=traffic.finished if traffic else 0,
        requests=traffic.client.answered if traffic else 0,
        failed_requests=traffic.failed if traffic else 0,
        retried=traffic.retried if traffic else 0,
        reports_lost=traffic.reports.lost if traffic else 0,
        indications_sent=indications_sent,
        e2_connected=e2_connected,
        runtime_reachable=traffic.runtime.up if traffic else False,
        pictures=len(library.names),
        unreadable_pictures=library.unreadable,
        drift_active=cell.scenario.active(elapsed_s),
    )
