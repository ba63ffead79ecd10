"""The urban microcell (UMi street canyon) scenario of 3GPP TR 38.901 from Sionna.

Importing Sionna takes some seconds, so it happens when the model is made, not when this module is imported.
One evaluation for 20 users takes about 3 ms on one idle core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xapp.lab.channel import Bools, Floats, LargeScale


class SionnaUmi:
    """Large-scale parameters of N users around one base station at the origin.

    Users are put on the batch axis (N topologies of one user), because Sionna builds N x N distance
    matrices within a topology and nothing here needs them.

    Args:
        users: N; fixed for the life of the model.
        carrier_ghz: carrier frequency.
        mast_m: antenna height of the base station.
    """

    def __init__(self, users: int, carrier_ghz: float, mast_m: float = 10.0) -> None:
        import torch  # noqa: PLC0415
        from sionna.phy.channel.tr38901 import PanelArray, UMiScenario  # noqa: PLC0415

        self._torch: Any = torch
        carrier_hz = carrier_ghz * 1e9
        array = PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=1,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=carrier_hz,
        )
        self._scenario: Any = UMiScenario(carrier_hz, "low", array, array, "downlink", device="cpu")
        zeros = torch.zeros(users, 1, 3)
        mast = torch.tensor([0.0, 0.0, mast_m])
        self._scenario.set_topology(
            ut_loc=zeros + torch.tensor([100.0, 0.0, 1.5]),
            bs_loc=zeros + mast,
            ut_orientations=zeros,
            bs_orientations=zeros,
            ut_velocities=zeros,
            in_state=torch.zeros(users, 1, dtype=torch.bool),
            los=False,
        )

    def evaluate(self, positions: Floats, los: Bools) -> LargeScale:
        """TR 38.901 tables 7.4.1-1 (path loss, shadowing), 7.4.2-1 (line of sight), 7.5-6 (correlation
        distance).

        Args:
            positions: (N, 3) metres.
            los: (N,) line-of-sight state that path loss and shadowing are for.
        """
        torch = self._torch
        self._scenario.set_topology(
            ut_loc=torch.tensor(positions, dtype=torch.float32)[:, None, :],
            los=torch.tensor(los)[:, None, None],
        )
        return LargeScale(
            path_loss_db=_numbers(self._scenario.basic_pathloss),
            shadowing_db=_numbers(self._scenario.get_param("sigmaSF")),
            correlation_m=_numbers(self._scenario.get_param("corrDistSF")),
            los_probability=_numbers(self._scenario.los_probability),
        )


def _numbers(tensor: Any) -> Floats:
    return np.asarray(tensor.reshape(-1).numpy(), dtype=np.float64)
