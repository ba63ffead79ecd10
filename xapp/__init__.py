"""The near-RT RIC xApp: channel and capability telemetry in, per-user directives and weights out.

The control plane. Nothing here imports torch, except what lives below :mod:`xapp.lab`.
"""
