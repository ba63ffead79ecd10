"""Recently encoded pictures of each user, bounded; what site training learns from. They never leave."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

MAX_USERS: Final = 10_000


class PictureBuffer:
    """Newest pictures by user; used from one thread.

    Args:
        per_user: pictures kept of one user.
        max_bytes: bound over all users; beyond it the user holding most bytes loses its oldest picture.
        max_users: beyond it the user silent for longest is forgotten: sizes alone would not bound the
            tiny pictures of invented users.
        clock: seconds, for the age of pictures.
    """

    def __init__(
        self,
        per_user: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        max_users: int = MAX_USERS,
    ) -> None:
        self._clock = clock
        self._per_user = per_user
        self._max_bytes = max_bytes
        self._max_users = max_users
        self._pictures: dict[str, deque[tuple[float, Picture]]] = {}
        self._bytes_of: dict[str, int] = {}
        self._count = 0
        self.total_bytes = 0

    def __len__(self) -> int:
        return self._count

    def add(self, user: str, images: npt.NDArray[Any]) -> None:
        """Keep copies of ``images``, (B, 3, H, W) uint8. A picture above the whole bound is left out."""
        for image in images:
            if image.nbytes > self._max_bytes:
                continue
            # Taken out and put back: the order of the users is that of their last picture.
            kept = self._pictures[user] = self._pictures.pop(user, deque())
            kept.append((self._clock(), np.array(image, dtype=np.uint8)))
            self._account(user, image.nbytes, 1)
            if len(kept) > self._per_user:
                self._drop_oldest(user)
            while len(self._pictures) > self._max_users:
                self._drop_oldest(next(iter(self._pictures)))
            while self.total_bytes > self._max_bytes:
                self._drop_oldest(max(self._bytes_of, key=self._bytes_of.__getitem__))

    def recent(self, users: Iterable[str], max_age_s: float | None = None) -> list[tuple[str, Picture]]:
        """(user, picture) of the users named, oldest first within a user; unknown users give none.

        Args:
            users: whose pictures.
            max_age_s: leave out pictures encoded longer ago than this; None for all kept.
        """
        oldest = float("-inf") if max_age_s is None else self._clock() - max_age_s
        return [
            (user, picture)
            for user in dict.fromkeys(users)
            for encoded_s, picture in self._pictures.get(user, ())
            if encoded_s >= oldest
        ]

    def _account(self, user: str, size: int, pictures: int) -> None:
        self._bytes_of[user] = self._bytes_of.get(user, 0) + size
        self.total_bytes += size
        self._count += pictures

    def _drop_oldest(self, user: str) -> None:
        self._account(user, -self._pictures[user].popleft()[1].nbytes, -1)
        if not self._pictures[user]:
            del self._pictures[user], self._bytes_of[user]
