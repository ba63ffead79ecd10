"""Which adapter and knowledge base answer, what is kept of requests, what is retired: the pure parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_site import WORLD, write_aligned, write_knowledge

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.alignment import AdapterAssignment, AdapterTable
from codec_runtime.serving.alignment import KnowledgeMismatchError, choose_adapter
from codec_runtime.serving.alignment_compute import AlignWork, align
from codec_runtime.serving.alignment_models import retired_alignment
from codec_runtime.serving.alignment_pairs import PairBuffer
from codec_runtime.serving.alignment_reports import MAX_OPEN, ReportLedger, Source
from codec_runtime.serving.alignment_table import AssignmentTable
from codec_runtime.serving.inference import InferenceInputError
from codec_runtime.serving.registry import ModelRegistry, UnknownModelError
from codec_runtime.training.pair_files import pairs_file, read_pairs
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Knowledge bases 1 and 2; adapters 1 (base) and 2 (of 1) on the first, 3 (of 2) on the second."""
    first, second = write_knowledge(tmp_path, 1, 0), write_knowledge(tmp_path, 2, 5)
    write_aligned(tmp_path, first)
    write_aligned(tmp_path, first, version=2, parent=1, move=0.01)
    write_aligned(tmp_path, second, version=3, parent=2, move=0.02)
    loaded = ModelRegistry()
    for kind, name, versions in (("skb", "semantic", (1, 2)), ("adapter", "shared", (1, 2, 3))):
        loaded.publish(loaded.prepare([tmp_path / kind / name / str(v) for v in versions]))
    return loaded


def chosen(registry: ModelRegistry, **given: object) -> tuple[int, int, bool]:
    found = choose_adapter(registry.models, IMAGE_ENCODER, **given)  # type: ignore[arg-type]
    return found.adapter.manifest.version, found.knowledge.manifest.version, found.fallback


def test_without_assignment_the_newest_base_answers_and_an_assignment_goes_before_it(
    registry: ModelRegistry,
) -> None:
    assert chosen(registry) == (1, 1, False)
    assert chosen(registry, assigned=2) == (2, 1, False)
    assert chosen(registry, assigned=9) == (1, 1, False)
    assert chosen(registry, assigned=2, wanted=3) == (3, 2, False)


def test_a_device_with_an_older_knowledge_base_falls_back_to_the_parent_that_is_aligned_to_it(
    registry: ModelRegistry,
) -> None:
    assert chosen(registry, assigned=3, held={1, 2}) == (3, 2, False)
    assert chosen(registry, assigned=3, held={1}) == (2, 1, True)
    assert chosen(registry, held={2}) == (3, 2, True)


def test_no_knowledge_base_in_common_is_refused_with_both_sides_versions(registry: ModelRegistry) -> None:
    with pytest.raises(KnowledgeMismatchError, match=r"\[7\].*\[1, 2\]"):
        chosen(registry, held={7})
    with pytest.raises(KnowledgeMismatchError, match=r"\[1\].*\[2\]"):
        chosen(registry, wanted=3, held={1})


def test_an_encoder_or_a_version_that_no_adapter_knows_is_named(registry: ModelRegistry) -> None:
    with pytest.raises(UnknownModelError, match=f"known encoders are {IMAGE_ENCODER}"):
        choose_adapter(registry.models, "other")
    with pytest.raises(UnknownModelError, match="unknown version 9"):
        chosen(registry, wanted=9)


def test_an_adapter_enters_only_with_its_knowledge_base_and_keeps_it(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    alone = ModelRegistry()
    with pytest.raises(MixedPairError, match="knowledge base version 1, which is not loaded"):
        alone.prepare([tmp_path / "adapter" / "shared" / "1"])
    before = registry.models
    with pytest.raises(MixedPairError):
        registry.publish([], frozenset({tmp_path / "skb" / "semantic" / "2"}))
    assert registry.models is before


def work(registry: ModelRegistry, values: np.ndarray, lengths: list[int], version: int = 1) -> AlignWork:
    models = registry.models
    adapter = models.adapter("shared", version)
    return AlignWork(
        adapter.module, models.knowledge_of(adapter).module, IMAGE_ENCODER, "image",  # type: ignore[arg-type]
        values.astype(np.float32), np.array(lengths),
    )


def test_aligned_together_as_alone_and_padding_changes_nothing(registry: ModelRegistry) -> None:
    generator = np.random.default_rng(0)
    images = np.stack([WORLD.scene(generator).image for _ in range(3)])
    whole = work(registry, images[:2], [4, 4])
    padded = images[2:].copy()
    padded[:, 3:] = 7.0
    cut = work(registry, padded, [3])
    together = align([whole, cut])
    np.testing.assert_allclose(together[0]["tokens"], align([whole])[0]["tokens"], atol=1e-5)
    np.testing.assert_allclose(
        together[1]["pooled"], align([work(registry, images[2:, :3], [3])])[0]["pooled"], atol=1e-5
    )
    assert not together[1]["tokens"][:, 3:].any()
    assert ((together[0]["confidence"] >= 0) & (together[0]["confidence"] <= 1)).all()


@pytest.mark.parametrize(("shape", "lengths", "text"), [
    ((1, 4, 9), [4], r"shape \[B, 1..256, 64\]"), ((1, 4, 64), [5], "lengths"),
    ((1, 4, 64), [4, 4], "lengths"),
])
def test_tokens_out_of_shape_are_named(
    registry: ModelRegistry, shape: tuple[int, ...], lengths: list[int], text: str
) -> None:
    with pytest.raises(InferenceInputError, match=text):
        work(registry, np.zeros(shape), lengths).check()


def test_a_table_replaces_the_one_before_and_an_older_one_of_its_issuer_does_not(
    registry: ModelRegistry,
) -> None:
    table = AssignmentTable()

    def apply(sequence: int, issuer: str = "x", **versions: int) -> list[str]:
        items = [AdapterAssignment(user=u, adapter="shared", version=v) for u, v in versions.items()]
        sent = AdapterTable(issuer=issuer, sequence=sequence, assignments=items)
        return table.apply(sent, registry.models)

    assert apply(2, a=2, b=9) == ["b: adapter shared version 9 is not loaded"]
    assert apply(1, a=1) == []
    assert (table.version_for("a", "shared"), table.version_for("b", "shared")) == (2, None)
    apply(3, c=1)
    assert table.in_force() == {("shared", 1)}
    apply(1, issuer="y")
    assert len(table) == 0


def test_the_oldest_fine_tuned_adapter_that_nobody_has_makes_room(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    new = [registry.models.adapter("shared", 3).manifest]
    place = tmp_path / "adapter" / "shared"
    assert retired_alignment(registry.models, new, set(), 2, tmp_path) == {place / "2", place / "3"}
    assert retired_alignment(registry.models, new, {("shared", 2)}, 3, tmp_path) == {place / "3"}
    assert retired_alignment(registry.models, new, set(), 2, tmp_path / "elsewhere") == set()


def test_reports_are_means_and_bounded() -> None:
    ledger = ReportLedger()
    source = Source("u", "e", "shared", 2, 1)
    ledger.note(source, np.array([0.2, 0.4]))
    ledger.note(source, np.array([0.9]))
    ((_, report),) = ledger.take()
    assert (report.samples, report.adapter_version, report.skb_version) == (3, 2, 1)
    assert report.confidence == pytest.approx(0.5)
    assert ledger.take() == []
    early = [ledger.note(Source(str(i), "e", "shared", 1, 1), np.ones(1)) for i in range(MAX_OPEN + 2)]
    assert [reports[0][0].user for reports in early if reports] == ["0", "1"]


def add(buffer: PairBuffer, item: int, modality: str, user: str = "u", value: float = 1.0) -> None:
    features = WORLD.dimension if modality == "text" else WORLD.features
    buffer.add(
        user, item, encoder=TEXT_ENCODER if modality == "text" else IMAGE_ENCODER, modality=modality,
        tokens=np.full((2, features), value), pooled=np.ones(3, np.float32), adapter=("shared", 1),
    )


def test_pairs_are_complete_items_of_those_asked_for_and_survive_the_file(tmp_path: Path) -> None:
    now = [0.0]
    buffer = PairBuffer(4, 1 << 20, lambda: now[0])
    add(buffer, 1, "image")
    now[0] = 10.0
    for item in (2, 3):
        add(buffer, item, "image", value=float(item))
        add(buffer, item, "text", value=float(item))
    add(buffer, 3, "text", value=30.0)
    add(buffer, 1, "text")
    (samples,) = buffer.recent(["u", "nobody"])
    assert (len(samples.images), samples.owner) == (3, [0, 1, 1, 2])
    (recent,) = buffer.recent(["u"], max_age_s=5.0)
    assert len(recent.images) == 2
    (tmp_path / "pairs").write_bytes(pairs_file([recent]))
    pairs = read_pairs(tmp_path / "pairs")["u"]
    assert torch.equal(pairs.owner, torch.tensor([0, 1, 1]))
    assert float(pairs.texts.values[2, 0, 0]) == 30.0
    assert pairs.images.encoder == IMAGE_ENCODER
    (tmp_path / "bad").write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match="no users' pairs"):
        read_pairs(tmp_path / "bad")


def test_the_buffer_keeps_its_bounds(tmp_path: Path) -> None:
    buffer = PairBuffer(2, 800, lambda: 0.0)
    for item in range(5):
        add(buffer, item, "image")
    assert len(buffer) == 2
    for item in range(5):
        add(buffer, item, "image", user="v")
    assert buffer.total_bytes <= 800
    assert buffer.latest_pairs("u", ("shared", 1), 9) == []
