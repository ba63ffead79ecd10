"""The model card of published weights: what they are, what they were trained on, how good and how dear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from codec_runtime.contract.bundle import BundleManifest, QualityPoint
from codec_runtime.evaluation.codec import QualityRow, rate_name

CARD_SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)
CARD_WIDTH, CARD_HEIGHT = 768, 512
"""Picture on which the card's times are measured."""

CARD_BASELINES = ("linear", "jpeg+ldpc", "jpeg+capacity")
_FADING = "rayleigh_slow_eq"
_Cells = Mapping[tuple[str, str, int, float], QualityRow | QualityPoint]

_INTRODUCTION = """\
One encoder, and decoders of different architecture and size trained against it (the encoder frozen). The
first k of its latent channels are sent: bandwidth ratio R = k/96 complex symbols per source value, k chosen
per transmission. fp16 safetensors; measured as stored."""

_READING = """\
PSNR in dB after 8-bit rounding / MS-SSIM, mean over pictures, one noise draw each. *linear* is the
untrained PCA analogue codec with water-filling (the floor); *jpeg+ldpc* is JPEG with the fastest 5G NR scheme
(LDPC and QAM, measured thresholds) that works at that SNR; *jpeg+capacity* is JPEG sent error-free at the
Shannon capacity of the same number of symbols, which no real modem reaches: the reference for separate
coding, kindly treated."""

_CLOSING = """\
Made by `semcom train publish --images <Kodak folder>`; rows come out again with
`semcom eval codec --images <Kodak folder> --rate 1/16 --baselines linear,jpeg`."""


@dataclass(frozen=True)
class Card:
    """What the card says.

    Attributes:
        decoders: manifests with their surfaces: AWGN in every cell of the card, and slow fading.
        ms: of the encoder and of each decoder, for a picture of the card's size.
        baselines: over AWGN in every cell of the card.
        pictures: number of test pictures.
    """

    encoder: BundleManifest
    decoders: Sequence[BundleManifest]
    ms: Sequence[float]
    baselines: Sequence[QualityRow]
    pictures: int

    def text(
        self, prefixes: Sequence[int], fading_prefixes: Sequence[int], fading_snrs_db: Sequence[float]
    ) -> str:
        """Markdown."""
        bundles = [self.encoder, *self.decoders]
        names = [manifest.name for manifest in self.decoders]
        cells: dict[tuple[str, str, int, float], QualityRow | QualityPoint] = {
            (row.decoder, row.channel, row.prefix, row.snr_db): row for row in self.baselines
        }
        for manifest in self.decoders:
            cells |= {(manifest.name, p.channel, p.prefix, p.snr_db): p for p in manifest.quality}
        lines = [
            "# Model card: anchor JSCC codec",
            "",
            *_INTRODUCTION.splitlines(),
            "",
            f"| bundle | architecture | tier | parameters | MACs/pixel | ms ({CARD_WIDTH}x{CARD_HEIGHT}) |",
            "|---|---|---|---|---|---|",
            *(_bundle_line(manifest, ms) for manifest, ms in zip(bundles, self.ms, strict=True)),
            "",
            "ms: eager fp32 PyTorch on one CPU thread, the least of a few runs.",
            "",
            "## Training",
            "",
            "On research-use photographs, so the weights are for research use.",
            *_trainings(bundles),
            "",
            f"## Quality on {self.pictures} test pictures (Kodak), AWGN",
            "",
            *_READING.splitlines(),
            "",
            below_floor(cells, names, prefixes, CARD_SNRS_DB),
        ]
        for prefix in prefixes:
            lines += ["", f"### R = {rate_name(prefix)} (k = {prefix})", ""]
            lines += _quality(cells, (*names, *CARD_BASELINES), "awgn", prefix, CARD_SNRS_DB)
        lines += [
            "",
            "## Slow Rayleigh fading, perfect channel knowledge at the receiver",
            "",
            "One gain per picture and draw, several draws; the SNR is the mean one, which the encoder knows.",
        ]
        for prefix in fading_prefixes:
            lines += ["", f"### R = {rate_name(prefix)} (k = {prefix})", ""]
            lines += _quality(cells, names, _FADING, prefix, fading_snrs_db)
        return "\n".join([*lines, "", *_CLOSING.splitlines(), ""])


def _bundle_line(manifest: BundleManifest, ms: float) -> str:
    tier = manifest.hyperparameters.get("tier", "-")
    return (
        f"| {_identifier(manifest)} | {manifest.architecture} | {tier} "
        f"| {manifest.parameters:,} | {manifest.macs_per_pixel:,.0f} | {ms:.0f} |"
    )


def _identifier(manifest: BundleManifest) -> str:
    return f"{manifest.kind}/{manifest.name}/{manifest.version}"


def _trainings(bundles: Sequence[BundleManifest]) -> list[str]:
    """A paragraph for each training that bundles come from, with all of them; what goes on from the first one
    is told from there."""
    by_training: dict[tuple[str, ...], list[str]] = {}
    for manifest in bundles:
        of = manifest.provenance
        training = (of["data"], of["data_sha256"][:16], of["seed"], of["steps"], of["command"])
        by_training.setdefault(training, []).append(_identifier(manifest))
    *_, first_steps, first_command = next(iter(by_training))
    lines = []
    for (data, digest, seed, steps, command), names in by_training.items():
        goes_on = command.startswith(f"{first_command}; then ") and steps.startswith(f"{first_steps}, then ")
        made, commands = steps, f"Command: `{command}`"
        if goes_on:
            made = f"those, then {steps.removeprefix(f'{first_steps}, then ')}"
            commands = f"Command after the first: `{command.removeprefix(f'{first_command}; then ')}`"
        lines += [
            "",
            f"{', '.join(names)}: {data}, sha256 `{digest}`; seed {seed}. Steps made: {made}.",
            commands,
        ]
    return lines


def below_floor(
    cells: _Cells, decoders: Sequence[str], prefixes: Sequence[int], snrs_db: Sequence[float]
) -> str:
    """One line that says where a decoder is no better than the linear floor (PSNR, AWGN)."""
    worse: dict[str, dict[str, list[str]]] = {}
    for name, prefix, snr in product(decoders, prefixes, snrs_db):
        if cells[name, "awgn", prefix, snr].psnr_db <= cells["linear", "awgn", prefix, snr].psnr_db:
            worse.setdefault(name, {}).setdefault(rate_name(prefix), []).append(f"{snr:g}")
    if not worse:
        return "Above the linear floor in every cell."
    told = [
        f"{name} at R = " + ", ".join(f"{rate} ({', '.join(snrs)} dB)" for rate, snrs in of_rates.items())
        for name, of_rates in worse.items()
    ]
    return f"Below the linear floor in PSNR: {'; '.join(told)}. Everywhere else above it."


def command_of(record: Mapping[str, Any]) -> str:
    """The training's command line, behind that of the training whose weights it started from."""
    initial = record.get("initial") or {}
    earlier = f"{command_of(initial)}; then " if initial.get("command") else ""
    return f"{earlier}{record['command']}"


def steps_of(record: Mapping[str, Any]) -> str:
    """Steps of each stage, first run first: a budget in minutes says little about the training."""
    made = ", ".join(
        f"{stage['stage']} ({stage['decoder']}) {stage['steps']}"
        for stage in record["stages"] if "steps" in stage
    )
    initial = record.get("initial") or {}
    # A run keeps its stages, a published bundle what this said of them.
    earlier = steps_of(initial) if initial.get("stages") else initial.get("steps", "")
    return f"{earlier}, then {made}" if earlier else made


def _quality(
    cells: _Cells, names: Sequence[str], channel: str, prefix: int, snrs_db: Sequence[float]
) -> list[str]:
    lines = [
        "| scheme | " + " | ".join(f"{snr:g} dB" for snr in snrs_db) + " |",
        "|---" * (len(snrs_db) + 1) + "|",
    ]
    for name in names:
        values = (cells[name, channel, prefix, snr] for snr in snrs_db)
        shown = " | ".join(f"{row.psnr_db:.2f} / {row.ms_ssim:.3f}" for row in values)
        lines.append(f"| {name} | {shown} |")
    return lines
