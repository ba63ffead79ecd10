"""What is kept of a subscription across a restart of the xApp: a small JSON object.

``{"live": id or null, "instances": {detail: E2 event instance}, "digest": of the request, "attempt": number
of the last POST, "obsolete": {id: [E2 event instances]}}``. The attempt goes on from there, since the manager
must not see a name of ours again that it may be deleting.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from xapp.ric.subscription_state import SubscriptionState


@dataclass(frozen=True)
class KeptIds:
    """Ids of an earlier run; the names are those of :class:`SubscriptionState`."""

    live: str | None = None
    instances: dict[int, int] = field(default_factory=dict)
    digest: str = ""
    attempt: int = -1
    obsolete: dict[str, frozenset[int]] = field(default_factory=dict)


def dump_ids(state: SubscriptionState, successor: SubscriptionState | None) -> bytes | None:
    """What to keep; None if there is nothing at the manager.

    An unconfirmed successor is kept as obsolete: after a crash in the middle of a change it goes.
    """
    obsolete = state.obsolete | (successor.ids if successor else {})
    if state.subscription_id is None and not obsolete:
        return None
    kept = {
        "live": state.subscription_id,
        "instances": {str(index): state.instances[index] for index in sorted(state.instances)},
        "digest": state.request.digest(),
        "attempt": (successor or state).attempt,
        "obsolete": {key: sorted(obsolete[key]) for key in sorted(obsolete)},
    }
    return json.dumps(kept).encode()


def parse_ids(raw: bytes | None) -> KeptIds:
    """The inverse.

    Raises:
        ValueError: not what :func:`dump_ids` writes.
    """
    if not raw:
        return KeptIds()
    try:
        match json.loads(raw):
            case {
                "live": str() | None as live,
                "instances": dict(instances),
                "digest": str(digest),
                "attempt": int(attempt),
                "obsolete": dict(obsolete),
            }:
                return KeptIds(
                    live,
                    {int(index): int(instance) for index, instance in instances.items()},
                    digest,
                    attempt,
                    {key: frozenset(map(int, had)) for key, had in obsolete.items()},
                )
    except (TypeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"kept subscription ids: {error}") from None
    raise ValueError(f"kept subscription ids: not an object with live, instances, digest: {raw[:100]!r}")
