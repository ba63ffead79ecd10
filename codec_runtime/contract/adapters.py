"""What crosses about alignment: the header of aligned tokens, and the telemetry that drift is seen in."""

from __future__ import annotations

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class AlignedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver must know of aligned tokens before it reads them.

    Attributes:
        skb_sha256: of the sender's knowledge base. A receiver that holds another one falls back, since the
            tokens mean nothing to it.
        adapter_version: of the adapter that made them, for reports; any one aligned to that knowledge base is
            read alike.
        samples, tokens, dimension: shape of the tensor, (samples, tokens, dimension) fp16.
        lengths: tokens of each sample; the rest of its places is padding.
        confidence: of each sample, 0..1.
    """

    skb_sha256: Sha256
    adapter_version: int
    samples: int
    tokens: int
    dimension: int
    lengths: list[int]
    confidence: list[Share]

    def problem(self) -> str | None:
        """What is inconsistent; None if nothing is."""
        if min(self.samples, self.tokens, self.dimension) < 1:
            return f"shape {(self.samples, self.tokens, self.dimension)} has a side below 1"
        if len(self.lengths) != self.samples or len(self.confidence) != self.samples:
            return (
                f"{len(self.lengths)} lengths and {len(self.confidence)} confidences "
                f"of {self.samples} samples"
            )
        outside = [length for length in self.lengths if not 1 <= length <= self.tokens]
        return f"a sample of {outside[0]} tokens does not fit 1..{self.tokens}" if outside else None


class AlignmentReport(msgspec.Struct, frozen=True, kw_only=True, tag="alignment"):
    """How well a user's inputs lie on the knowledge base: what drift of an encoder or of content shows in.

    Attributes:
        encoder: name of the frozen encoder.
        adapter_version, skb_version: in use.
        samples: since the last report.
        confidence: mean alignment confidence, 0..1.
        label_consistency: share of the user's labels that are not in doubt, 0..1; None without labels.
    """

    user: str
    time_ns: int
    encoder: str
    adapter_version: int
    skb_version: int
    samples: int
    confidence: Share
    label_consistency: Share | None = None
