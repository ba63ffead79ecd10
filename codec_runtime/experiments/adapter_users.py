"""Users of the adapter experiment: who has which pictures, which encoders, which wrong labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.attacks import flipped_labels
from codec_runtime.adapters.central import default_cache
from codec_runtime.adapters.encoders import load_encoder
from codec_runtime.adapters.encoders.minilm import mean_direction
from codec_runtime.adapters.methods import Samples, UpdateProblem, User
from codec_runtime.adapters.pairs import PairSet, read_captions
from codec_runtime.adapters.skb import build, spherical_means
from codec_runtime.adapters.token_cache import cached_tokens, inputs_sha256
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.adapters.tracking import LabelRule
from codec_runtime.adapters.training import TrainingConfig
from codec_runtime.training.seeds import derived_seed


@dataclass(frozen=True)
class CaptionedTokens:
    """A captioned set through every encoder.

    Attributes:
        images, texts: by encoder; N pictures, M sentences.
        owner: (M,) picture of each sentence.
        embeddings: (M, d) of the sentences, of unit norm: the space of the knowledge base.
        sha256: of pictures and of sentences.
    """

    images: Mapping[str, Tokens]
    texts: Mapping[str, Tokens]
    owner: Tensor
    embeddings: Tensor
    sha256: Mapping[str, str]

    def pairs(self, kind: tuple[str, str], pictures: Tensor) -> PairSet:
        """The pairs of ``pictures`` through an encoder of each modality."""
        return PairSet(self.images[kind[0]], self.texts[kind[1]], self.owner).of_images(pictures)


def captioned(
    folder: Path, images: Sequence[str], texts: Sequence[str], space: str = "minilm",
    cache: Path | None = None, on_inputs: Callable[[str, int], object] = lambda name, done: None,
    pieces: int = 1,
) -> CaptionedTokens:
    """Tokens of a folder that :func:`codec_runtime.adapters.pairs.read_captions` reads.

    Args:
        space: text encoder whose mean direction is a sentence's embedding.
        pieces: of a sentence in a row that make a token.

    Raises:
        ValueError, KeyError, EncoderUnavailableError: folder or encoders.
    """
    captions = read_captions(folder)
    cache = cache or default_cache()

    def tokens(name: str, inputs: Sequence[object]) -> Tokens:
        return cached_tokens(load_encoder(name), inputs, cache, lambda done: on_inputs(name, done))

    read = {name: tokens(name, captions.sentences) for name in dict.fromkeys((*texts, space))}
    return CaptionedTokens(
        {name: tokens(name, captions.pictures) for name in dict.fromkeys(images)},
        {name: found.grouped(pieces) for name, found in read.items()}, captions.owner,
        mean_direction(read[space]),
        {"images": inputs_sha256(captions.pictures), "sentences": inputs_sha256(captions.sentences)},
    )


@dataclass(frozen=True)
class UserSettings:
    """Who the users are.

    Attributes:
        encoders: pictures' and sentences' encoder of each user, ``IMAGE TEXT``.
        light: what every user can run: all that homogeneous averaging has, and what ours has in common.
        pieces: word pieces in a row that make a text token, by their mean; a third of the tokens takes a
            third of the time.
        test: pictures to measure on; source: of the base station: its sentences make the knowledge base.
        held_out: share of a user's pictures kept from training.
        pictures: of each user at most; None: what there is, in equal parts.
        clusters: of content, by k-means of captions' mean embeddings.
        prototypes: K of the knowledge base.
        split_seed: of test and source pictures, the same for all seeds.
    """

    encoders: tuple[str, ...] = (
        "efficientnet-late minilm", "efficientnet-early small-text", "efficientnet-late small-text",
        "efficientnet-early minilm", "jscc minilm", "efficientnet-late small-text",
        "efficientnet-early minilm", "efficientnet-late minilm", "efficientnet-early small-text",
        "jscc small-text",
    )
    light: str = "efficientnet-early small-text"
    pieces: int = 3
    test: int = 200
    source: int = 100
    held_out: float = 0.15
    pictures: int | None = None
    clusters: int = 10
    prototypes: int = 128
    split_seed: int = 0

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Encoders of each user."""
        return [_kind(entry) for entry in self.encoders]

    @property
    def names(self) -> list[str]:
        """Of the users."""
        return [f"u{place}" for place in range(len(self.encoders))]

    def all_encoders(self) -> tuple[list[str], list[str]]:
        """Names of the pictures' and of the sentences' encoders, the light ones among them."""
        kinds = [*self.kinds, _kind(self.light)]
        return sorted({image for image, _ in kinds}), sorted({text for _, text in kinds})


def _kind(entry: str) -> tuple[str, str]:
    parts = entry.split()
    if len(parts) != 2:
        raise ValueError(f"encoders {entry!r}: one of pictures and one of sentences, with a blank between")
    return parts[0], parts[1]


def error_shares(errors: str, users: int) -> list[float]:
    """Share of wrong labels of each user: ``"40"`` per cent, or ``"mixed"``: half 20, half 60 per cent.

    Raises:
        ValueError: neither.
    """
    if errors == "mixed":
        return [0.2] * (users // 2) + [0.6] * (users - users // 2)
    try:
        share = float(errors) / 100
    except ValueError:
        raise ValueError(f"label errors {errors!r}: a percentage or mixed is needed") from None
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"label errors {errors!r}: 0 to 100 per cent")
    return [share] * users


def non_iid(clusters: Tensor, users: int, each: int, alpha: float, seed: int) -> list[Tensor]:
    """Pictures of each user, ``each`` of them, none of two users.

    Every user draws its own mix of clusters from Dirichlet(alpha) and takes pictures from it until the
    cluster is empty (Hsu et al. 2019, "Measuring the effects of non-identical data distribution").

    Args:
        clusters: (N,) cluster of each picture; alpha: infinity for equal mixes.

    Returns:
        Indices into ``clusters``, sorted.

    Raises:
        ValueError: fewer than ``users * each`` pictures.
    """
    if users * each > len(clusters):
        raise ValueError(f"{users} users of {each} pictures need {users * each}; there are {len(clusters)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(clusters), generator=generator)
    if math.isinf(alpha):
        return [order[user * each : (user + 1) * each].sort().values for user in range(users)]
    count = int(clusters.max()) + 1
    stock = [order[clusters[order] == cluster].tolist() for cluster in range(count)]
    mixes = _dirichlet(alpha, users, count, generator)
    taken: list[list[int]] = [[] for _ in range(users)]
    for _ in range(each):  # in turns, so that no user is left with the rest
        for user in range(users):
            left = torch.tensor([float(len(part) > 0) for part in stock])
            wanted = (mixes[user] + 1e-9) * left
            cluster = int(torch.multinomial(wanted, 1, generator=generator))
            taken[user].append(stock[cluster].pop())
    return [torch.tensor(sorted(own)) for own in taken]


def _dirichlet(alpha: float, rows: int, count: int, generator: torch.Generator) -> Tensor:
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.distributions.Dirichlet(torch.full((count,), alpha)).sample((rows,))


def with_errors(pairs: PairSet, share: float, seed: int) -> tuple[PairSet, Tensor]:
    """``pairs`` with a share of the sentences passed on to other pictures of the same user.

    Every picture keeps its number of sentences.

    Returns:
        The pairs as they are said to be, and (N,) bool which are wrong.
    """
    # A sentence passed on within its own picture is no error: with five a picture one or two in a hundred.
    owner = pairs.owner[flipped_labels(len(pairs), share, seed)]
    return PairSet(pairs.images, pairs.texts, owner), owner != pairs.owner


def update_problem(
    tokens: CaptionedTokens, settings: UserSettings, *, alpha: float, errors: str, seed: int,
    training: TrainingConfig, config: AdapterConfig, epochs: int, source_epochs: int,
    rule: LabelRule | None = None,
) -> UpdateProblem:
    """The update that a cell makes.

    Args:
        config: its encoders are those of ``tokens``.

    Raises:
        ValueError: too few pictures.
    """
    pictures = int(tokens.owner.max()) + 1
    users = len(settings.encoders)
    order = torch.randperm(pictures, generator=torch.Generator().manual_seed(settings.split_seed))
    apart = settings.test + settings.source
    if apart >= pictures:
        raise ValueError(f"{apart} of {pictures} pictures to test on and for the base station: none is left")
    test, source, rest = (
        part.sort().values for part in (order[: settings.test], order[settings.test : apart], order[apart:])
    )
    means = _picture_means(tokens, pictures)
    count = min(settings.clusters, len(rest))
    centres = spherical_means(means[rest], count, settings.split_seed)
    clusters = (means[rest] @ centres.t()).argmax(1)
    each = settings.pictures or len(rest) // users
    parts = non_iid(clusters, users, each, alpha, derived_seed(seed, "split"))
    sentences = torch.isin(tokens.owner, source).nonzero()[:, 0]
    knowledge = build(tokens.embeddings[sentences], settings.prototypes, seed=settings.split_seed)
    light = _kind(settings.light)
    shared = {
        kind: (tokens.pairs(kind, test), tokens.pairs(kind, source)) for kind in {*settings.kinds, light}
    }
    found = []
    for name, kind, own, share in zip(
        settings.names, settings.kinds, parts, error_shares(errors, users), strict=True
    ):
        draws = derived_seed(seed, "errors", name)
        mixed = rest[own][torch.randperm(each, generator=torch.Generator().manual_seed(draws))]
        kept = max(2, round(settings.held_out * each))
        views, wrong = [], torch.zeros(0, dtype=torch.bool)
        for view in (kind, light):
            held_out, _ = with_errors(tokens.pairs(view, mixed[:kept]), share, draws)
            train, wrong = with_errors(tokens.pairs(view, mixed[kept:]), share, draws)
            views.append(Samples(train, held_out, *shared[view]))
        found.append(User(name, views[0], views[1], wrong))
    known = " ".join(f"{t.encoder}:{t.features}" for t in (*tokens.images.values(), *tokens.texts.values()))
    return UpdateProblem(
        found, knowledge.prototypes, replace(config, encoders=known, dimension=knowledge.dimension), training,
        rule or LabelRule(), epochs=epochs, source_epochs=source_epochs, seed=seed,
    )


def _picture_means(tokens: CaptionedTokens, pictures: int) -> Tensor:
    sums = torch.zeros(pictures, tokens.embeddings.shape[1]).index_add_(0, tokens.owner, tokens.embeddings)
    return torch.nn.functional.normalize(sums, dim=1)
