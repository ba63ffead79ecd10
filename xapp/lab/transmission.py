"""One picture through encode, channel and decode: what is sent, what comes back, how good it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db
from codec_runtime.serving.conventional import complex_symbols, decode_picture, scheme_for
from xapp.lab.channel import effective_snr_db, fading_gain, transmit
from xapp.lab.inference_client import CodecClient, DecoderChoice, Encoded, InferenceError
from xapp.lab.pictures import Crop, DriftKind, Picture, PictureLibrary, drift

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Draw:
    """Everything random about a transmission, so that it can be repeated.

    Attributes:
        window: which part of which picture.
        drift: content drift.
        seed: of noise, fading and drift.
        snr_db: mean SNR.
        diversity: branches of the fading, 0 for no fading.
    """

    window: Crop
    drift: DriftKind | None
    seed: int
    snr_db: float
    diversity: int

    @property
    def gain(self) -> float:
        """|h|^2, 1 without fading."""
        return fading_gain(self.seed, self.diversity) if self.diversity else 1.0

    def picture(self, library: PictureLibrary) -> Picture:
        """The picture that is sent, (size, size, 3)."""
        return drift(library.crop(self.window), self.drift, self.seed)


@dataclass(frozen=True)
class Restored:
    """Outcome of a transmission; ``latency_ms`` is encode + decode as the client saw them.

    ``parent_version`` and ``parent_psnr_db``: of the same symbols restored by the decoder's parent, 0 and
    None where they were not.
    """

    original: Picture
    restored: Picture
    encoded: Encoded
    psnr_db: float
    ms_ssim: float
    latency_ms: float
    parent_version: int = 0
    parent_psnr_db: float | None = None


class PictureLost(InferenceError):
    """The bytes of a conventional codec did not survive the channel.

    Attributes:
        encoded: what was sent.
    """

    def __init__(self, encoded: Encoded, snr_db: float) -> None:
        sent = f"{encoded.codec} bytes sent for {encoded.snr_db:g} dB"
        super().__init__(f"{sent} were lost at {snr_db:.1f} dB", retriable=False)
        self.encoded = encoded


def draw_seed(seed: int, user: int, index: int) -> int:
    """Seed of the ``index``-th transmission of a user; below 2^53, so that JSON readers keep it exact."""
    return int(np.random.SeedSequence([seed, user, index]).generate_state(1, np.uint64)[0] >> np.uint64(11))


def measure(restored: NDArray[np.uint8], original: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """PSNR in dB and MS-SSIM of (B, H, W, 3) pictures, one value each per picture."""
    pair = _tensors(restored, original)
    with torch.inference_mode():
        return psnr_db(*pair).tolist(), ms_ssim(*pair).tolist()


def _tensors(*pictures: NDArray[np.uint8]) -> list[torch.Tensor]:
    """(B, H, W, 3) pictures as (B, 3, H, W)."""
    return [torch.from_numpy(p).permute(0, 3, 1, 2) for p in pictures]


def arrives(encoded: Encoded, side: int, snr_db: float, seed: int) -> bool:
    """Whether conventional bytes arrive at an effective SNR: sent once, in the 5G scheme that the SNR of the
    directive allows, with its measured block error rate."""
    scheme = scheme_for(encoded.snr_db)
    if scheme is None:
        return False
    lost = scheme.loss_probability(snr_db, complex_symbols(encoded.prefix, side, side))
    return bool(np.random.default_rng([seed, 902]).random() >= lost)


async def send_picture(
    client: CodecClient,
    library: PictureLibrary,
    user: str,
    draw: Draw,
    executor: Executor,
    held: frozenset[tuple[str, int]] | None = None,
    parent_of: Callable[[tuple[str, int]], int | None] = lambda decoder: None,
) -> Restored:
    """One attempt under the user's directive; pixel and noise work is done in ``executor``.

    Args:
        held: decoder versions on the device; None: it takes every version.
        parent_of: given the decoder, the version to restore the same symbols with too, None for no other.

    Raises:
        InferenceError: the runtime did not encode or decode, or it encoded for a decoder that the device does
            not hold (retriable: the next directive may fit).
        PictureLost: see there.
    """
    original = await _in(executor, lambda: draw.picture(library))
    begin = time.perf_counter()
    encoded = await client.encode(original[None], user=user)
    encode_s = time.perf_counter() - begin
    if encoded.codec != "semantic":
        return await _receive_file(original, encoded, draw, 1e3 * encode_s, executor)
    decoder = (encoded.decoder, encoded.decoder_version)
    if held is not None and decoder not in held:
        raise InferenceError(
            f"encoded for decoder {decoder[0]} version {decoder[1]}, which the device does not hold",
            retriable=True, decoder=decoder,
        )

    received = await _in(
        executor,
        lambda: transmit(encoded.symbols[0], encoded.prefix, draw.snr_db, draw.gain, draw.seed),
    )
    begin = time.perf_counter()

    async def restore(version: int) -> NDArray[np.uint8]:
        return await client.decode(
            received.symbols[None],
            np.array([received.effective_snr_db], np.float32),
            np.array([encoded.prefix], np.int32),
            DecoderChoice(decoder[0], version, encoded.encoder_version, original.shape[0]),
        )

    try:
        restored = await restore(decoder[1])
    except InferenceError as error:
        error.decoder = decoder
        raise
    latency_ms = 1e3 * (encode_s + time.perf_counter() - begin)
    psnr, similarity = await _in(executor, lambda: measure(restored, original[None]))
    outcome = Restored(original, restored[0], encoded, psnr[0], similarity[0], latency_ms)
    parent = parent_of(decoder)
    if parent is None:
        return outcome
    try:
        other = await restore(parent)
    except InferenceError:
        return outcome  # a comparison that fails is none; the picture has arrived
    other_psnr = await _in(executor, lambda: float(psnr_db(*_tensors(other, original[None]))[0]))
    return replace(outcome, parent_version=parent, parent_psnr_db=other_psnr)


async def _receive_file(
    original: Picture, encoded: Encoded, draw: Draw, encode_ms: float, executor: Executor
) -> Restored:
    """A conventional file over the channel; the device decodes it itself."""
    side = original.shape[0]
    snr_db = effective_snr_db(draw.snr_db, draw.gain)
    if not arrives(encoded, side, snr_db, draw.seed):
        raise PictureLost(encoded, snr_db)
    codec: ConventionalCodec = "heic" if encoded.codec == "heic" else "jpeg"
    begin = time.perf_counter()
    try:
        restored = await _in(executor, lambda: decode_picture(encoded.data, codec, side, side))
    except (OSError, SyntaxError, ModuleNotFoundError) as error:
        raise InferenceError(f"{codec} file is not readable: {error}", retriable=False) from error
    latency_ms = encode_ms + 1e3 * (time.perf_counter() - begin)
    psnr, similarity = await _in(executor, lambda: measure(restored[None], original[None]))
    return Restored(original, restored, encoded, psnr[0], similarity[0], latency_ms)


async def _in(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
