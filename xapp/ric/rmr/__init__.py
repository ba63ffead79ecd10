"""RIC Message Router (RMR): message types, SI95 framing, route tables, and two transports of one interface.

Belongs here: what RMR puts on the wire, the sockets or the library that carry it, and who gets a message.
Does not: what a payload means.

Modules: :mod:`~xapp.ric.rmr.transport` (``RmrTransport``, ``TransportCounters``), :mod:`~xapp.ric.rmr.choose`
(``choose_transport``), :mod:`~xapp.ric.rmr.messages` (message type numbers), :mod:`~xapp.ric.rmr.frame`
(``RmrMessage``, ``FrameReader``, ``encode_frame``), :mod:`~xapp.ric.rmr.routes` (``RouteTableReader``,
``RouteTable``).

``wire``, in pure Python: :mod:`~xapp.ric.rmr.wire` (``WireTransport``), :mod:`~xapp.ric.rmr.server`
(``FrameServer``), :mod:`~xapp.ric.rmr.sender` (``RmrSender``), :mod:`~xapp.ric.rmr.route_source`
(``RouteSource``, ``RoutingSettings``).

``librmr``, where ``librmr_si.so`` is installed: :mod:`~xapp.ric.rmr.librmr` (``LibrmrTransport``),
:mod:`~xapp.ric.rmr.librmr_buffers`. Import these two only through ``choose_transport``.
"""
