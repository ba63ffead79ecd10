"""What a classifier's bundle holds of a cut whose features are squeezed: layers, coding tables, tuned tail.

A trained bottleneck (:mod:`codec_runtime.split.bottleneck_training`) becomes part of the bundle: the layers
around what crosses, the integer tables of its operating points, and copies of those modules of the network
that learned with it. The network itself stays as it is, so its other cuts answer as the uncut network does.

The hyper-parameter ``squeezed`` lists the squeezed cuts as JSON; it is signed with the manifest.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from codec_runtime.digital.tables import CodingTables
from codec_runtime.split.bottleneck import Bottleneck, BottleneckConfig, Squeezer

MOST_SQUEEZED = 4
"""Squeezed cuts of a bundle."""
_Mask = Annotated[str, Meta(pattern="^[0-9a-f]{1,256}$")]
_Module = Annotated[str, Meta(pattern="^[A-Za-z0-9_]+([.][A-Za-z0-9_]+)*$", max_length=128)]


class SqueezedSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of a squeezed cut.

    Attributes:
        cut: nodes on the device, as in ``ClassifierConfig.cuts``.
        channels, squeezed, hidden, stride, points: see :class:`BottleneckConfig`.
        symbols: of the widest coding table.
        tuned: modules of the network of which the tail has trained copies.
    """

    cut: _Mask
    channels: Annotated[int, Meta(ge=1, le=4096)]
    squeezed: Annotated[int, Meta(ge=1, le=1024)]
    hidden: Annotated[int, Meta(ge=1, le=1024)]
    stride: Annotated[int, Meta(ge=1, le=8)]
    points: Annotated[int, Meta(ge=1, le=16)]
    symbols: Annotated[int, Meta(ge=2, le=255)]
    tuned: Annotated[tuple[_Module, ...], Meta(max_length=64)] = ()

    @property
    def config(self) -> BottleneckConfig:
        return BottleneckConfig(self.channels, self.squeezed, self.hidden, self.stride, self.points)


def parse_specs(text: str) -> tuple[SqueezedSpec, ...]:
    """The value of the hyper-parameter ``squeezed``; "" is none.

    Raises:
        ValueError: not a list of specs, too many, or one whose copies lie within each other.
    """
    if not text:
        return ()
    try:
        specs = msgspec.json.decode(text, type=tuple[SqueezedSpec, ...])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"squeezed: {error}") from error
    if not 1 <= len(specs) <= MOST_SQUEEZED:
        raise ValueError(f"squeezed: {len(specs)} cuts; 1..{MOST_SQUEEZED} are admitted")
    for spec in specs:
        names = sorted(f"{name}." for name in spec.tuned)
        for first, second in itertools.pairwise(names):
            if second.startswith(first):
                raise ValueError(f"squeezed: tuned module {second[:-1]} is a part of {first[:-1]}")
    return specs


def format_specs(specs: Sequence[SqueezedSpec]) -> str:
    """The inverse of :func:`parse_specs`."""
    return msgspec.json.encode(specs).decode() if specs else ""


class SqueezedCut(Squeezer):
    """Everything that a bundle holds of one squeezed cut.

    Args:
        network: whose modules are copied; only those that ``spec`` names are looked at.

    Raises:
        ValueError: it has no such module.
    """

    def __init__(self, spec: SqueezedSpec, network: nn.Module) -> None:
        super().__init__(spec.config)
        self.spec = spec
        self.tables = TableTensors(spec.points, spec.squeezed, spec.symbols)
        self.tuned = nn.ModuleDict({_key(name): _module(network, name) for name in spec.tuned})

    def tuned_state(self) -> dict[str, Tensor]:
        """Tensors of the trained copies, under the names that the network gives its own."""
        return {
            f"{name}.{inner}": tensor
            for name in self.spec.tuned
            for inner, tensor in self.tuned[_key(name)].state_dict().items()
        }


def squeezed_state(bottleneck: Bottleneck, tables: CodingTables) -> dict[str, Tensor]:
    """Tensors of a :class:`SqueezedCut` but for the trained copies, without what only training needs."""
    layers = {
        name: tensor for name, tensor in bottleneck.state_dict().items()
        if not name.startswith(("points.", "fixed."))
    }
    coding = {f"tables.{name}": tensor for name, tensor in tables.state().items() if tensor.numel()}
    return {**layers, **coding}


def tuned_modules(network: nn.Module, tail: Collection[str]) -> tuple[str, ...]:
    """The fewest modules of a network that hold these of its tensors and no others.

    Raises:
        ValueError: some are in no such module.
    """
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
    found: list[str] = []
    for name, module in network.named_modules():
        if name and not any(name == outer or name.startswith(f"{outer}.") for outer in found):
            held = {f"{name}.{inner}" for inner in module.state_dict()} - counters
            if held and held <= set(tail):
                found.append(name)
    left = [name for name in tail if not any(name.startswith(f"{outer}.") for outer in found)]
    if left:
        raise ValueError(f"tensor {left[0]} of the tail is in no module of its own")
    return tuple(found)


def tuned_key(name: str, tuned: Iterable[str]) -> str:
    """What a :class:`SqueezedCut` calls the trained copy of a network's tensor."""
    outer = next(module for module in tuned if name.startswith(f"{module}."))
    return f"tuned.{_key(outer)}.{name.removeprefix(outer + '.')}"


class TableTensors(nn.Module):
    """:class:`CodingTables` as buffers, zero until they are loaded."""

    def __init__(self, points: int, channels: int, symbols: int) -> None:
        super().__init__()
        for name in CodingTables.__dataclass_fields__:
            shape: tuple[int, ...] = (points, channels)
            if name == "frequencies":
                shape = (points, channels, symbols)
            elif name == "sent":
                shape = (points,)
            elif name == "condition":
                continue
            self.register_buffer(name, torch.zeros(shape))

    def coding_tables(self) -> CodingTables:
        """Raises ValueError: they contradict each other."""
        state = self.state_dict()
        return CodingTables.from_state({**state, "condition": torch.zeros(len(state["sent"]), 0)})


def add_squeezed_cuts(network: nn.Module, text: str) -> None:
    """Give a network, complete but for this, the attribute ``squeezed``; none where ``text`` is empty.

    Raises:
        ValueError: see :func:`parse_specs` and :class:`SqueezedCut`.
    """
    specs = parse_specs(text)
    if specs:
        network.squeezed = nn.ModuleList(SqueezedCut(spec, network) for spec in specs)


def squeezed_cuts(network: nn.Module) -> list[SqueezedCut]:
    """Those that :func:`add_squeezed_cuts` gave it."""
    return list(getattr(network, "squeezed", ()))


def _module(network: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(network.get_submodule(name))
    except AttributeError as error:
        raise ValueError(f"squeezed: the network has no module {name!r}") from error


def _key(name: str) -> str:
    return name.replace(".", "/")
