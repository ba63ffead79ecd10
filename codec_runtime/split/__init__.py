"""Split computing at the site and on devices: networks as graphs, cuts executed, costs measured, predicted.

Belongs here: whatever needs the network itself or a clock. Does not: where to cut; the xApp decides that on
the structs of :mod:`codec_runtime.contract.split`.
"""
