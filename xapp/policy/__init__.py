"""From the state of all users to directives, as pure array functions.

Belongs here: rate-quality surfaces, policies (``decide(observation) -> decision``), decoder choice. Does not:
where the numbers come from (:mod:`xapp.telemetry`), sending directives, anything with a clock or a socket.
"""
