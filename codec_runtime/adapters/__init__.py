"""The shared adapter: frozen encoders' tokens to tokens aligned with a semantic knowledge base.

Belongs here: tokens and their encoders, the knowledge base, the graph adapter with its losses, label
tracking, aggregation, federated rounds, retrieval measures. Does not: serving, signing, and the decision when
to update.
docs/adapter.md says what was tried.
"""
