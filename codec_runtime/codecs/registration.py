"""Where the network classes enter themselves: architecture id -> class, configuration, admissible values.

Import :mod:`codec_runtime.codecs.registry` to look something up: it imports every family, so that the tables
here are complete. This module imports none, so that the families can import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn


@dataclass(frozen=True)
class Interval:
    """Admissible floats, both ends among them."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high


Bound = range | tuple[str, ...] | Interval | re.Pattern[str]
Bounds = Mapping[str, Bound]
"""Admissible values of each hyper-parameter: integers, a choice of words, floats, or text of a pattern."""

TIERS = ("small", "medium", "large")
"""Compute tiers of a decoder; medium is the configuration as it stands."""


class CodecConfig(Protocol):
    """Frozen dataclass of hyper-parameters, all with defaults."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def latent_channels(self) -> int: ...

    def as_dict(self) -> Mapping[str, int | str]: ...


@dataclass(frozen=True)
class Configuration:
    """What an architecture is constructed from."""

    type: type[CodecConfig]
    bounds: Bounds


ENCODERS: dict[str, type[nn.Module]] = {}
DECODERS: dict[str, type[nn.Module]] = {}
ADAPTERS: dict[str, type[nn.Module]] = {}
KNOWLEDGE_BASES: dict[str, type[nn.Module]] = {}
TEXT_ENCODERS: dict[str, type[nn.Module]] = {}
CLASSIFIERS: dict[str, type[nn.Module]] = {}
CONFIGURATIONS: dict[str, Configuration] = {}

_Module = TypeVar("_Module", bound=nn.Module)


def encoder(config: type[CodecConfig], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter an encoder under its ``architecture``.

    Args:
        config: the only constructor argument's type.
        bounds: every field of ``config``; hyper-parameters come from outside with a bundle, so they decide
            how large a network anybody can ask for.

    Raises:
        ValueError: the id is empty or taken, or ``bounds`` does not name exactly the fields of ``config``.
    """
    return _entry(ENCODERS, config, bounds)


def decoder(config: type[CodecConfig], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter a decoder; see :func:`encoder`."""
    return _entry(DECODERS, config, bounds)


def adapter(config: type[Any], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter an adapter; see :func:`encoder`."""
    return _entry(ADAPTERS, config, bounds)


def knowledge_base(config: type[Any], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter what holds a semantic knowledge base; see :func:`encoder`."""
    return _entry(KNOWLEDGE_BASES, config, bounds)


def text_encoder(config: type[Any], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter an encoder of sentences; see :func:`encoder`."""
    return _entry(TEXT_ENCODERS, config, bounds)


def classifier(config: type[Any], bounds: Bounds) -> Callable[[type[_Module]], type[_Module]]:
    """Class decorator: enter a classifier that can be split; see :func:`encoder`."""
    return _entry(CLASSIFIERS, config, bounds)


def _entry(
    table: dict[str, type[nn.Module]], config: type[Any], bounds: Bounds
) -> Callable[[type[_Module]], type[_Module]]:
    fields = set(config.__dataclass_fields__)
    if fields != set(bounds):
        raise ValueError(f"{config.__name__}: bounds of {sorted(bounds)}, its fields are {sorted(fields)}")

    def enter(module: type[_Module]) -> type[_Module]:
        architecture = str(getattr(module, "architecture", ""))
        if not architecture or architecture in CONFIGURATIONS:
            raise ValueError(f"{module.__name__}: architecture id {architecture!r} is empty or taken")
        table[architecture] = module
        CONFIGURATIONS[architecture] = Configuration(config, bounds)
        return module

    return enter


def checked(configuration: Configuration, values: Mapping[str, object]) -> CodecConfig:
    """The configuration of ``values``, each of them checked; what is not named keeps its default.

    Raises:
        ValueError: a name that is not known, a value of the wrong type or out of range; it is named.
    """
    for name, value in values.items():
        bound = configuration.bounds.get(name)
        if bound is None:
            raise ValueError(
                f"unknown hyper-parameter {name!r}; known are {', '.join(sorted(configuration.bounds))}"
            )
        if not _admits(bound, value):
            raise ValueError(f"hyper-parameter {name} = {value!r}; {_described(bound)} is needed")
    return configuration.type(**values)


def _admits(bound: Bound, value: object) -> bool:
    if isinstance(bound, re.Pattern):
        return isinstance(value, str) and bound.fullmatch(value) is not None
    kind = int if isinstance(bound, range) else float if isinstance(bound, Interval) else str
    return type(value) is kind and value in bound  # a bool is not an integer here


def _described(bound: Bound) -> str:
    if isinstance(bound, re.Pattern):
        return f"text of the form {bound.pattern}"
    if isinstance(bound, Interval):
        return f"a number in {bound.low}..{bound.high}"
    if isinstance(bound, tuple):
        return f"one of {', '.join(bound)}"
    odd = " odd" if bound.step == 2 else ""
    return f"an{odd} integer in {bound[0]}..{bound[-1]}"
