"""Adam, and Muon for convolutions.

Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) replaces the momentum of
a weight matrix by the nearest orthogonal matrix, so that every direction of the matrix learns at the same
rate. At equal time it gained clearly over Adam on both sides of the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS = ("adam", "muon")
MUON_SMALLEST_SIDE = 32
"""A weight with a flattened side below this is left to Adam: there is little to orthogonalise."""

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_ADAM_BETAS_BESIDE_MUON = (0.9, 0.99)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal factor U V^T of a (rows, columns) matrix: singular values within about 0.7..1.2.

    Five Newton-Schulz steps of the quintic of Jordan et al., whose slope at zero lifts small singular values
    quickly at the price of not converging to one. Each step multiplies by a polynomial of the Gram matrix;
    those commute, so the small Gram matrix alone is iterated: two products with the long side, not ten.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    product = identity
    for _ in range(_NEWTON_SCHULZ_STEPS):
        step = a * identity + b * gram + c * gram @ gram
        product = step @ product
        gram = step @ gram @ step
    result: Tensor = product @ x
    return result.T if tall else result


class ConvMuon(torch.optim.Optimizer):
    """Muon for convolution weights, flattened to (outputs, inputs * height * width).

    ``torch.optim.Muon`` takes matrices only and runs Newton-Schulz in bfloat16, which CPUs without that type
    do slowly; this one works in the weight's own precision.

    Args:
        params: weights of two or more dimensions.
        lr: step; the update has spectral norm about lr * max(1, rows / columns)^0.5.
        momentum: Nesterov momentum.
        weight_decay: decoupled: a step shrinks the weight by lr * weight_decay. Without it the steps, all of
            one size, let the weights grow until a batch blows up.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 1e-2, momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient; a closure is not supported."""
        if closure is not None:
            raise ValueError("ConvMuon takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average: Tensor = state["momentum"]
                average.lerp_(weight.grad, 1.0 - group["momentum"])
                matrix = weight.grad.lerp(average, group["momentum"]).flatten(1)
                rows, columns = matrix.shape
                scale = max(1.0, rows / columns) ** 0.5
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonalised(matrix).reshape(weight.shape), alpha=-group["lr"] * scale)


def takes_muon(weight: Tensor) -> bool:
    """Whether a parameter is a convolution weight with both flattened sides of at least 32."""
    return weight.ndim == 4 and min(weight.shape[0], weight[0].numel()) >= MUON_SMALLEST_SIDE


class ModuleOptimiser:
    """The optimisers of one network, driven by one learning rate.

    Args:
        module: its parameters that require gradients are trained.
        kind: ``adam``, or ``muon`` (:class:`ConvMuon` where :func:`takes_muon`, Adam for the rest).
        muon_scale: Muon's learning rate in multiples of Adam's.

    Raises:
        ValueError: unknown kind.
    """

    def __init__(self, module: nn.Module, kind: str, muon_scale: float) -> None:
        if kind not in OPTIMISERS:
            raise ValueError(f"unknown optimiser {kind!r}; known are {', '.join(OPTIMISERS)}")
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        muon = [p for p in self.parameters if kind == "muon" and takes_muon(p)]
        chosen = {id(p) for p in muon}
        rest = [p for p in self.parameters if id(p) not in chosen]
        betas = _ADAM_BETAS_BESIDE_MUON if kind == "muon" else (0.9, 0.999)
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if rest:
            self._parts.append((torch.optim.Adam(rest, betas=betas, fused=True), 1.0))
        if muon:
            self._parts.append((ConvMuon(muon), muon_scale))
        self.updates = 0

    def step(self, rate: float) -> None:
        """Apply and clear the gradients at learning rate ``rate``."""
        for optimiser, scale in self._parts:
            for group in optimiser.param_groups:
                group["lr"] = rate * scale
            optimiser.step()
        self.zero_grad()
        self.updates += 1

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """State by flat name ``part.parameter.field``; every entry of both optimisers is a tensor."""
        return {
            f"{part}.{index}.{field}": value
            for part, index, fields in self._entries()
            for field, value in fields.items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what :meth:`tensors` gave."""
        for part, (optimiser, _) in enumerate(self._parts):
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            for key, value in tensors.items():
                name, index, field = key.split(".")
                if int(name) == part:
                    parameter = parameters[int(index)]
                    # Fused Adam walks memory: its state must be laid out as the parameter is.
                    like = torch.empty_like(parameter) if value.shape == parameter.shape else value.clone()
                    optimiser.state[parameter][field] = like.copy_(value).to(parameter.device)

    def _entries(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for part, (optimiser, _) in enumerate(self._parts):
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            for index, parameter in enumerate(parameters):
                if parameter in optimiser.state:
                    yield part, index, optimiser.state[parameter]
