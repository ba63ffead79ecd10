"""What the commands of the digital path do: read weights and pictures, train, measure, write a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.store import (
    SHIPPED_WEIGHTS,
    bundle_directory,
    find_bundles,
    load_module,
    write_bundle,
)
from codec_runtime.digital.image import ARCHITECTURE, DigitalImageCodec, load_image_tables
from codec_runtime.digital.image_training import ImageTraining, finish, train_points
from codec_runtime.training.checkpoint import stop_on_signal
from codec_runtime.training.data import data_hash, list_images, load_image

KIND = "entropy-model"
NAME = "image"


def newest_pair(root: Path, decoder: str) -> tuple[Path, Path]:
    """Directories of the newest encoder and of the newest version of a decoder made for it.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [(directory, read_manifest(directory)) for directory in find_bundles(root)]
    encoders = [(m.version, d, m) for d, m in found if m.kind == "encoder"]
    if not encoders:
        raise FileNotFoundError(f"no encoder bundle below {root}")
    _, encoder, manifest = max(encoders, key=lambda e: e[0])
    decoders = [
        (m.version, d) for d, m in found
        if m.kind == "decoder" and m.name == decoder and m.encoder_sha256 == manifest.weights_sha256
    ]
    if not decoders:
        raise FileNotFoundError(f"no decoder {decoder!r} for encoder version {manifest.version} below {root}")
    return encoder, max(decoders)[1]


def load_digital_codec(tables: Path, weights: Path | None, decoder: str) -> DigitalImageCodec:
    """The codec of a bundle of tables and the encoder that they were made for.

    Raises:
        FileNotFoundError: no encoder or decoder; ValueError: the tables are of another encoder.
    """
    encoder_at, decoder_at = newest_pair(weights or SHIPPED_WEIGHTS, decoder)
    manifest, encoder = load_module(encoder_at)
    loaded, rates, encoder_sha256 = load_image_tables(tables)
    if encoder_sha256 != manifest.weights_sha256:
        raise ValueError(
            f"{tables}: made for encoder {encoder_sha256[:12]}, not {manifest.weights_sha256[:12]}"
        )
    return DigitalImageCodec(encoder, load_module(decoder_at)[1], loaded, rates)


def default_tables(root: Path) -> Path:
    """The newest tables of the image path below ``root``.

    Raises:
        FileNotFoundError: there are none.
    """
    found = [d for d in find_bundles(root) if d.parent.parent.name == KIND and d.parent.name == NAME]
    if not found:
        raise FileNotFoundError(f"no bundle {KIND}/{NAME} below {root}")
    return max(found, key=lambda directory: int(directory.name))


def train_digital(
    folders: Sequence[Path], run: Path, *, training: ImageTraining, weights: Path | None, decoder: str,
    version: int, rate_pictures: int, say: Callable[[str], None],
) -> Path | None:
    """Train tables for the newest encoder and write their bundle below ``run``; None if stopped before.

    Called again with the same settings it goes on where it stopped.
    """
    encoder_at, decoder_at = newest_pair(weights or SHIPPED_WEIGHTS, decoder)
    manifest, encoder = load_module(encoder_at)
    restorer = load_module(decoder_at)[1]
    paths = list_images(folders)
    pictures = [load_image(path) for path in paths]
    run.mkdir(parents=True, exist_ok=True)
    with stop_on_signal() as stop:
        model = train_points(encoder, restorer, pictures, training, run, stop=stop, report=say)
        if stop.requested:
            return None
    chosen = pictures[:: max(1, len(pictures) // rate_pictures)][:rate_pictures]
    tables, rates = finish(encoder, restorer, chosen, model, report=say)
    directory = bundle_directory(run, KIND, NAME, version)
    write_tables(
        directory, {**tables.state(), **rates.state()}, encoder_sha256=manifest.weights_sha256,
        version=version,
        provenance={
            "recipe": "semcom train digital", "seed": str(training.seed), "data_sha256": data_hash(paths),
            "data": ", ".join(folder.name for folder in folders), "pictures": str(len(paths)),
            "steps": f"{training.warm_steps} + {training.steps}", "decoder": decoder,
        },
    )
    return directory


def write_tables(
    directory: Path, state: Mapping[str, Tensor], *, encoder_sha256: str, version: int,
    provenance: Mapping[str, str],
) -> None:
    """Write a bundle of kind ``entropy-model``. float32: integers must survive exactly."""
    points, channels, _ = state["frequencies"].shape
    write_bundle(
        directory, kind="entropy-model", name=NAME, version=version, architecture=ARCHITECTURE,
        hyperparameters={"points": points, "channels": channels}, state=state, dtype="F32",
        encoder_sha256=encoder_sha256, provenance=provenance,
    )
