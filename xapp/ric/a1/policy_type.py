"""The A1 policy type of this xApp, as typed values: which users an instance governs and what it asks for
them.

The same rules stand as JSON schema in ``descriptors/a1-policy-type.json``, which the mediator checks first; a
test compares both. Integers are declared as numbers with ``multiple_of=1``: to JSON schema ``6.0`` is an
integer, and the mediator before 2022 passes it on as it was written.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

POLICY_TYPE_ID: Final = 20950
"""``policy_type_id`` of the type, and the RMR subscription id of its requests. A mediator takes
1..2147483647; this number is our choice, there is no registry of them."""

MAX_IDS: Final = 64
"""Names in one scope."""

MAX_CONTENT_BYTES: Final = 16 << 10
"""Largest instance, as JSON."""

ScopeKind = Literal["user", "slice", "cell", "group", "all"]

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Identity = Annotated[str, Meta(min_length=1, max_length=256)]
Weight = Annotated[float, Meta(ge=0, le=100)]


class PolicyContentError(ValueError):
    """An instance breaks the policy type; the message says where and what would be right."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Scope(_Part, frozen=True):
    """Whom an instance governs.

    Attributes:
        kind: ``user``: user ids; ``slice``: network slices; ``cell``: cells or E2 nodes; ``group``: groups of
            devices; ``all``: everybody.
        ids: names as the telemetry has them, 1..64; none for ``all``.
    """

    kind: ScopeKind
    ids: Annotated[tuple[Identity, ...], Meta(max_length=MAX_IDS)] = ()

    def __post_init__(self) -> None:
        if (self.kind == "all") == bool(self.ids):
            wanted = "no ids are" if self.kind == "all" else "at least one id is"
            raise ValueError(f"{wanted} needed for scope {self.kind!r}")


class Weights(_Part, frozen=True):
    """Relative importance of the objectives, each 0..100, not all zero; only their ratio counts."""

    quality: Weight = 0.0
    bits: Weight = 0.0
    latency: Weight = 0.0
    energy: Weight = 0.0

    def __post_init__(self) -> None:
        if not (self.quality or self.bits or self.latency or self.energy):
            raise ValueError("at least one weight above 0 is needed")


class Constraints(_Part, frozen=True):
    """Limits; what is left out is not limited by this instance.

    Attributes:
        quality_target_db: PSNR below which a picture is a miss, dB, 0..100.
        max_prefix: latent channels a picture of a governed user may use, integer 2..96.
        max_bandwidth_ratio: the same as R = prefix / 96, 0.021..1; the tighter of both counts.
        budget_prefix: weighted mean prefix over the governed users, 2..96.
        deadline_ms: from request to restored picture, 1..60000.
    """

    quality_target_db: Annotated[float, Meta(ge=0, le=100)] | UnsetType = UNSET
    max_prefix: Annotated[float, Meta(ge=2, le=96, multiple_of=1)] | UnsetType = UNSET
    max_bandwidth_ratio: Annotated[float, Meta(ge=0.021, le=1)] | UnsetType = UNSET
    budget_prefix: Annotated[float, Meta(ge=2, le=96)] | UnsetType = UNSET
    deadline_ms: Annotated[float, Meta(ge=1, le=60_000)] | UnsetType = UNSET


class ActivePolicy(_Part, frozen=True):
    """The policy that decides for the governed users.

    Attributes:
        name: in the registry of :mod:`xapp.policy.decision`.
        parameters: its keyword parameters, at most 16, each within +-1e6.
    """

    name: Name
    parameters: Annotated[dict[Name, Annotated[float, Meta(ge=-1e6, le=1e6)]], Meta(max_length=16)] = (
        msgspec.field(default_factory=dict)
    )


class Experiment(_Part, frozen=True):
    """Only a share of the scope is governed: users whose hash is in [offset, offset + share), modulo 1.

    Arms of one experiment have one seed and intervals that do not overlap.

    Attributes:
        arm: name of the arm. share: above 0, to 1. offset: 0 to below 1.
        seed: integer 0..2147483647; another seed draws users anew.
    """

    arm: Name
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    offset: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    seed: Annotated[float, Meta(ge=0, le=2**31 - 1, multiple_of=1)] = 0.0


class A1Policy(_Part, frozen=True):
    """Content of a policy instance (the ``payload`` of its request)."""

    scope: Scope
    weights: Weights | UnsetType = UNSET
    constraints: Constraints | UnsetType = UNSET
    policy: ActivePolicy | UnsetType = UNSET
    experiment: Experiment | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(A1Policy)


def decode_policy(content: bytes) -> A1Policy:
    """Parse and check an instance.

    Raises:
        PolicyContentError: too long, no JSON, or against the policy type.
    """
    if len(content) > MAX_CONTENT_BYTES:
        raise PolicyContentError(f"instance of {len(content)} bytes: at most {MAX_CONTENT_BYTES} are taken")
    try:
        return _DECODER.decode(content)
    except msgspec.DecodeError as error:
        raise PolicyContentError(str(error)) from error
    except RecursionError:
        raise PolicyContentError("nested too deeply") from None
