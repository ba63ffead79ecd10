"""`semcom train codec`: networks of a family trained by a recipe on folders of photographs, into a folder.

The folder holds ``encoder.safetensors``, ``NAME.safetensors`` of each decoder (fp32, averaged weights; NAME
is the kind, with the tier behind a dash unless it is medium), ``pca.safetensors`` (the linear floor's
components) and ``provenance.json``. ``joint-single`` has one ``encoder-NAME.safetensors`` a decoder instead.

States of the folder: *empty*; *unfinished* (``unfinished.safetensors`` is there, and the weights of the
stages done): the same settings go on, others are refused; *finished* (provenance says so): the same settings
do nothing, others are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import nn
from tqdm import tqdm

from codec_runtime.bundle.store import write_atomic
from codec_runtime.codecs.linear import PatchPca, fit_patch_pca
from codec_runtime.codecs.registry import FAMILIES, TIERS, build_decoder, build_encoder
from codec_runtime.training.checkpoint import CHECKPOINT_FILE, Checkpoint, DifferentTrainingError, differences
from codec_runtime.training.code_version import code_version
from codec_runtime.training.config import Budget, TrainConfig
from codec_runtime.training.events import AllEvents, ProgressBar, StageRecord, TensorBoard, TrainEvents
from codec_runtime.training.packed import open_training_data
from codec_runtime.training.ranks import Ranks
from codec_runtime.training.recipes import ANCHOR, ENCODER, TrainResult, bypass_from_anchor, train
from codec_runtime.training.seeds import derived_seed
from codec_runtime.training.starting import PROVENANCE_FILE, Initial, read_initial
from codec_runtime.training.trainer import BatchSource

MIRROR = "attention"
"""Decoder that the ``anchor`` recipe trains the encoder with; of tier medium, it is published as such."""

_PCA_CROPS = 1024


@dataclass(frozen=True)
class DecoderChoice:
    """A decoder to train: kind and compute tier."""

    kind: str
    tier: str = "medium"

    @property
    def name(self) -> str:
        """``conv``, or ``conv-small``."""
        return self.kind if self.tier == "medium" else f"{self.kind}-{self.tier}"


@dataclass(frozen=True)
class CodecTraining:
    """What to train.

    Attributes:
        images: folders of pictures, or one packed file.
        out: folder of the results.
        model: hyper-parameters in place of the family's defaults (or of the initial weights').
        encoder_budget: of the encoder (``anchor``: of stage 1; 0 keeps the initial encoder).
        decoder_budget: of each decoder.
        initial: folder of an earlier training, or bundle root, to start from.
        command: command line, for the provenance.
    """

    images: Sequence[Path]
    out: Path
    config: TrainConfig
    encoder_budget: Budget
    decoder_budget: Budget
    family: str = "fast"
    recipe: str = "anchor"
    decoders: tuple[DecoderChoice, ...] = (DecoderChoice("attention"), DecoderChoice("conv"))
    model: Mapping[str, int | str] = field(default_factory=dict)
    initial: Path | None = None
    command: str = ""
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class _Networks:
    encoder: nn.Module
    decoders: dict[str, nn.Module]
    model: dict[str, Any]
    initial: Initial | None
    loaded: list[str]

    @property
    def all(self) -> dict[str, nn.Module]:
        return {ENCODER: self.encoder, **self.decoders}


def parse_decoders(text: str) -> tuple[DecoderChoice, ...]:
    """``attention,conv:small`` -> choices.

    Raises:
        ValueError: a tier is unknown or a decoder named twice.
    """
    choices = []
    for part in text.split(","):
        kind, _, tier = part.strip().partition(":")
        if tier and tier not in TIERS:
            known = ", ".join(TIERS)
            raise ValueError(f"decoder {part.strip()!r}: no compute tier {tier!r}; known are {known}")
        choices.append(DecoderChoice(kind, tier or "medium"))
    if len(set(choices)) < len(choices):
        raise ValueError(f"a decoder is named twice in {text!r}")
    return tuple(choices)


def train_codec(
    training: CodecTraining,
    *,
    resume: bool | None = None,
    tensorboard: bool = False,
    device: torch.device | None = None,
    ranks: Ranks | None = None,
    events: TrainEvents | None = None,
) -> TrainResult | None:
    """Train into ``training.out``; None where that was done before.

    Args:
        resume: True: there must be something to go on from; False: begin anew; None: go on if possible.

    Raises:
        FileNotFoundError, ValueError: something given does not exist, or does not suit; it is named.
        DifferentTrainingError: the folder holds a training of other settings.
        TrainingInterrupted: a signal; the same call goes on.
    """
    ranks, device, out = ranks or Ranks(), device or torch.device("cpu"), training.out
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(desc="pictures", unit="img", disable=not ranks.writes) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        batches, pictures, data_sha256 = open_training_data(
            training.images, training.config.crop, training.config.seed, device, show
        )
    networks = _networks(training)
    record = _record(training, networks, pictures, data_sha256)
    checkpoint = Checkpoint(out / CHECKPOINT_FILE, record["identity"], training.checkpoint_minutes)
    if resume is False:
        if ranks.writes:
            checkpoint.clear()
            (out / PROVENANCE_FILE).unlink(missing_ok=True)
        ranks.wait()
    elif _finished(out / PROVENANCE_FILE, record["identity"]):
        return None
    if resume and not checkpoint.exists:
        raise FileNotFoundError(f"{out} holds no unfinished training ({CHECKPOINT_FILE}) to resume")
    if not checkpoint.exists:
        batches.restart(derived_seed(training.config.seed, "pca"))
        _start_from_pca(networks, batches, out if ranks.writes else None)
    for network in networks.all.values():
        network.to(device)
    listeners: list[TrainEvents] = [events] if events is not None else []
    bars = ProgressBar()
    if ranks.writes:
        listeners += [bars, _StageWriter(out, networks, record)]
    board = TensorBoard(out / "tensorboard") if tensorboard and ranks.writes else None
    if board is not None:
        listeners.append(board)
    try:
        result = _train(training, networks, batches, AllEvents(*listeners), checkpoint, ranks)
    finally:
        bars.close()
        if board is not None:
            board.close()
    if ranks.writes:
        _write_result(out, result, networks, record)
        checkpoint.clear()
    return result


def _train(
    training: CodecTraining, networks: _Networks, batches: BatchSource, events: TrainEvents,
    checkpoint: Checkpoint, ranks: Ranks,
) -> TrainResult:
    decoders, anchor = dict(networks.decoders), None
    keeps_encoder = training.encoder_budget.spent(0, 0.0) >= 1.0
    if training.recipe == "anchor" and (MIRROR in networks.loaded or not keeps_encoder):
        # The mirror is trained with the encoder; as a user's decoder it would learn the same again.
        anchor = decoders.pop(MIRROR)

    def warm_start(name: str, decoder: nn.Module, trained: nn.Module) -> None:
        if name not in networks.loaded:
            bypass_from_anchor(name, decoder, trained)

    return train(
        training.recipe, networks.encoder, decoders, batches, training.config,
        encoder_updates=training.encoder_budget, decoder_updates=training.decoder_budget, events=events,
        anchor=anchor, warm_start=warm_start, checkpoint=checkpoint, ranks=ranks,
    )


def _networks(training: CodecTraining) -> _Networks:
    """The networks, each initialised from a seed of its own, with the initial weights."""
    if training.family not in FAMILIES:
        raise ValueError(f"no codec family {training.family!r}; known are {', '.join(FAMILIES)}")
    initial = read_initial(training.initial) if training.initial is not None else None
    config = FAMILIES[training.family].config(**{**(initial.model if initial else {}), **training.model})
    choices = list(training.decoders)
    if training.recipe == "anchor" and DecoderChoice(MIRROR) not in choices:
        choices.insert(0, DecoderChoice(MIRROR))

    def seeded(name: str) -> None:
        torch.manual_seed(derived_seed(training.config.seed, "initialisation", name))

    seeded(ENCODER)
    encoder = build_encoder(training.family, config)
    decoders = {}
    for choice in choices:
        seeded(choice.name)
        decoders[choice.name] = build_decoder(training.family, choice.kind, config, choice.tier)
    loaded = initial.apply({ENCODER: encoder, **decoders}) if initial is not None else []
    if training.recipe == "anchor" and training.encoder_budget.spent(0, 0.0) >= 1.0 and ENCODER not in loaded:
        raise ValueError("an encoder budget of 0 needs --initial weights: there is no encoder to freeze")
    return _Networks(encoder, decoders, dict(config.as_dict()), initial, loaded)


def _start_from_pca(networks: _Networks, batches: BatchSource, out: Path | None) -> None:
    """Networks that can start at the linear codec do, unless they have initial weights."""
    pca: PatchPca = fit_patch_pca(list(batches.batch(_PCA_CROPS)), 4 * networks.model["latent_channels"])
    for name, network in networks.all.items():
        start = getattr(network, "start_from_pca", None)
        if start is not None and name not in networks.loaded:
            start(pca)
    if out is not None:
        tensors = {"mean": pca.mean, "components": pca.components.contiguous(), "variances": pca.variances}
        write_atomic(out / "pca.safetensors", save_safetensors(tensors))


def _record(training: CodecTraining, networks: _Networks, pictures: int, data_sha256: str) -> dict[str, Any]:
    described = {
        name: {
            "architecture": getattr(network, "architecture", ""),
            "hyperparameters": _hyperparameters(network),
        }
        for name, network in networks.all.items()
    }
    settings: dict[str, Any] = {
        "recipe": training.recipe,
        "family": training.family,
        "train": asdict(training.config),
        "model": networks.model,
        "networks": described,
        "encoder_budget": asdict(training.encoder_budget),
        "decoder_budget": asdict(training.decoder_budget),
        "data_sha256": data_sha256,
    }
    came_from = networks.initial.provenance if networks.initial is not None else None
    return {
        **settings,
        "pictures": pictures,
        "folders": [path.name for path in training.images],
        "seed": training.config.seed,
        "stages": [],
        "initial": came_from,
        "code": code_version(),
        "command": training.command,
        "finished": False,
        "identity": {**settings, "initial": _origin(came_from)},
    }


def _origin(provenance: Mapping[str, Any] | None) -> Any:
    """What tells initial weights apart."""
    if provenance is None:
        return None
    return provenance.get("weights_sha256") or {
        key: provenance.get(key) for key in ("identity", "stages", "data_sha256")
    }


def _hyperparameters(network: nn.Module) -> dict[str, Any]:
    config: Any = network.config
    return dict(config.as_dict())


def _finished(provenance: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder holds the result of this very training.

    Raises:
        DifferentTrainingError: it holds that of another one.
    """
    if not provenance.exists():
        return False
    record = json.loads(provenance.read_text())
    if not record.get("finished"):
        return False
    if changed := differences(record["identity"], json.loads(json.dumps(identity))):
        raise DifferentTrainingError(
            f"{provenance.parent} holds a finished training of other settings: {'; '.join(changed)}. "
            "Choose another folder with --out, or begin anew with --no-resume"
        )
    return True


class _StageWriter(TrainEvents):
    """Weights and provenance of each stage that is done, so that they can be looked at before the end."""

    def __init__(self, out: Path, networks: _Networks, record: dict[str, Any]) -> None:
        self._out, self._networks, self._record = out, networks.all, record
        if (out / CHECKPOINT_FILE).exists() and (out / PROVENANCE_FILE).exists():
            record["stages"] = json.loads((out / PROVENANCE_FILE).read_text())["stages"]

    def on_stage_end(self, record: StageRecord) -> None:
        for name in record.updates:
            published = MIRROR if name == ANCHOR else name
            if published in self._networks:
                _write_weights(self._out, published, self._networks[published])
        self._record["stages"].append(_stage_row(record))
        _write_json(self._out, self._record)


def _write_result(out: Path, result: TrainResult, networks: _Networks, record: dict[str, Any]) -> None:
    for name, decoder in networks.decoders.items():
        _write_weights(out, name, decoder)
        own = result.encoders.get(name, networks.encoder)
        _write_weights(out, ENCODER if own is networks.encoder else f"{ENCODER}-{name}", own)
    record |= {
        "stages": [_stage_row(stage) for stage in result.stages],
        "gradient_cosines": [
            {"step": step, "cosines": [[a, b, round(c, 6)] for (a, b), c in cosines.items()]}
            for step, cosines in result.gradients
        ],
        "finished": True,
    }
    _write_json(out, record)


def _stage_row(record: StageRecord) -> dict[str, Any]:
    return {**record.as_dict(), "decoder": MIRROR if record.decoder == ANCHOR else record.decoder}


def _write_weights(out: Path, name: str, network: nn.Module) -> None:
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(out / f"{name}.safetensors", save_safetensors(tensors))


def _write_json(out: Path, record: Mapping[str, Any]) -> None:
    write_atomic(out / PROVENANCE_FILE, json.dumps(record, indent=2).encode())
