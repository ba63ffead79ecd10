"""RIC Message Router (RMR) peer in pure Python: message types, SI95 framing, TCP transport.

Belongs here: what librmr puts on the wire, and the sockets that carry it. Does not: routing tables (the E2
termination connects to the xApp's data port directly) or what a payload means.

Modules: :mod:`~xapp.ric.rmr.messages` (message type numbers), :mod:`~xapp.ric.rmr.frame` (``RmrMessage``,
``FrameReader``, ``encode_frame``), :mod:`~xapp.ric.rmr.wire` (``WireTransport``, ``RmrSender``).
"""
