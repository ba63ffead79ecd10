"""Where each user's network is cut between its device and the edge, and when the cut is moved.

Belongs here: the cost of a cut, exact and constrained minimisation, many users on one edge server, cut
changes over time, and the comparison with published deciders. Works on the structs of
:mod:`codec_runtime.contract.split` alone. Does not belong here: tracing networks and measuring devices,
which is :mod:`codec_runtime.split`, and sending directives, which is :mod:`xapp.policy`.
"""
