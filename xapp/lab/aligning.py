"""Users of the lab whose devices hold frozen encoders, and align their tokens on the site's knowledge base.

Pictures and sentences are those of the generated world (:mod:`xapp.lab.captioned`): a few captioned pictures
a request, pictures and sentences one after the other, as a device would send them. When the scenario's
disturbance begins, the axes of the pictures' encoder turn; the users go on as before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import BadAnswerError, SiteError
from codec_runtime.client.protocol import HEADER_LENGTH, InferAnswer, build_request, parse_answer
from codec_runtime.contract import paths
from codec_runtime.contract.updates import SiteStatus
from xapp.lab.alignment_records import ALIGNMENTS_FILE, Alignment
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER, CaptionedWorld, Floats
from xapp.lab.cell import Cell
from xapp.lab.records import JsonLines
from xapp.lab.settings import LabSettings

logger = logging.getLogger(__name__)

TURN: Final = 0.8
"""How far the disturbance turns the axes of the pictures' encoder."""
PICTURES: Final = 24
"""Captioned ones of a request: a federated round needs some dozens of a user, seen since the drift."""
_INFER: Final = "/v2/models/align/infer"
_ANSWER_LIMIT: Final = 1 << 20
_RETRY_S: Final = 1.0


def aligning_users(settings: LabSettings, classes: Sequence[str]) -> list[int]:
    """Indices of the users that align: the first ones of their device class."""
    members = [index for index, name in enumerate(classes) if name == settings.align_group]
    return members[: settings.aligners]


class AligningUsers:
    """See the module docstring.

    Args:
        started: ``time.monotonic()`` of the lab's start.

    Attributes:
        answered, failed: requests.
    """

    def __init__(self, settings: LabSettings, cell: Cell, started: float) -> None:
        self._settings, self._cell, self._started = settings, cell, started
        self._world = CaptionedWorld()
        self._drifted = self._world.drifted(TURN)
        self._records = JsonLines(Path(settings.out) / ALIGNMENTS_FILE)
        self._http = httpx.AsyncClient(base_url=settings.runtime_url, trust_env=False)
        self._connection = SiteConnection(self._http)
        self.answered = self.failed = 0

    async def run(self) -> None:
        """Align until cancelled; begins when the site serves an adapter."""
        users = aligning_users(self._settings, self._cell.classes)
        try:
            while True:
                if await self._served():
                    break
                await asyncio.sleep(_RETRY_S)
            await asyncio.gather(*(self._user(place, index) for place, index in enumerate(users)))
        finally:
            self._records.close()
            await self._http.aclose()

    async def _served(self) -> bool:
        try:
            status = await self._connection.get(paths.SITE, SiteStatus)
        except SiteError as error:
            logger.info("aligning users wait", extra={"reason": str(error)})
            return False
        return any(manifest.kind == "adapter" for manifest in status.models)

    async def _user(self, place: int, index: int) -> None:
        interval = self._settings.align_interval_s
        generator = np.random.default_rng([self._settings.seed, 808, index])
        # Numbers that a lab started again does not use a second time: the site pairs by them.
        item = time.time_ns() // 1_000_000
        due = time.monotonic() + interval * (place + 1) / (self._settings.aligners + 1)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + interval, time.monotonic())
            elapsed = time.monotonic() - self._started
            turned = self._cell.scenario.active(elapsed)
            world = self._drifted if turned else self._world
            scenes = [world.scene(generator) for _ in range(PICTURES)]
            items = item + np.arange(PICTURES, dtype=np.int64)
            item += PICTURES
            user = self._cell.users[index]
            try:
                for encoder, tokens in (
                    (IMAGE_ENCODER, [scene.image for scene in scenes]),
                    (TEXT_ENCODER, [scene.text for scene in scenes]),
                ):
                    self._note(user, encoder, await self._aligned(user, encoder, tokens, items), turned)
            except SiteError as error:
                self.failed += 1
                logger.info("tokens not aligned", extra={"user": user, "reason": str(error)})

    async def _aligned(
        self, user: str, encoder: str, tokens: list[Floats], items: NDArray[np.int64]
    ) -> InferAnswer:
        """Ask the site. Raises: SiteError."""
        body, headers = build_request(
            {**padded(tokens), "item": items}, ("aligned", "confidence"),
            {"encoder": encoder, "modality": "image" if encoder == IMAGE_ENCODER else "text", "user": user},
        )
        reply = await self._connection.call("POST", _INFER, limit=_ANSWER_LIMIT, body=body, headers=headers)
        answer = parse_answer(reply.body, reply.headers.get(HEADER_LENGTH))
        confidence = answer.outputs.get("confidence")
        if confidence is None or confidence.shape != items.shape or "aligned" not in answer.outputs:
            raise BadAnswerError("the answer has no aligned tokens with their confidence")
        return answer

    def _note(self, user: str, encoder: str, answer: InferAnswer, turned: bool) -> None:
        self.answered += 1
        told = answer.parameters
        self._records.write(
            Alignment(
                time_ns=time.time_ns(), elapsed_s=time.monotonic() - self._started, user=user,
                encoder=encoder, adapter_version=int(told.get("adapter_version", 0)),
                skb_version=int(told.get("skb_version", 0)), samples=len(answer.outputs["confidence"]),
                confidence=float(answer.outputs["confidence"].mean()), drifted=turned,
            )
        )


def padded(samples: Sequence[Floats]) -> dict[str, NDArray[Any]]:
    """Inputs ``tokens`` (B, T, F) and ``lengths`` (B,) of samples (T_i, F)."""
    lengths = np.array([len(sample) for sample in samples], np.int32)
    tokens = np.zeros((len(samples), int(lengths.max()), samples[0].shape[1]), np.float32)
    for place, sample in enumerate(samples):
        tokens[place, : len(sample)] = sample
    return {"tokens": tokens, "lengths": lengths}
