"""The record of a round from what was sent and received."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from codec_runtime.adapters.federation.messages import Member, RoundRecord, RoundReply
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.privacy import epsilon


def round_record(
    settings: FederationSettings,
    number: int,
    *,
    members: Mapping[str, Member],
    invited: Sequence[str],
    replies: Mapping[str, RoundReply],
    late: Sequence[str],
    refused: Sequence[str],
    bytes_down: int,
    bytes_up: int,
    reason: str,
) -> RoundRecord:
    """See :class:`RoundRecord`; ``reason`` is empty where the round aggregated."""
    names = sorted(replies)
    scores = {name: replies[name].score for name in names}
    samples = sum(reply.samples for reply in replies.values())
    confident = sum(replies[name].samples * replies[name].confidence for name in names)
    worst = min(names, key=lambda name: (scores[name], name), default="")
    privacy = settings.privacy
    return RoundRecord(
        round=number,
        invited=list(invited),
        participants=names,
        late=list(late),
        stragglers=[name for name in invited if name in members and name not in replies],
        refused=list(refused),
        aggregated=not reason,
        reason=reason,
        bytes_down=bytes_down,
        bytes_up=bytes_up,
        encoder_bytes=2 * sum(members[name].encoder_bytes for name in names if name in members),
        confidence=confident / samples if samples else 0.0,
        labels=_label_counts(replies.values()),
        epsilon=epsilon(number, settings.fraction, privacy.noise, privacy.delta) if privacy else None,
        scores=scores,
        worst_user=worst,
        worst_score=scores[worst] if worst else None,
        groups=_group_means(scores, members),
    )


def _label_counts(replies: Iterable[RoundReply]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for reply in replies:
        for label, count in reply.labels.items():
            counts[label] += count
    return dict(sorted(counts.items()))


def _group_means(scores: Mapping[str, float], members: Mapping[str, Member]) -> dict[str, float]:
    by_group: dict[str, list[float]] = defaultdict(list)
    for name, score in scores.items():
        if name in members and members[name].group:
            by_group[members[name].group].append(score)
    return {group: sum(values) / len(values) for group, values in sorted(by_group.items())}
