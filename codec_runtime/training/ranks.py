"""Data-parallel training under torchrun: gradients averaged over processes, everything else as in one.

Each process draws its own batches; after the backward pass gradients are averaged, so all hold the same
weights throughout. Process 0 writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those of the training.

    Attributes:
        rank: its number, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Mean over processes of each parameter's gradient; one message for all."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, fraction: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """Largest spent fraction and whether any process was told to stop: all leave a loop together."""
        if self.count == 1:
            return fraction, stop
        both = torch.tensor([fraction, float(stop)], dtype=torch.float64, device=device)
        distributed.all_reduce(both, distributed.ReduceOp.MAX)
        return float(both[0]), bool(both[1])

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of process 0."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def join(device: str) -> tuple[Ranks, torch.device]:
    """This process's place under torchrun, and its device; alone where torchrun did not start it.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ValueError: unknown device, or CUDA asked for and absent.
    """
    chosen = _device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(), chosen
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Ranks(distributed.get_rank(), distributed.get_world_size()), chosen


def leave() -> None:
    """End what :func:`join` began."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}; known are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is to be had; use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
