"""Central training on the generated set: it learns, repeats, leaves what is frozen alone, is bundled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from adapter_toy_set import CONFIG, toy_knowledge, toy_pairs

from codec_runtime.adapters.adapter import AdapterConfig, GraphAdapter
from codec_runtime.adapters.adapter_bundle import load_adapter, write_adapter
from codec_runtime.adapters.distillation import DistillationConfig, distil, mean_of_words
from codec_runtime.adapters.encoders.small_text import bucket_batch
from codec_runtime.adapters.losses import LossConfig
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.skb import write_knowledge_base
from codec_runtime.adapters.text_bag import TextBagConfig
from codec_runtime.adapters.training import (
    TrainingConfig,
    measure,
    new_adapter,
    new_optimiser,
    train_central,
    train_epoch,
)
from codec_runtime.bundle.errors import ManifestError, UnknownArchitectureError
from codec_runtime.bundle.store import load_module, verify_state
from codec_runtime.bundle.verification import verify_bundle

PROTOTYPES = toy_knowledge().prototypes
TRAINING = TrainingConfig(batch=64, learning_rate=3e-3, epochs=8)
TRAIN, TEST = toy_pairs(150, seed=1), toy_pairs(50, seed=2)


def test_training_multiplies_retrieval_of_unseen_pairs():
    adapter = new_adapter(CONFIG, seed=0)
    before = measure(adapter, TEST, PROTOTYPES).rsum
    curve = train_central(adapter, TRAIN, TEST, PROTOTYPES, TRAINING)
    assert before < 130
    assert curve[-1].retrieval.rsum > 250
    assert curve[-1].loss < curve[0].loss
    assert curve[-1].retrieval == measure(adapter, TEST, PROTOTYPES)


def test_the_same_seed_trains_the_same_weights_whatever_torchs_generator_says():
    results = []
    for state in (1, 2):
        torch.manual_seed(state)
        adapter = new_adapter(CONFIG, seed=4)
        train_central(adapter, TRAIN, TEST, PROTOTYPES, replace(TRAINING, epochs=1))
        results.append(adapter.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_prototypes_and_tokens_stay_frozen():
    prototypes, values = PROTOTYPES.clone(), TRAIN.images.values.clone()
    train_central(new_adapter(CONFIG, 0), TRAIN, TEST, prototypes, replace(TRAINING, epochs=1))
    assert torch.equal(prototypes, PROTOTYPES)
    assert torch.equal(values, TRAIN.images.values)


def test_pairs_left_out_of_the_gradient_change_nothing():
    adapter = new_adapter(CONFIG, 0)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    seen = train_epoch(
        adapter, new_optimiser(adapter, TRAINING), TRAIN, PROTOTYPES, LossConfig(),
        torch.Generator().manual_seed(0), batch=64, kept=torch.zeros(len(TRAIN)),
    )
    assert all(torch.equal(value, before[name]) for name, value in adapter.state_dict().items())
    assert bool(seen.isnan().all())


def test_wrong_pairs_have_the_higher_loss_after_an_epoch():
    owner = TRAIN.owner.clone()
    wrong = torch.arange(len(owner)) % 10 == 0
    owner[wrong] = (owner[wrong] + 40) % len(TRAIN.images)
    said = PairSet(TRAIN.images, TRAIN.texts, owner)
    adapter = new_adapter(CONFIG, 0)
    optimiser, generator = new_optimiser(adapter, TRAINING), torch.Generator().manual_seed(0)
    losses = LossConfig(negatives="mean")
    for _ in range(4):
        seen = train_epoch(adapter, optimiser, said, PROTOTYPES, losses, generator, batch=64)
    known = ~seen.isnan()
    assert float(seen[wrong & known].mean()) > 1.5 * float(seen[~wrong & known].mean())


def test_diverging_training_says_so():
    wild = replace(TRAINING, learning_rate=float("inf"))
    with pytest.raises(FloatingPointError, match="learning rate"):
        train_central(new_adapter(CONFIG, 0), TRAIN, TEST, PROTOTYPES, wild)


def test_an_adapter_goes_through_a_bundle_and_works_with_its_knowledge_base_only(tmp_path: Path):
    knowledge = write_knowledge_base(tmp_path, toy_knowledge(), version=1, source="toy")
    other = write_knowledge_base(tmp_path, toy_knowledge(11), version=2, source="toy")
    adapter = new_adapter(CONFIG, 3).eval()
    place, manifest = write_adapter(
        tmp_path, adapter, knowledge, version=1, encoders={"toy-image": "1" * 64}, metrics={"rsum": 1.5}
    )
    assert verify_bundle(place).sound
    assert manifest.works_with("skb", knowledge.sha256)
    assert not manifest.works_with("skb", other.sha256)
    _, again = load_adapter(place, knowledge)
    texts = TEST.texts
    assert torch.allclose(again(texts, PROTOTYPES).pooled, adapter(texts, PROTOTYPES).pooled, atol=2e-2)
    with pytest.raises(ManifestError, match="another knowledge base"):
        load_adapter(place, other)
    with pytest.raises(ManifestError, match="not adapter"):
        load_adapter(tmp_path / "skb" / "semantic" / "1", knowledge)
    with pytest.raises(ValueError, match="bundle first"):
        write_adapter(tmp_path, adapter, toy_knowledge(), version=2, encoders={})


def test_a_manifest_cannot_name_a_network_beyond_bounds(tmp_path: Path):
    knowledge = write_knowledge_base(tmp_path, toy_knowledge(), version=1, source="toy")
    place, manifest = write_adapter(tmp_path, new_adapter(CONFIG, 0), knowledge, version=1, encoders={})
    for field, value in (("encoders", "a:4 " * 99), ("dimension", 10**9), ("attention_scale", float("nan"))):
        wrong = msgspec.structs.replace(manifest, hyperparameters={**manifest.hyperparameters, field: value})
        (place / "manifest.msgpack").write_bytes(msgspec.msgpack.encode(wrong))
        with pytest.raises(ManifestError, match=field):
            load_module(place)
    unknown = msgspec.structs.replace(manifest, architecture="x")
    (place / "manifest.msgpack").write_bytes(msgspec.msgpack.encode(unknown))
    with pytest.raises(UnknownArchitectureError):
        load_module(place)
    verify_state(place)


@pytest.mark.slow
def test_distillation_brings_a_student_nearer_to_its_teacher():
    words = [f"w{i}" for i in range(20)]
    generator = torch.Generator().manual_seed(0)
    meaning = torch.randn(20, 12, generator=generator)
    rows = torch.stack([torch.randperm(20, generator=generator)[:4] for _ in range(200)])
    sentences = [" ".join(words[i] for i in row) for row in rows.tolist()]
    targets = torch.nn.functional.normalize(meaning[rows].sum(1), dim=1)
    network = TextBagConfig(buckets=256, width=16, features=12)
    config = DistillationConfig(epochs=15, batch=32, learning_rate=1e-2)
    student = distil(sentences[:160], targets[:160], network, config)
    with torch.no_grad():
        own = mean_of_words(student, bucket_batch(sentences[160:], 256, 8))
    assert float((own * targets[160:]).sum(1).mean()) > 0.7


def test_a_configuration_names_the_features_of_each_encoder():
    assert AdapterConfig(encoders="a:3 b-c:40").features == {"a": 3, "b-c": 40}
    assert set(GraphAdapter(CONFIG).projections) == {"toy-image", "toy-text"}
