"""What crosses about alignment: telemetry, whose adapter is which, a site's part of a federated update."""

from __future__ import annotations

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class AlignmentReport(msgspec.Struct, frozen=True, kw_only=True, tag="alignment"):
    """How well a user's inputs lie on the knowledge base: what drift of an encoder or of content shows in.

    Attributes:
        encoder: name of the frozen encoder.
        adapter, adapter_version, skb_version: in use.
        samples: since the last report, > 0.
        confidence: mean alignment confidence, 0..1.
        label_consistency: share of the user's latest labelled pairs that alignment does not doubt, 0..1; None
            with too few pairs to say.
    """

    user: str
    time_ns: int
    encoder: str
    adapter_version: int
    skb_version: int
    samples: int
    confidence: Share
    label_consistency: Share | None = None
    adapter: str = "shared"


class AdapterAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """Which version of an adapter aligns a user's tokens, where its request names none."""

    user: str
    adapter: str
    version: int


class AdapterTable(msgspec.Struct, frozen=True, kw_only=True):
    """All assignments of a site: it replaces the table before.

    Attributes:
        issuer, sequence: a table that is not newer than the last one of the same issuer changes nothing.
    """

    issuer: str
    sequence: int
    assignments: list[AdapterAssignment]


class AdapterTableAck(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a table.

    Attributes:
        instance: of the runtime process; another one than before holds no table.
        applied: assignments in force. rejected: ``user: reason`` of the others, the first ones.
    """

    instance: str
    applied: int
    rejected: list[str] = []


class AlignmentJob(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a site for its part of a federated update of an adapter: rounds among its own users.

    The users' pairs stay at the site; what leaves it is the adapter (:class:`AlignmentUpdate`).

    Attributes:
        job: id chosen by the xApp; posting it again is harmless.
        users: who takes part.
        adapter, parent_version: what to update. new_version: of the candidate.
        rounds: federated rounds among the users; 0: only measure ``weights`` and write them as the candidate.
        weights: safetensors (fp32) to start from; empty: the parent's.
        budget_s: wall time the job may use; a round that would not fit is not begun.
        max_age_s: only samples aligned within so many seconds before the job arrives; None for all kept.
        seed: for reproducibility.
    """

    job: str
    users: list[str]
    adapter: str
    parent_version: int
    new_version: int
    rounds: Count
    budget_s: float
    weights: bytes = b""
    max_age_s: float | None = None
    seed: int = 1


class AlignmentUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a site's part.

    Attributes:
        weights: the site's adapter, safetensors (fp32).
        shares: of each tensor, the sum of samples x mean confidence of the users that changed it in the last
            round; a tensor that is not named was changed by nobody.
        samples, confidence: pairs learned from in the last round, and the mean confidence in them.
        rounds: that aggregated. users: that took part.
        rsum_before, rsum_after: mean over the users of RSUM (0..600) on pairs of their own that they do not
            train on.
    """

    job: str
    weights: bytes
    shares: dict[str, float]
    samples: Count
    confidence: Share
    rounds: Count
    users: Count
    rsum_before: float
    rsum_after: float
