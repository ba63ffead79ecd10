"""A small classifier whose features are squeezed at one cut, as a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from classifier_releases import normalised, photograph

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.digital.quantisation import ChannelQuantiser
from codec_runtime.digital.tables import derive_tables
from codec_runtime.split.bottleneck import Bottleneck, BottleneckConfig
from codec_runtime.split.bundles import (
    ClassifierRelease,
    classifier_state,
    publish_classifier,
    release_graph,
)
from codec_runtime.split.classifiers import BranchesClassifier, WideClassifierConfig
from codec_runtime.split.squeezed import squeezed_state
from codec_runtime.split.squeezed_release import (
    PointFigures,
    SqueezedRecord,
    SqueezedRelease,
    network_digest,
)

BRANCHES = WideClassifierConfig(size=32, classes=5, width=8)
POINTS = 2
CAP_BYTES = 900


def network(version: int = 1) -> BranchesClassifier:
    torch.manual_seed(version)
    return BranchesClassifier(BRANCHES).eval()


def features(module: BranchesClassifier, seeds: range) -> torch.Tensor:
    """What the stem makes of photographs, (N, 8, 16, 16)."""
    pictures = np.concatenate([normalised(photograph(seed)) for seed in seeds])
    with torch.no_grad():
        crossing: torch.Tensor = module.stem(torch.from_numpy(pictures))
    return crossing


def bottleneck_release(version: int = 1, after: str = "stem") -> SqueezedRelease:
    """All eight channels behind the stem, in principal components; the last layer was tuned: doubled."""
    module = network(version)
    samples = features(module, range(24))
    bottleneck = Bottleneck(BottleneckConfig(channels=8, squeezed=8, hidden=4, points=POINTS)).eval()
    bottleneck.start_from_pca(samples, torch.ones(8), coarsest=0.5)
    with torch.no_grad():
        squeezed = bottleneck.squeeze(samples)
    quantiser = ChannelQuantiser(8)
    quantiser.fit(squeezed)
    tables = derive_tables(
        bottleneck.points, [quantiser] * POINTS, order=np.tile(np.arange(8, dtype=np.int32), (POINTS, 1)),
        sent=np.full(POINTS, 8, np.int32),
        fill=np.tile(squeezed.mean((0, 2, 3)).numpy(), (POINTS, 1)).astype(np.float32),
    )
    tuned = {
        f"tuned.classifier.{name}": 2.0 * tensor.detach()
        for name, tensor in module.classifier.state_dict().items()
    }
    record = SqueezedRecord(
        network="branches", after=after, network_sha256=network_digest(classifier_state(module)), channels=8,
        squeezed=8, hidden=4, stride=1, symbols=tables.frequencies.shape[2], tuned=("classifier",),
        figures=tuple(
            PointFigures(bytes=700.0 - 300 * point, cap_bytes=CAP_BYTES, agreement=0.9 - 0.2 * point, kl=0.1)
            for point in range(POINTS)
        ),
        recipe="principal components, for tests", data_sha256="none", seed=1, test_sha256="none",
        test_pictures=1,
    )
    return SqueezedRelease(record, {**squeezed_state(bottleneck, tables), **tuned})


def write_branches(
    root: Path, version: int = 1, squeezed: SqueezedRelease | None = None, storage: str = "F32"
) -> BundleManifest:
    """``root/classifier/branches/VERSION``: the picture, and the squeezed cut behind the stem."""
    release = ClassifierRelease(
        name="branches", version=version, architecture="branches", recipe="random, for tests",
        hyperparameters={"size": BRANCHES.size, "classes": BRANCHES.classes, "width": BRANCHES.width},
    )
    state = classifier_state(network(version))
    return publish_classifier(
        release, state, release_graph(release, state), [], root,
        squeezed=[squeezed or bottleneck_release(version)], storage=storage,  # type: ignore[arg-type]
    ).manifest
