"""Send the pictures of a run again, over the same channel draws, under other settings.

Noise and fading depend on each transmission's seed alone (:func:`xapp.lab.channel.transmit`), so that two
settings are compared in pairs: the same picture through the same fading and the same noise on the channels
that both send.

What cannot be repeated is left out and counted: a decoder version may have been withdrawn or retired since.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import httpx
import numpy as np
import torch

from codec_runtime.contract.updates import SiteStatus
from xapp.lab.channel import transmit
from xapp.lab.inference_client import CodecClient, DecoderChoice, InferenceError, with_retries
from xapp.lab.pictures import Crop, DriftKind, PictureLibrary, load_library
from xapp.lab.records import Transmission
from xapp.lab.settings import LabSettings
from xapp.lab.transmission import Draw, measure

BATCH = 8
BATCH_PIXELS = 1 << 21  # half of what a runtime takes in a request by default
_UNKNOWN_VERSION = 404
ResultT = TypeVar("ResultT")
_DRIFTS: dict[str, DriftKind] = {"thermal": "thermal", "night": "night"}


@dataclass(frozen=True)
class ReplayResult:
    """Outcome of one repeated transmission: its id, what was used, and the quality (dB; 0..1)."""

    id: int
    prefix: int
    decoder_version: int
    psnr_db: float
    ms_ssim: float


@dataclass(frozen=True)
class _Order:
    """A transmission to repeat, with the rate and decoder version to use."""

    transmission: Transmission
    prefix: int
    decoder_version: int

    @property
    def batch_key(self) -> tuple[str, int, int, int]:
        """What a batch must have in common."""
        t = self.transmission
        return (t.decoder, self.decoder_version, t.encoder_version, t.size)


def _pictures_together(size: int) -> int:
    """Pictures of one request, squares of side ``size``."""
    return max(1, min(BATCH, BATCH_PIXELS // size**2))


def static_prefixes(count: int, mean_prefix: float, seed: int) -> list[int]:
    """A fixed rate: the two integer prefixes next to the mean, in the proportion that meets it, in random
    order.

    The total over ``count`` transmissions is ``round(count * mean_prefix)``, so it is exact when
    ``mean_prefix`` is the mean of as many integers.

    Raises:
        ValueError: a mean below 1.
    """
    if mean_prefix < 1.0:
        raise ValueError(f"mean prefix {mean_prefix}: at least 1 latent channel must be sent")
    total = round(count * mean_prefix)
    lower, upper_count = divmod(total, count) if count else (0, 0)
    prefixes = np.full(count, lower)
    prefixes[:upper_count] += 1
    np.random.default_rng([seed, 801]).shuffle(prefixes)
    return [int(p) for p in prefixes]


class Replay:
    """Repeats transmissions of a run at the runtime that served it.

    Args:
        settings: of the run: photographs, picture size, fading, runtime.
        library: None to read the photographs of the settings.
        progress: called with (done, of) after each batch.
        http_transport: in place of the network, for tests.

    Attributes:
        left_out: transmissions that were not repeated, by reason; of all calls.

    Raises:
        FileNotFoundError: the photographs are not there.
    """

    def __init__(
        self,
        settings: LabSettings,
        *,
        library: PictureLibrary | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
        http_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._library = library or load_library(settings.images, settings.picture_size)
        self._progress = progress
        self._transport = http_transport
        self.left_out: Counter[str] = Counter()

    def site(self) -> SiteStatus:
        """What the runtime serves now.

        Raises:
            InferenceError: it does not answer within the retry budget.
        """
        return asyncio.run(self._with_client(lambda client: self._patiently(client.site)))

    def repeatable(
        self, transmissions: Sequence[Transmission], site: SiteStatus, version: int | None = None
    ) -> list[Transmission]:
        """Those whose decoder and encoder are served; the others are counted in :attr:`left_out`.

        Args:
            version: of the decoder, None for that which was used.
        """
        served = {(m.kind, m.name, m.version) for m in site.models}
        encoders = {version for kind, _, version in served if kind == "encoder"}
        kept = []
        for t in transmissions:
            wanted = t.decoder_version if version is None else version
            if not t.repeatable:
                continue
            if ("decoder", t.decoder, wanted) not in served:
                self.left_out[f"{t.decoder} {wanted} is served no longer"] += 1
            elif t.encoder_version not in encoders:
                self.left_out[f"encoder {t.encoder_version} is served no longer"] += 1
            else:
                kept.append(t)
        return kept

    def static(
        self, transmissions: Sequence[Transmission], mean_prefix: float | None = None
    ) -> list[ReplayResult]:
        """The fixed rate that spends the same bandwidth; everything else as it was (encoder SNR, decoder,
        version).

        Args:
            transmissions: of the run; failed ones and conventional codecs are left out.
            mean_prefix: None for the mean of these transmissions.
        """
        kept = [t for t in transmissions if t.repeatable]
        if not kept:
            return []
        mean = sum(t.prefix for t in kept) / len(kept) if mean_prefix is None else mean_prefix
        prefixes = static_prefixes(len(kept), mean, self._settings.seed)
        return self._run([_Order(t, p, t.decoder_version) for t, p in zip(kept, prefixes, strict=True)])

    def parent(self, transmissions: Sequence[Transmission], parent_version: int) -> list[ReplayResult]:
        """The same transmissions restored by an earlier version of their decoder.

        Args:
            transmissions: of updated users after the swap; failed ones and conventional codecs are left out.
            parent_version: version before the update.
        """
        return self._run([_Order(t, t.prefix, parent_version) for t in transmissions if t.repeatable])

    def as_sent(self, transmissions: Sequence[Transmission]) -> list[ReplayResult]:
        """Repeat without change: a check that replay and run agree."""
        return self._run([_Order(t, t.prefix, t.decoder_version) for t in transmissions if t.repeatable])

    def _run(self, orders: Sequence[_Order]) -> list[ReplayResult]:
        torch.set_num_threads(1)
        return asyncio.run(self._with_client(lambda client: self._replay(client, orders)))

    async def _with_client(self, work: Callable[[CodecClient], Awaitable[ResultT]]) -> ResultT:
        settings = self._settings
        async with httpx.AsyncClient(
            base_url=settings.runtime_url,
            timeout=settings.request_timeout_s,
            transport=self._transport,
            trust_env=False,
        ) as http:
            return await work(CodecClient(http, settings.request_timeout_s))

    async def _replay(self, client: CodecClient, orders: Sequence[_Order]) -> list[ReplayResult]:
        results: list[ReplayResult] = []
        waiting = _batches(orders)
        while waiting:
            batch = waiting.pop(0)
            try:
                results.extend(await self._batch(client, batch))
            except InferenceError as error:
                lost = list(batch)
                if error.retriable:  # away for the whole budget: nothing further is worth that wait
                    lost += [order for other in waiting for order in other]
                    waiting = []
                self.left_out[str(error)] += len(lost)
            self._progress(len(orders) - sum(map(len, waiting)), len(orders))
        return sorted(results, key=lambda result: result.id)

    async def _patiently(self, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Repeat what may get better; a version that is unknown stays so, as no update is under way now."""

        async def once() -> ResultT:
            try:
                return await attempt()
            except InferenceError as error:
                error.retriable = error.retriable and error.status != _UNKNOWN_VERSION
                raise

        return await with_retries(once, budget_s=self._settings.retry_budget_s)

    async def _batch(self, client: CodecClient, orders: Sequence[_Order]) -> list[ReplayResult]:
        first = orders[0].transmission
        draws = [_draw(order.transmission) for order in orders]
        originals = np.stack([draw.picture(self._library) for draw in draws])
        prefix = np.array([order.prefix for order in orders], np.int32)
        encoder_snr = np.array([order.transmission.directive_snr_db for order in orders], np.float32)
        encoded = await self._patiently(
            lambda: client.encode(
                originals, snr_db=encoder_snr, prefix=prefix, encoder_version=first.encoder_version
            )
        )
        received = [
            transmit(symbols, int(p), draw.snr_db, order.transmission.fading_gain, draw.seed)
            for symbols, p, draw, order in zip(encoded.symbols, prefix, draws, orders, strict=True)
        ]
        choice = DecoderChoice(first.decoder, orders[0].decoder_version, first.encoder_version, first.size)
        restored = await self._patiently(
            lambda: client.decode(
                np.stack([r.symbols for r in received]),
                np.array([r.effective_snr_db for r in received], np.float32),
                prefix,
                choice,
            )
        )
        psnr, similarity = measure(restored, originals)
        return [
            ReplayResult(order.transmission.id, order.prefix, order.decoder_version, p, s)
            for order, p, s in zip(orders, psnr, similarity, strict=True)
        ]


def _batches(orders: Sequence[_Order]) -> list[list[_Order]]:
    """Requests of as many pictures as a runtime takes, those together that have the same batch key."""
    batches = []
    for _, group in groupby(sorted(orders, key=lambda o: o.batch_key), key=lambda o: o.batch_key):
        members = list(group)
        together = _pictures_together(members[0].transmission.size)
        batches += [members[start : start + together] for start in range(0, len(members), together)]
    return batches


def _draw(transmission: Transmission) -> Draw:
    return Draw(
        window=Crop(transmission.picture, transmission.top, transmission.left, transmission.size),
        drift=_DRIFTS.get(transmission.drift),
        seed=transmission.noise_seed,
        snr_db=transmission.snr_db,
        # The gain that was drawn is in the record.
        diversity=0,
    )
