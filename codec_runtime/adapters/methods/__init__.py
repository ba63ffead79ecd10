"""Update methods by name. Here: who trains what, and from where. Not: how rounds are carried, or measured."""

from __future__ import annotations

from codec_runtime.adapters.methods.problem import (
    Federation,
    Samples,
    UpdateMethod,
    UpdateProblem,
    User,
    Variant,
)
from codec_runtime.adapters.methods.strategies import Alone, Central, Federated, SplitLearning

METHODS: dict[str, UpdateMethod] = {
    "ours": Federated(),
    "fedavg": Federated(Variant(graph=False, knowledge=False, light=True, judging=False, rescoring=False)),
    "fedgnn": Federated(Variant(knowledge=False, common=False, judging=False, rescoring=False)),
    "no_graph": Federated(Variant(graph=False)),
    "no_confidence": Federated(Variant(judging=False)),
    "no_rescoring": Federated(Variant(rescoring=False)),
    "central": Central(),
    "local": Alone(),
    "no_common": Federated(Variant(common=False)),
    "fedgnn_common": Federated(Variant(knowledge=False, judging=False, rescoring=False)),
    "split_learning": SplitLearning(),
    "transfer": Alone(Variant(common=False, judging=False, rescoring=False), frozen=("projections", "norms")),
}


def load_method(name: str) -> UpdateMethod:
    """The method of that name.

    Raises:
        KeyError: no such method; the message lists those there are.
    """
    if name not in METHODS:
        raise KeyError(f"no update method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


__all__ = [
    "METHODS", "Federation", "Samples", "UpdateMethod", "UpdateProblem", "User", "Variant", "load_method",
]
