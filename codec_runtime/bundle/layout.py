r"""Tensors of another layout under the names and shapes of one of our architectures.

Order: ``drop``, then ``rename`` (each rule on every name, in the order given), then the memory layout, then,
if no name fits, one common prefix is taken off (``module.``, ``model.decoder.``, ...). Nothing is guessed
beyond that: what still does not fit is refused by name, with the names of the same shape as a hint.

Flax keeps the kernel of a convolution as (H, W, in, out) and of a dense layer as (in, out) under ``kernel``
and a normalisation's factor under ``scale``; here it is ``weight`` with (out, in, H, W) and (out, in).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from codec_runtime.bundle.errors import MissingTensorError, SpecError, UnknownTensorError

Layout = Literal["torch", "flax"]
_HINTS = 3


@dataclass(frozen=True)
class ImportRules:
    """How names are to be changed.

    Attributes:
        rename: ``(regular expression, replacement)``, as of :func:`re.sub`.
        drop: tensors whose whole name one of these matches are left out.
        layout: memory layout of the source.
    """

    rename: Sequence[tuple[re.Pattern[str], str]] = ()
    drop: Sequence[re.Pattern[str]] = ()
    layout: Layout = "torch"


def parse_rules(rename: Sequence[str], drop: Sequence[str], layout: Layout) -> ImportRules:
    """Rules as typed: ``REGEX=REPLACEMENT`` and ``REGEX``.

    Raises:
        SpecError: no ``=``, or not a regular expression.
    """
    pairs: list[tuple[re.Pattern[str], str]] = []
    for rule in rename:
        pattern, equals, replacement = rule.partition("=")
        if not equals or not pattern:
            raise SpecError(f"rename {rule!r}: write REGEX=REPLACEMENT")
        pairs.append((_pattern(pattern), replacement))
    return ImportRules(pairs, [_pattern(pattern) for pattern in drop], layout)


def convert(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rules: ImportRules
) -> dict[str, Tensor]:
    """``state`` under the names of ``wanted``.

    Args:
        wanted: state of an untrained module; empty where the architecture is not known: no prefix is sought.

    Raises:
        SpecError: two tensors get the same name, or a replacement names a group that is not there.
        MissingTensorError, UnknownTensorError: with the tensors of the same shape as a hint.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if any(pattern.fullmatch(name) for pattern in rules.drop):
            continue
        new, value = _rearranged(_renamed(name, rules), tensor, rules.layout)
        if new in renamed:
            raise SpecError(f"tensor {name}: another one is called {new} already; the renaming joins them")
        renamed[new] = value
    if not wanted:
        return renamed
    if not renamed.keys() & wanted.keys():
        prefix = max(_common_prefixes(list(renamed)), key=lambda p: _fitting(renamed, p, wanted))
        renamed = {name.removeprefix(prefix): tensor for name, tensor in renamed.items()}
    _refuse_strangers(renamed, wanted)
    return renamed


def _renamed(name: str, rules: ImportRules) -> str:
    for pattern, replacement in rules.rename:
        try:
            name = pattern.sub(replacement, name)
        except (re.error, IndexError) as error:
            raise SpecError(f"rename {pattern.pattern}={replacement}: {error}") from error
    return name


def _rearranged(name: str, tensor: Tensor, layout: Layout) -> tuple[str, Tensor]:
    if layout == "torch":
        return name, tensor
    name = name.replace("/", ".")
    stem, dot, last = name.rpartition(".")
    if last == "kernel" and tensor.dim() == 4:
        return f"{stem}{dot}weight", tensor.permute(3, 2, 0, 1).contiguous()
    if last == "kernel" and tensor.dim() == 2:
        return f"{stem}{dot}weight", tensor.t().contiguous()
    if last == "scale" and tensor.dim() == 1:
        return f"{stem}{dot}weight", tensor
    return name, tensor


def _common_prefixes(names: list[str]) -> list[str]:
    """Whole dotted parts that all names begin with, shortest first: ``""``, ``module.``, ``module.a.``."""
    first, last = min(names, default=""), max(names, default="")
    pairs = enumerate(zip(first, last, strict=False))
    shared = first[: next((i for i, (a, b) in pairs if a != b), len(first))]
    return ["", *(shared[: i + 1] for i, letter in enumerate(shared) if letter == ".")]


def _fitting(names: Mapping[str, Tensor], prefix: str, wanted: Mapping[str, Tensor]) -> int:
    return sum(name.removeprefix(prefix) in wanted for name in names)


def _refuse_strangers(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    unknown, missing = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    if unknown:
        raise UnknownTensorError(
            f"tensor {unknown[0]} ({len(unknown)} in all) is not known to the architecture"
            f"{_hint(unknown[0], found[unknown[0]], {n: wanted[n] for n in missing})}; rename or drop it"
        )
    if missing:
        raise MissingTensorError(
            f"tensor {missing[0]} ({len(missing)} in all) is missing: the source has no tensor of that name "
            "after renaming"
        )


def _hint(name: str, tensor: Tensor, missing: Mapping[str, Tensor]) -> str:
    same = [other for other, value in missing.items() if value.shape == tensor.shape]
    close = difflib.get_close_matches(name, same, n=_HINTS, cutoff=0.0)
    if not close:
        return f" (none of shape {tuple(tensor.shape)} is missing there)"
    return f" (missing there with its shape: {', '.join(close)})"


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise SpecError(f"{text!r} is not a regular expression: {error}") from error
