"""A task that announces its second order and then sleeps, for a test that kills its node there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toy_adapter import toy_task

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.client import ClientUpdate, LocalTask


@dataclass(frozen=True)
class SlowTask:
    task: LocalTask
    mark: Path

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        if state:
            self.mark.touch()
            time.sleep(300)
        return self.task.train_round(weights, seed, others=others, state=state)

    def score(self, weights: Weights) -> float:
        return self.task.score(weights)


def slow_from_the_second_order(client: str, options: Mapping[str, str]) -> LocalTask:
    return SlowTask(toy_task(client, options), Path(options["folder"]) / f"{client}.working")
