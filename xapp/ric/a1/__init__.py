"""A1 policies as the OSC A1 mediator hands them to an xApp: the policy type, its messages, the instances in
force.

Belongs here: what travels between the mediator and this xApp, its validation, answering, keeping. Does not:
what an instance means for users (:mod:`xapp.policy.objectives`), the RMR transport, the emulated mediator
(:mod:`xapp.lab.a1_mediator`).

Modules: :mod:`~xapp.ric.a1.policy_type` (content of an instance), :mod:`~xapp.ric.a1.messages` (RMR
payloads), :mod:`~xapp.ric.a1.instances` (``InstanceStore``), :mod:`~xapp.ric.a1.handler` (``A1Handler``,
pure), :mod:`~xapp.ric.a1.service` (``A1Service``: persistence and queries).
"""
