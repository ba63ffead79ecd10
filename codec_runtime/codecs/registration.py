"""Where the network classes enter themselves: architecture id -> class, configuration, admissible values.

Import :mod:`codec_runtime.codecs.registry` to look something up: it imports every family, so that the tables
here are complete. This module imports none, so that the families can import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from torch import nn

Bounds = Mapping[str, range | tuple[str, ...]]
"""Admissible values of each hyper-parameter: a range of integers or a choice of words."""

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


def _entry(
    table: dict[str, type[nn.Module]], config: type[CodecConfig], bounds: Bounds
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
        kind = int if isinstance(bound, range) else str
        if type(value) is not kind or value not in bound:  # a bool is not an integer here
            raise ValueError(f"hyper-parameter {name} = {value!r}; {_described(bound)} is needed")
    return configuration.type(**values)


def _described(bound: range | tuple[str, ...]) -> str:
    if isinstance(bound, tuple):
        return f"one of {', '.join(bound)}"
    odd = " odd" if bound.step == 2 else ""
    return f"an{odd} integer in {bound[0]}..{bound[-1]}"
