"""When a codec must be updated, and the way of one update from drift to rollout.

Belongs here: drift detection, the planner (pure state machine), the gate, and the coordinator that does their
I/O. Does not: training (the runtime's, where the data is), signing and transport (:mod:`xapp.delivery`).
"""
