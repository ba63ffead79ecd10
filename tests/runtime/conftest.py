"""Fixtures of the runtime tests; what they are made of is in :mod:`runtime_site`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_site import Repository, Site, serve, write_decoder, write_encoder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Shipped bundles: encoder/anchor/1, decoder/attention/1, decoder/conv/1."""
    root = tmp_path / "weights"
    encoder = write_encoder(root)
    write_decoder(root, encoder, family="attention")
    write_decoder(root, encoder, family="conv", seed=3)
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "root.json")


@pytest.fixture
def site(weights: Path, tmp_path: Path, repository: Repository) -> Iterator[Site]:
    root = str(tmp_path / "root.json")
    # Niceness 0: a busy machine must not make the training test slow.
    with serve(weights, tmp_path / "state", trusted_root=root, training_nice=0) as running:
        yield running
