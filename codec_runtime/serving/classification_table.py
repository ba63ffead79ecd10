"""The table of users' cuts at this site.

As that of directives (:mod:`codec_runtime.serving.directives`, which decides what is a repeated batch): what
the classifiers that serve cannot follow is rejected with a reason, and the user's earlier cut stays; a full
batch replaces the table. When a version is withdrawn its users are told nothing any more, and fall back on
their own to sending the picture.
"""

from __future__ import annotations

from collections.abc import Mapping

from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import DirectiveBatch, RejectedDirective
from codec_runtime.serving.registry import LoadedClassifier

Classifiers = Mapping[tuple[str, int], LoadedClassifier]


class SplitTable:
    """Where users cut. Written by one thread (the event loop), read by any.

    Args:
        most_users: with a directive at a time; longest_user: characters of an id.
    """

    def __init__(self, most_users: int, longest_user: int) -> None:
        self._most_users = most_users
        self._longest_user = longest_user
        self._by_user: dict[str, SplitDirective] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def of(self, user: str) -> SplitDirective | None:
        return self._by_user.get(user)

    def in_force(self) -> frozenset[tuple[str, int]]:
        """(network, version) that some user is told to use."""
        return frozenset((d.network, d.version) for d in self._by_user.values())

    def apply(
        self, batch: DirectiveBatch, classifiers: Classifiers
    ) -> tuple[int, list[RejectedDirective]]:
        """Take the splits of a batch that is to be applied: (now in force from it, rejected)."""
        table = {} if batch.full else dict(self._by_user)
        rejected: list[RejectedDirective] = []
        applied = 0
        for directive in batch.splits:
            user = directive.user
            reason = split_refusal(directive, classifiers)
            if not 0 < len(user) <= self._longest_user:
                reason = f"user: 1..{self._longest_user} characters are needed"
            elif not reason and user not in table and len(table) >= self._most_users:
                reason = f"table full: {self._most_users} users already have a directive"
            if reason:
                short = user[: self._longest_user]
                rejected.append(RejectedDirective(user=short, reason=reason, about="split"))
                if user in self._by_user:
                    table.setdefault(user, self._by_user[user])
            else:
                table[user] = directive
                applied += 1
        self._by_user = table  # one assignment: readers see the old table or the new one
        return applied, rejected

    def fall_back(self, classifiers: Classifiers) -> int:
        """Forget who is told to use what is served no longer; returns how many."""
        table = {user: d for user, d in self._by_user.items() if not split_refusal(d, classifiers)}
        gone = len(self._by_user) - len(table)
        self._by_user = table
        return gone


def split_refusal(directive: SplitDirective, classifiers: Classifiers) -> str:
    """Why a site cannot follow ``directive``; "" if it can."""
    classifier = classifiers.get((directive.network, directive.version))
    if classifier is None:
        loaded = [f"{name} {version}" for name, version in sorted(classifiers)]
        return (
            f"classifier {directive.network[:64]!r} version {directive.version} is not loaded; loaded are "
            f"{', '.join(loaded) or 'none'}"
        )
    if directive.cut not in classifier.cuts:
        return (
            f"cut {directive.cut[:32]!r} of classifier {directive.network} version {directive.version} is "
            f"not published; published are {', '.join(classifier.cuts)}"
        )
    return ""
