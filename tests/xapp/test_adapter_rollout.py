"""An adapter's roll-out: staged as a decoder's, gated on alignment confidence."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from rollout_scene import FakeSite, Scene, no_wait
from xapp_simulated_site import bundle_files, make_manifest

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.updates import ActivationReport
from xapp.policy.adapters import AdapterCatalog
from xapp.rollout.gates import GateSettings
from xapp.rollout.orders import RolloutConflictError, RolloutOrder
from xapp.rollout.plan import PlanSettings
from xapp.rollout.state import Phase

ORDER = RolloutOrder(kind="adapter", group="drone", family="shared", version=2, parent=1)
GATES = GateSettings(margin_db=2.0, unit="points")


class AligningSite(FakeSite):
    """Serves adapter versions, too."""

    def __init__(self, name: str, repository: Any) -> None:
        self.adapters = AdapterCatalog()
        self.aligned = {1: make_manifest("adapter", "shared", 1, b"one")}
        super().__init__(name, repository)

    def _refresh(self) -> bool:
        self.adapters.update(list(self.aligned.values()))
        return super()._refresh()

    async def activate(self, bundles: list[str], **others: Any) -> ActivationReport:
        report = await super().activate([b for b in bundles if b.startswith("decoder")])
        if "adapter/shared/2" in self.repository.assignments().get(self.name, []):
            self.aligned[2] = make_manifest("adapter", "shared", 2, b"two", parent=1)
        else:
            self.aligned.pop(2, None)
        return report


class AlignedScene(Scene):
    """Users whose tokens are aligned; ``effect`` is what version 2 does to confidence, 0..1."""

    effect = 0.0

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path, {"tokyo": 6}, plan=PlanSettings(small_observe_s=6.0), gates=GATES)
        self.sites = {"tokyo": AligningSite("tokyo", self.repository)}
        manifest = make_manifest("adapter", "shared", 2, b"two", parent=1)
        if "adapter/shared/2" not in self.repository.bundles():
            self.repository.publish(manifest, bundle_files(manifest, b"two"), ())
        self.restart()

    def restart(self) -> None:
        if isinstance(next(iter(self.sites.values())), AligningSite):
            super().restart()

    def version_of(self, user: str) -> int:
        return self.sites["tokyo"].adapters.told(user, "drone", "shared") or 1

    def align(self, times: int) -> None:
        noise = random.Random(int(self.now))
        for _ in range(times):
            for place, user in enumerate(self.users["tokyo"]):
                version = self.version_of(user)
                value = 0.4 + 0.03 * place + noise.gauss(0.0, 0.02) + self.effect * (version == 2)
                self.driver.evidence.on_alignment(self.driver.rollouts, "tokyo", AlignmentReport(
                    user=user, time_ns=int(self.now * 1e9), encoder="e", adapter_version=version,
                    skb_version=1, samples=8, confidence=min(max(value, 0.0), 1.0),
                ))  # fmt: skip

    async def until_ended(self) -> Phase:
        rollout = self.driver.start(ORDER)
        for _ in range(120):
            await self.driver.round()
            await self.driver.settle()
            self.now += 0.5
            self.align(6)
            found = self.driver.get(rollout.id)
            assert found is not None
            if found.phase in (Phase.DONE, Phase.ROLLED_BACK):
                return found.phase
            await no_wait(0)
        raise AssertionError(f"still {found.phase}: {found.history[-1].reason}")


@pytest.mark.parametrize(("effect", "phase", "version"), [
    (0.1, Phase.DONE, 2), (0.0, Phase.DONE, 2), (-0.2, Phase.ROLLED_BACK, 1),
])
def test_confidence_decides_whether_an_adapter_reaches_everybody(
    tmp_path: Path, effect: float, phase: Phase, version: int
) -> None:
    scene = AlignedScene(tmp_path)
    scene.effect = effect
    scene.align(20)
    assert asyncio.run(scene.until_ended()) is phase
    assert [scene.version_of(user) for user in scene.users["tokyo"]] == [version] * 6
    reasons = [line.reason for line in scene.driver.rollouts[0].history]
    assert any("points" in reason for reason in reasons)
    assert scene.versions() == dict.fromkeys(scene.users["tokyo"], 1), "no decoder was touched"


def test_a_decoder_of_an_adapters_name_is_refused(tmp_path: Path) -> None:
    scene = AlignedScene(tmp_path)
    scene.driver.start(ORDER)
    with pytest.raises(RolloutConflictError, match="one at a time"):
        scene.driver.start(RolloutOrder(group="drone", family="shared", version=3, parent=1))
