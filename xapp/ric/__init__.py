"""The near-RT RIC as the xApp meets it: RMR, E2AP, E2SM-KPM, subscriptions and the shared data layer.

Belongs here: bytes and REST bodies of the RIC platform, turned into typed values and back, and the
connections that carry them. Does not: what the xApp concludes from them (``telemetry``, ``policy``), and the
emulated other side (:mod:`xapp.lab`). Specifications are named by clause: O-RAN.WG3.E2AP,
O-RAN.WG3.E2SM-KPM, ITU-T X.691 (aligned PER).

Modules: :mod:`~xapp.ric.rmr` (transport), :mod:`~xapp.ric.aper` (aligned PER primitives),
:mod:`~xapp.ric.e2ap` (``decode_ric_indication``), :mod:`~xapp.ric.kpm` (``decode_kpm_indication``),
:mod:`~xapp.ric.subscription` (``SubscriptionClient``), :mod:`~xapp.ric.sdl` (``Sdl``).
"""
