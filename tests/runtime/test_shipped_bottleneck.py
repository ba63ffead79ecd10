"""The bottleneck that comes with the package, published with the real network, on photographs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from codec_runtime.bundle.store import read_verified
from codec_runtime.serving.classification_cuts import site_cuts
from codec_runtime.split.bottleneck_data import centre_view, classifier_input
from codec_runtime.split.bundles import publish_classifier, release_graph
from codec_runtime.split.release import network_release
from codec_runtime.split.squeezed_release import SHIPPED, find_release
from codec_runtime.training.data import list_images, load_image

DATA = Path(os.environ.get("SEMCOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
KODAK = DATA / "images" / "kodak"
NAME = "efficientnet-lite0-blocks11"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("efficientnet_lite_pytorch") is None, reason="the extra `pretrained` is not installed"
    ),
]


def test_every_shipped_bottleneck_can_be_read() -> None:
    assert [folder.name for folder in SHIPPED.iterdir()] == [NAME]
    record = find_release(NAME).record
    agreement = [figures.agreement for figures in record.figures]
    assert [figures.bytes for figures in record.figures] == sorted(
        (figures.bytes for figures in record.figures), reverse=True
    )
    assert min(agreement) > 0.5


@pytest.mark.skipif(not KODAK.is_dir(), reason=f"no photographs below {KODAK}: set SEMCOM_DATA")
def test_the_shipped_bottleneck_does_on_photographs_what_its_record_says(tmp_path: Path) -> None:
    squeezed = find_release(NAME)
    release, state = network_release("efficientnet-lite0", "efficientnet-lite0", 1, {}, None)
    publish_classifier(release, state, release_graph(release, state), [], tmp_path, squeezed=[squeezed])
    verified = read_verified(tmp_path / "classifier" / "efficientnet-lite0" / "1")
    network = verified.build().eval()
    _, cuts = site_cuts(verified, network)
    views = [classifier_input(centre_view(load_image(path))[None]) for path in list_images([KODAK])]
    with torch.inference_mode():
        wanted = [int(network(view).argmax()) for view in views]
        for point, figures in list(enumerate(squeezed.record.figures))[1::2]:
            (parts,) = (part for name, part in cuts.items() if name.endswith(f"-p{point}"))
            found, sizes = [], []
            for view in views:
                features, _ = parts.head(view)
                sent = parts.coder.encode([tensor.numpy() for tensor in features])
                (logits,) = parts.tail(*map(torch.from_numpy, parts.coder.decode(sent).tensors))
                found.append(int(logits.argmax()))
                sizes.append(len(sent))
            agreement = np.mean(np.array(found) == np.array(wanted))
            # 24 pictures: a standard deviation is 0.1
            assert agreement > figures.agreement - 0.3
            assert max(sizes) <= figures.cap_bytes
            assert 0.8 < np.mean(sizes) / figures.bytes < 1.2
