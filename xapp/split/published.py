"""The cuts that a site publishes, as candidates of one device class.

A site serves the tails of few cuts, which its operator chose; among these the xApp decides. Their seconds
come from the rooflines of device class and edge class, their bytes from what the site says of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_runtime.contract.classification import PublishedCut, plain_id
from codec_runtime.contract.devices import DeviceClass, class_profile
from codec_runtime.contract.split import CutError, SplitGraph, make_cut
from xapp.split.candidates import extra_head_bytes
from xapp.split.latency import CutMeasures, Floats
from xapp.split.problem import split_problem


@dataclass(frozen=True)
class CutMenu:
    """Published cuts of one version of a classifier, for one device class; C of them.

    Attributes:
        cuts: as published, those whose device nodes are no cut of the graph left out.
        measures: arrays (C,).
        extra_bytes: (C, C) weights that a device with the head of cut a lacks for that of cut b.
        allowed: (C,) False where the head does not fit into the device's memory.
        depth: (C,) of the crossing tensor nearest to the input; inf where nothing crosses.
        disagreement: (C,) share of pictures, 0..1, of which the uncut network would say something else.
    """

    cuts: tuple[PublishedCut, ...]
    measures: CutMeasures
    extra_bytes: Floats
    allowed: NDArray[np.bool_]
    depth: Floats
    disagreement: Floats

    def __len__(self) -> int:
        return len(self.cuts)


def cut_menu(
    graph: SplitGraph, published: Sequence[PublishedCut], device: DeviceClass, edge: DeviceClass
) -> CutMenu:
    """The menu of a device class; all cuts are of ``graph`` and of one version."""
    problem = split_problem(graph, class_profile(graph, device), class_profile(graph, edge))
    cuts, masks = [], []
    for cut in published:
        if _is_cut(graph, cut):
            mask = np.zeros(problem.size, dtype=np.bool_)
            mask[list(cut.device)] = True
            cuts.append(cut)
            masks.append(mask)
    devices = np.array(masks, dtype=np.bool_).reshape(len(masks), problem.size)
    rows = np.array([problem.measures(mask) for mask in masks], dtype=np.float64).reshape(len(masks), 4)
    rows[:, 1] = [cut.feature_bytes for cut in cuts]
    memory = device.memory_bytes or math.inf
    nearest = [
        min((graph.nodes[index].depth for index in np.flatnonzero(problem.crossing(mask))), default=math.inf)
        for mask in masks
    ]
    extra = np.zeros((len(masks), len(masks)))
    if not device.keeps_weights:
        extra = extra_head_bytes(problem, devices)
    return CutMenu(
        tuple(cuts),
        CutMeasures(*rows.T),
        extra,
        np.array([problem.memory_bytes(mask) <= memory for mask in masks], dtype=np.bool_),
        np.array(nearest, dtype=np.float64),
        np.array([1.0 - min(max(cut.agreement, 0.0), 1.0) for cut in cuts], dtype=np.float64),
    )


def _is_cut(graph: SplitGraph, cut: PublishedCut) -> bool:
    """Whether device nodes and id belong to the graph: indices come from the network."""
    try:
        return cut.graph == graph.digest and make_cut(graph, cut.device).id == plain_id(cut.cut)
    except CutError:
        return False
