"""A site that publishes cuts of EfficientNet-Lite0, and users who classify, without anything that runs."""

from __future__ import annotations

import functools

import numpy as np

from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.devices import ASSUMED_CLASSES, EDGE_SERVER, class_profile
from codec_runtime.contract.split import SplitGraph
from codec_runtime.contract.telemetry import CapabilityReport, ClassifierCapability
from xapp.policy.split_control import SplitController
from xapp.split.candidates import candidate_cuts
from xapp.split.problem import split_problem
from xapp.split.reference_networks import efficientnet_lite0
from xapp.split_options import SplitOptions
from xapp.telemetry.user_table import UserTable

NETWORK = "efficientnet-lite0"
QUIET = SplitOptions(per_joule=0.0)


@functools.cache
def graph() -> SplitGraph:
    return efficientnet_lite0()


@functools.cache
def published(version: int = 1) -> tuple[PublishedCut, ...]:
    """The hull of a phone's cuts, all on the device and all on the edge, features at 8 bits."""
    problem = split_problem(
        graph(), class_profile(graph(), ASSUMED_CLASSES[4]), class_profile(graph(), EDGE_SERVER)
    )
    inputs_alone = problem.inputs
    masks = {mask.tobytes(): mask for mask in (inputs_alone, *candidate_cuts(problem).device)}
    cuts = []
    for mask in masks.values():
        cut = problem.cut(mask)
        crossing = problem.tensor_bytes[problem.crossing(mask)].sum() / 4
        weights = problem.parameter_bytes[mask].sum()
        cuts.append(
            PublishedCut(
                network=NETWORK, version=version, graph=graph().digest, cut=cut.id, device=cut.device,
                feature_bytes=int(crossing), head_bytes=int(weights),
            )
        )
    return tuple(cuts)


ALL_ON_EDGE = published()[0]
ALL_ON_DEVICE = next(cut for cut in published() if not cut.feature_bytes)


def capability(
    user: str, compute_class: str = "phone-mid", *, battery: float | None = None, rate: float = 1.0
) -> CapabilityReport:
    classifier = ClassifierCapability(network=NETWORK, compute_class=compute_class, requests_per_s=rate)
    return CapabilityReport(
        user=user, time_ns=0, device_class="mobile", group="mobile", decoders=["conv"], compute_gflops=1.0,
        battery=battery, classifier=classifier,
    )


def hear(
    table: UserTable, users: list[str], snr_db: float | list[float], now_s: float, site: int = 0
) -> None:
    """An indication of these users; long averages of the table are brought to the value at once."""
    values = np.broadcast_to(np.asarray(snr_db, dtype=np.float64), (len(users),))
    rows = table.fold_indication("gnb", users, {"SINR": values.tolist()}, now_s, site)
    table.snr_db[rows] = values


def scene(
    users: dict[str, str], options: SplitOptions = QUIET, *, snr_db: float = 15.0, site: int | None = None
) -> tuple[UserTable, SplitController]:
    """Users by compute class, heard at 0 s, at a site that publishes."""
    table = UserTable()
    for user, compute_class in users.items():
        table.fold_capability(capability(user, compute_class))
    hear(table, list(users), snr_db, 0.0)
    controller = SplitController(table, options, 3.0, site)
    controller.publish(published())
    controller.add_graph(graph())
    return table, controller
