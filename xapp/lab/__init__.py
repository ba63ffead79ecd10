"""The laptop testbed: an emulated E2 node, moving users and their pictures, speaking the real bytes.

Belongs here: the other side of every interface that the xApp and the runtime have on a testbed (E2 node,
subscription manager, UE clients, radio channel), and the demo that starts everything. Does not: code that a
live RAN runs; nothing outside this package imports it except the command line.
"""
