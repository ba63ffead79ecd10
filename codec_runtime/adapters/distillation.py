"""How the small text encoder was made: MiniLM's sentence embeddings as targets for the mean of its tokens.

    loss = 1 - cos(mean of tokens, target) + KL(similarities within the batch, target's || own)

The second term (relational distillation, Park et al., CVPR 2019, with a softmax) keeps who is near to whom,
which retrieval needs more than the direction itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from codec_runtime.adapters.encoders.small_text import bucket_batch
from codec_runtime.adapters.text_bag import TextBag, TextBagConfig
from codec_runtime.bundle.store import bundle_directory, write_bundle

_TEMPERATURE = 0.05


@dataclass(frozen=True)
class DistillationConfig:
    """Attributes: epochs, batch, learning_rate (Adam's peak, cosine to 0), max_words of a sentence, seed."""

    epochs: int = 12
    batch: int = 128
    learning_rate: float = 2e-3
    max_words: int = 24
    seed: int = 0


def distil(
    sentences: Sequence[str],
    targets: Tensor,
    network: TextBagConfig,
    config: DistillationConfig,
    on_epoch: Callable[[int, float], object] | None = None,
) -> TextBag:
    """A trained network.

    Args:
        sentences: N; targets: (N, features) of unit norm.
        on_epoch: called with the epoch and its mean loss.
    """
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student = TextBag(network)
    ids = bucket_batch(sentences, network.buckets, config.max_words)
    optimiser = torch.optim.Adam(student.parameters(), config.learning_rate)
    steps = config.epochs * max(len(ids) // config.batch, 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(config.epochs):
        order = torch.randperm(len(ids), generator=generator)
        total = 0.0
        count = max(len(ids) // config.batch, 1)
        for step in range(count):
            index = order[step * config.batch : (step + 1) * config.batch]
            loss = distillation_loss(mean_of_words(student, ids[index]), targets[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        if on_epoch is not None:
            on_epoch(epoch, total / count)
    return student.eval()


def mean_of_words(student: TextBag, ids: Tensor) -> Tensor:
    """Normalised mean of the tokens, (B, features)."""
    longest = int((ids > 0).sum(1).max())
    return F.normalize(student(ids[:, :longest]).sum(1), dim=1)


def distillation_loss(own: Tensor, target: Tensor) -> Tensor:
    """See the module's docstring; both (B, features) of unit norm."""
    near = torch.log_softmax(own @ own.t() / _TEMPERATURE, dim=1)
    wanted = torch.log_softmax(target @ target.t() / _TEMPERATURE, dim=1)
    direction = 1 - (own * target).sum(1).mean()
    return direction + F.kl_div(near, wanted, reduction="batchmean", log_target=True)


def write_small_text(root: Path, student: TextBag, *, version: int, provenance: dict[str, str],
                     metrics: dict[str, float]) -> Path:
    """Write the bundle ``root/encoder/small-text/version`` (fp16) and return its directory."""
    directory = bundle_directory(root, "encoder", "small-text", version)
    write_bundle(
        directory, kind="encoder", name="small-text", version=version, architecture=TextBag.architecture,
        hyperparameters=student.config.as_dict(), state=student.state_dict(), provenance=provenance,
        metrics=metrics,
    )
    return directory
