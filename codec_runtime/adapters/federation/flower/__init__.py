"""Engine ``flower``: the same server and users over a network, carried by Flower (flwr 1.41).

Belongs here: the two Flower apps, which only carry bytes, and the app's ``pyproject.toml``. Does not: any
decision about a round. Nothing else of the project imports this package: flwr needs protobuf >= 5, the RIC's
libraries forbid it, so it runs in an environment of its own (``make flower-venv``, image ``flower``).
"""
