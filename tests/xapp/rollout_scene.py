"""Roll-outs against sites in memory: real catalogs, repository and driver, a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from xapp_simulated_site import ENCODER_WEIGHTS, bundle_files, make_manifest, synthetic_psnr

from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.telemetry import FailureReport, QualityReport
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.push import PushOptions
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import Layout
from xapp.policy.catalog import DecoderCatalog
from xapp.rollout.actions import Delivery
from xapp.rollout.driver import RolloutDriver
from xapp.rollout.gates import GateSettings
from xapp.rollout.orders import RolloutOrder
from xapp.rollout.plan import PlanSettings
from xapp.rollout.state import Rollout
from xapp.runtime_client import RuntimeUnavailable
from xapp.status import Status

SNR_DB, PREFIX = 10.0, 8
ORDER = RolloutOrder(group="drone", family="conv", version=2, parent=1, gain_db=0.5)


async def no_wait(seconds: float) -> None:
    """The clock is turned by hand."""



class Store:
    """Key-value store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self.values[key] = value


class FakeSite:
    """A site that may be away or refuse; follows the director when asked to activate nothing."""

    def __init__(self, name: str, repository: TufRepository) -> None:
        self.name = name
        self.repository = repository
        self.away = False
        self.refusal = ""
        self.encoder = make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS)
        self.models = {1: make_manifest("decoder", "conv", 1, b"one")}
        self.catalog = DecoderCatalog()
        self.activations: list[list[str]] = []
        self._refresh()

    client = watch = property(lambda self: self)

    def _refresh(self) -> bool:
        return self.catalog.update([self.encoder, *self.models.values()])

    def _check(self) -> None:
        if self.away:
            raise RuntimeUnavailable(f"{self.name} is away")

    async def refresh(self) -> bool:
        self._check()
        return self._refresh()

    async def inbox(self) -> InboxListing:
        self._check()
        return InboxListing(targets={})

    async def put_metadata(self, name: str, data: bytes) -> None:
        self._check()

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
        self._check()
        return span.last + 1

    async def activate(self, bundles: list[str]) -> ActivationReport:
        self._check()
        self.activations.append(bundles)
        if self.refusal:
            return ActivationReport(instance=self.name, outcome="refused", error=self.refusal)
        for bundle in bundles:
            version = int(bundle.rpartition("/")[2])
            self.models[version] = make_manifest("decoder", "conv", version, b"two", parent=1)
        if not bundles and "director" in self.repository.versions():
            mine = self.repository.assignments().get(self.name, [])
            self.models = {v: m for v, m in self.models.items() if v == 1 or f"decoder/conv/{v}" in mine}
        return ActivationReport(instance=self.name, outcome="activated")


class Scene:
    """Sites with users of one group, a driver, and what the users report.

    Attributes:
        effect_db: what version 2 does to the PSNR. paired: devices restore its pictures by version 1 too.
        events: kinds so far.
    """

    def __init__(
        self,
        tmp_path: Path,
        users: dict[str, int],
        *,
        delegated: bool = True,
        plan: PlanSettings | None = None,
        gates: GateSettings | None = None,
        parallel_sites: int = 8,
    ) -> None:
        self.repository = TufRepository(tmp_path / "tuf", layout=Layout(delegated=delegated))
        if "decoder/conv/2" not in self.repository.bundles():
            manifest = make_manifest("decoder", "conv", 2, b"two", parent=1)
            self.repository.publish(manifest, bundle_files(manifest, b"two"), ())
        self.users = {site: [f"{site}-ue-{i}" for i in range(count)] for site, count in users.items()}
        self.sites: dict[str, Any] = {site: FakeSite(site, self.repository) for site in users}
        self.now = 1000.0
        self.effect_db = 0.0
        self.paired = False
        self.failing = False
        self.rng = random.Random(1)
        self.store = Store()
        self.delivery = Delivery(PushOptions(sleep=no_wait, parallel_sites=parallel_sites))
        self.plan, self.gates = plan or PlanSettings(), gates or GateSettings()
        self.restart()

    def restart(self) -> None:
        """A new process; the sites and the store stay, the catalogs' assignments and canaries do not."""
        self.status = Status()
        self.ended: list[Rollout] = []
        for site in self.sites.values():
            site.catalog = DecoderCatalog()
            site._refresh()
        self.driver = RolloutDriver(
            self.sites,
            self.repository,
            self.store,
            self.status,
            self.plan,
            self.gates,
            population=lambda order: self.users,
            assign=lambda site, *what: self.sites[site].catalog.assign(*what),
            delivery=self.delivery,
            clock=lambda: self.now,
        )
        self.driver.ended = self.ended.append

    def version(self, site: str, user: str) -> int:
        """What the controller would give the user."""
        catalog = self.sites[site].catalog
        trials = catalog.trials().get(user, frozenset())
        found = catalog.version_for("drone", "conv", trials=trials)
        assert found is not None
        return int(found.version)

    def versions(self) -> dict[str, int]:
        return {u: self.version(site, u) for site, users in self.users.items() for u in users}

    def report(self, times: int = 1) -> None:
        """Every user sends a picture, so many times."""
        for _ in range(times):
            for site, users in self.users.items():
                for offset, user in enumerate(users):
                    self._report(site, user, 2.0 * offset)

    def _report(self, site: str, user: str, offset_db: float) -> None:
        version = self.version(site, user)
        at_ns = int(self.now * 1e9)
        if version == 2 and self.failing:
            failure = FailureReport(user=user, time_ns=at_ns, decoder="conv", decoder_version=2)
            self.driver.on_failure(site, failure)
            return
        expected = synthetic_psnr(SNR_DB, PREFIX)
        effect = self.effect_db if version == 2 else 0.0
        psnr = expected + offset_db + effect + self.rng.gauss(0, 1.0)
        report = QualityReport(
            user=user,
            time_ns=at_ns,
            prefix=PREFIX,
            decoder="conv",
            decoder_version=version,
            snr_db=SNR_DB,
            psnr_db=psnr,
            ms_ssim=0.9,
            latency_ms=20.0,
            parent_version=1 if self.paired and version == 2 else 0,
            parent_psnr_db=psnr - effect + self.rng.gauss(0, 0.1) if self.paired and version == 2 else None,
        )
        self.driver.on_quality(site, report, expected)

    async def step(self, seconds: float = 1.0, reports: int = 1) -> None:
        """Time passes, users report, the driver has a round and its pushes end."""
        self.now += seconds
        self.report(reports)
        await self.driver.round()
        await self.driver.settle()
        await asyncio.sleep(0)

    async def until(self, rollout: Rollout, phase: str, rounds: int = 200, **step: Any) -> Rollout:
        """Step until the roll-out is in a phase."""
        for _ in range(rounds):
            found = self.driver.get(rollout.id)
            assert found is not None
            if found.phase == phase:
                return found
            await self.step(**step)
        raise AssertionError(f"{found.phase}, not {phase}: {found.history[-1].reason}")

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.status.events.after(0)]
