"""The cell: users, where they are, and the state of their links, advanced in fixed steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xapp.lab.channel import SINR_RANGE_DB, ChannelSource, Floats, LinkBudget, LinkState, ModelChannel
from xapp.lab.e2_node import UserMeasurement
from xapp.lab.mobility import Mobility, assign_classes
from xapp.lab.scenario import Scenario
from xapp.lab.settings import LabSettings
from xapp.lab.trace import TraceChannel, load_traces

_CELL_LOAD_PERCENT = 80


class Cell:
    """Users ``ue-1`` ... ``ue-N`` (AMF UE NGAP ids 1 ... N) under one scenario.

    Args:
        settings: of the lab.
        channel: None for what the settings say: a trace, or the 3GPP model (whose import takes seconds).

    Raises:
        TraceError: the trace of the settings is not readable.
    """

    def __init__(self, settings: LabSettings, channel: ChannelSource | None = None) -> None:
        self.classes = assign_classes(settings.users)
        self.users = tuple(f"ue-{i + 1}" for i in range(settings.users))
        self.mobility = Mobility(self.classes, settings.cell_radius_m, settings.seed)
        self.scenario = Scenario(
            settings.drift_at_s, settings.drift_group, settings.degrade_db, settings.drift_kind
        )
        self._follow_mobility = False
        if channel is not None:
            self._channel = channel
        elif settings.trace:
            self._channel = TraceChannel(load_traces(Path(settings.trace)), settings.users, settings.seed)
            self._follow_mobility = True
        else:
            self._channel = _umi_channel(self.mobility, settings)
        self.attenuation_db: Floats = np.zeros(settings.users)
        self.link: LinkState = self._channel.step(0.0, self.attenuation_db)

    def step(self, seconds: float, elapsed_s: float) -> LinkState:
        """Advance by ``seconds`` to ``elapsed_s`` after the start."""
        self.attenuation_db = np.array(
            [self.scenario.condition(elapsed_s, group).attenuation_db for group in self.classes]
        )
        if self._follow_mobility:
            # A trace knows nothing of our cell: the users still move, for the picture of the cell only.
            self.mobility.step(seconds)
        self.link = self._channel.step(seconds, self.attenuation_db)
        return self.link

    def measurements(self) -> list[UserMeasurement]:
        """What the gNB reports of every user now."""
        link = self.link
        share = max(1, _CELL_LOAD_PERCENT // len(self.users))
        return [
            UserMeasurement(
                amf_ue_ngap_id=i + 1,
                sinr_db=float(link.sinr_db[i]),
                cqi=int(link.cqi[i]),
                rsrp_dbm=float(link.rsrp_dbm[i]),
                throughput_kbps=int(link.throughput_kbps[i]),
                prb_percent=share,
            )
            for i in range(len(self.users))
        ]

    def snr_db(self, index: int) -> float:
        """Mean SNR of a user now, within :data:`xapp.lab.channel.SINR_RANGE_DB`."""
        return float(np.clip(self.link.sinr_db[index], *SINR_RANGE_DB))


def _umi_channel(mobility: Mobility, settings: LabSettings) -> ModelChannel:
    from xapp.lab.umi import SionnaUmi  # noqa: PLC0415 - imports Sionna, needed without a trace only

    budget = LinkBudget(
        carrier_ghz=settings.carrier_ghz,
        transmit_dbm=settings.transmit_dbm,
        interference_db=settings.interference_db,
    )
    model = SionnaUmi(settings.users, settings.carrier_ghz, budget.mast_m)
    return ModelChannel(mobility, model, budget, settings.seed)
