"""Federated rounds over the adapter: who takes part, what is sent, what comes of it.

Belongs here: the messages, the server's state machine, a user's side, and the engines that carry bytes
between them (``local`` in one process or several, ``flower`` over a network). Does not: the networks, their
losses and the users' data, which stand behind :class:`codec_runtime.adapters.federation.client.LocalTask`.
"""
