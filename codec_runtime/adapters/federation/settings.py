"""What a federation is asked to do; equal settings and users give equal rounds."""

from __future__ import annotations

import math

import msgspec

from codec_runtime.adapters.aggregation import Rule
from codec_runtime.adapters.privacy import Privacy


class FederationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the server.

    Attributes:
        seed: of selection and of the users' draws.
        rule: of aggregation.
        fraction: share of the members invited to a round, in (0, 1]; with ``privacy`` every member is invited
            with this probability.
        quorum: updates without which a round changes nothing, >= 1; the rule may need more.
        deadline_s: time after which a round is closed without those who are silent.
        staleness: rounds by which an update may be late and still count; 0 drops all late ones.
        discount: factor on the share of an update for each round that it is late, in [0, 1].
        rescoring: participants of the round before get the others' aggregate with their order.
        privacy: client-level differential privacy; None for none.

    Raises:
        ValueError: a setting is out of range, or privacy is to go with a rule that it cannot account for.
    """

    seed: int = 1
    rule: Rule = Rule()
    fraction: float = 1.0
    quorum: int = 2
    deadline_s: float = 600.0
    staleness: int = 1
    discount: float = 0.5
    rescoring: bool = True
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"fraction must be in (0, 1], got {self.fraction}")
        if self.quorum < 1 or self.staleness < 0 or not 0.0 <= self.discount <= 1.0:
            raise ValueError("a federation needs quorum >= 1, staleness >= 0 and discount in [0, 1]")
        if not 0.0 < self.deadline_s < math.inf:
            raise ValueError(f"deadline_s must be positive, got {self.deadline_s}")
        if self.privacy is not None and self.rule.name != "fedavg":
            raise ValueError(f"differential privacy is accounted for with fedavg, not with {self.rule.name}")

    @property
    def needed(self) -> int:
        """Updates that a round takes to change the weights."""
        return max(self.quorum, self.rule.minimum)

    @property
    def folds_late_updates(self) -> bool:
        """Late updates count: only a weighted mean can discount them, and no privacy accountant knows how."""
        return self.staleness > 0 and self.rule.weighted and self.privacy is None

    @property
    def shares_consensus(self) -> bool:
        """Whether users get the others' aggregate: without noise it would undo the privacy."""
        return self.rescoring and self.privacy is None
