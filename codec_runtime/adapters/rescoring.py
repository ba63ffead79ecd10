"""Consensus of the others: the model that a user's labels are judged by has not learned from that user.

A wrong label that a user's adapter has fitted looks right to that adapter, and, in part, to an average that
holds it. Error patterns of different users are unlikely to coincide, so the server aggregates, for every
participant of a round, the updates of all *others* by the round's own rule. The user scores its pairs with
that model (:func:`codec_runtime.adapters.confidence.label_confidence`) before it learns again, and
:meth:`codec_runtime.adapters.tracking.LabelStates.rescored` counts. Data and scores stay with the user.
"""

from __future__ import annotations

from collections.abc import Sequence

from codec_runtime.adapters.aggregation import (
    Contribution,
    Rule,
    TooFewUpdatesError,
    Weights,
    aggregate,
)


def consensus_of_others(
    rule: Rule, reference: Weights, contributions: Sequence[Contribution]
) -> dict[str, Weights]:
    """For each contribution's client the aggregate of all the others.

    Args:
        rule, reference, contributions: as of :func:`codec_runtime.adapters.aggregation.aggregate`.

    Returns:
        By client. A client is left out where the others are too few for the rule: the global weights are then
        the nearest thing to a consensus.
    """
    found: dict[str, Weights] = {}
    for own in contributions:
        others = [contribution for contribution in contributions if contribution.client != own.client]
        try:
            found[own.client] = aggregate(rule, reference, others)
        except TooFewUpdatesError:
            continue
    return found
