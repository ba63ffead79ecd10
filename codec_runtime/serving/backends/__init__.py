"""Engines that compute the codec's networks, behind one interface (:mod:`.interface`).

``torch`` is the reference, ``openvino`` the faster one on a CPU; :mod:`.selection` picks. A trained module
goes in, a :class:`~.interface.CodecNetwork` that gives the same results comes out. Belongs here: engines,
export and exact rewrites of networks for it. Does not: networks, bundles, requests.
"""
