"""Compiled structures whose weights can be exchanged: new weights of a known network are not compiled.

Tracing, converting and compiling a network take more CPU time than all else of a swap; requests would wait
for that. What comes out, though, depends on the structure of the network alone, but for the weights. It is
compiled once with marks in place of weights, values that occur nowhere else, and exported. Where the exported
bytes carry a tensor's mark, they get that tensor whenever weights of the structure come; importing them costs
a tenth of compiling.

What the compiler may have derived from a tensor beside keeping it would still be made of marks, with any
weights. They are so large (3.4 and up) that such a network is far off what the module computes, which
:func:`codec_runtime.serving.backends.selection.build_network` measures with the first weights of a structure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import openvino  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from codec_runtime.serving.backends.interface import Proof

_FIRST_MARK = 3.3710938
_STEP = 0.6180339887498949


class CompiledTemplate:
    """The compiled form of one structure.

    Args:
        network: a network of that structure, its weights are not used.
        compiled: network -> exported compiled model, with the weights as they are somewhere in it.

    Attributes:
        proof: that a network made from it computes what its module does.

    Raises:
        ValueError: some tensor is not in there as it is; each set of weights must be compiled.
    """

    def __init__(self, network: nn.Module, compiled: Callable[[nn.Module], bytes]) -> None:
        self.proof = Proof()
        marked = copy.deepcopy(network)
        with torch.no_grad():
            for index, (name, tensor) in enumerate(marked.state_dict().items()):
                if tensor.dtype != torch.float32:
                    raise ValueError(f"tensor {name} is {tensor.dtype}")
                tensor.copy_(_mark(index, tensor))
        exported = compiled(marked)
        self._exported = np.frombuffer(exported, np.uint8)
        state = marked.state_dict()
        self._places = {name: _place(name, tensor, exported) for name, tensor in state.items()}
        spans = [(place, place + _bytes_of(state[name]).size) for name, place in self._places.items()]
        self._rest = _gaps(spans, len(exported))

    def with_weights(self, state: Mapping[str, Tensor]) -> openvino.Tensor:
        """An exported compiled model with the tensors of ``state``; its memory is OpenVINO's own."""
        content = openvino.Tensor(openvino.Type.u8, openvino.Shape([self._exported.size]))
        target = content.data
        for begin, end in self._rest:
            target[begin:end] = self._exported[begin:end]
        for name, place in self._places.items():
            values = _bytes_of(state[name])
            target[place : place + values.size] = values
        return content


def _mark(index: int, tensor: Tensor) -> Tensor:
    """Values in [index + 3.37, index + 4.37), in an order that repeats nowhere."""
    steps = torch.arange(tensor.numel(), dtype=torch.float64) * _STEP % 1.0
    return (steps + index + _FIRST_MARK).to(torch.float32).reshape(tensor.shape)


def _place(name: str, mark: Tensor, exported: bytes) -> int:
    """Where ``mark`` is; OpenVINO writes equal constants once.

    Raises:
        ValueError: nowhere.
    """
    place = exported.find(_bytes_of(mark).tobytes())
    if place < 0:
        raise ValueError(f"tensor {name} is not in the compiled network as it is")
    return place


def _gaps(taken: Iterable[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What is left of ``size`` bytes between spans that do not overlap, or are the same."""
    found, position = [], 0
    for begin, end in sorted(taken):
        if begin > position:
            found.append((position, begin))
        position = max(position, end)
    return [*found, (position, size)]


def _bytes_of(tensor: Tensor) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
