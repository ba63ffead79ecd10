"""Networks of this package that bundles may name. Importing this module completes the tables."""

from __future__ import annotations

from codec_runtime.adapters.adapter import GraphAdapter
from codec_runtime.adapters.skb import KnowledgeBaseModule
from codec_runtime.adapters.text_bag import TextBag
from codec_runtime.codecs.registration import ADAPTERS, KNOWLEDGE_BASES, TEXT_ENCODERS

__all__ = ["ADAPTERS", "KNOWLEDGE_BASES", "TEXT_ENCODERS", "GraphAdapter", "KnowledgeBaseModule", "TextBag"]
