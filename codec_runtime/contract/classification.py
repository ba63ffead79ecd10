"""Classification split between device and site: what a site offers, what a user is told, what it reports.

A *cut* is named by its id (:class:`codec_runtime.contract.split.CutSpec`); the id travels with the features,
so that features of one cut never meet the tail of another. Where a bottleneck squeezes what crosses, each of
its operating points is published, directed and reported as a cut of its own, ``ID-pN``.
"""

from __future__ import annotations

import msgspec


def squeezed_name(cut: str, point: int) -> str:
    """The name of an operating point of a cut."""
    return f"{cut}-p{point}"


def plain_id(cut: str) -> str:
    """The cut's id, of the name of the cut or of one of its operating points."""
    return cut.partition("-")[0]


class PublishedCut(msgspec.Struct, frozen=True, kw_only=True):
    """A cut whose tail a site serves and whose head it holds for devices.

    Attributes:
        network: name of the classifier, e.g. ``efficientnet-lite0``.
        version: of its bundles.
        graph: digest of the network's graph.
        cut: id of the cut, or the name of an operating point of it (:func:`squeezed_name`).
        device: indices of the graph's nodes on the device, ascending.
        feature_bytes: expected on the radio for one picture, container included.
        head_bytes: of the head's weights file; 0 where the device computes nothing but the input.
        cap_bytes: that no picture exceeds, whatever it shows; 0 where the size follows from shapes.
        agreement: share of pictures with the first class of the uncut network, 0..1, measured before it was
            published; 1 where nothing is squeezed.
    """

    network: str
    version: int
    graph: str
    cut: str
    device: tuple[int, ...]
    feature_bytes: int
    head_bytes: int
    cap_bytes: int = 0
    agreement: float = 1.0


class SplitDirective(msgspec.Struct, frozen=True, kw_only=True):
    """Where one user cuts its classifier from now on.

    Attributes:
        user: user id, as in :class:`codec_runtime.contract.directives.Directive`.
        network, version, cut: of a :class:`PublishedCut` of the site.
    """

    user: str
    network: str
    version: int
    cut: str


class SplitReport(msgspec.Struct, frozen=True, kw_only=True, tag="split"):
    """One classified picture, as the device saw it.

    Attributes:
        user, network, version, cut: as in the directive it followed.
        device_class: of the cost profiles, e.g. ``phone-mid``.
        time_ns: wall clock at the answer, nanoseconds since the epoch.
        device_ms, network_ms, edge_ms: head, radio both ways, tail with its queue.
        feature_bytes: sent.
        moved: the first picture after a change of cut.
    """

    user: str
    network: str
    version: int
    cut: str
    device_class: str
    time_ns: int
    device_ms: float
    network_ms: float
    edge_ms: float
    feature_bytes: int
    moved: bool = False
