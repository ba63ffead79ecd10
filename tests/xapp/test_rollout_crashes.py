"""Roll-outs whose process dies at any step, whose saves overlap, whose sites are away or reset."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from rollout_scene import ORDER, Scene
from xapp_simulated_site import bundle_files, make_manifest

from codec_runtime.contract.updates import ActivationReport
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import THRESHOLD
from xapp.delivery.rotation import migrate
from xapp.rollout.orders import RolloutOrder

OTHER = RolloutOrder(group="car", family="conv", version=3, parent=1)


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Kills at the n-th step of signing or pushing; 0: never. Counts the steps."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, *step: object) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


def doomed(tmp_path: Path, at: int) -> tuple[Scene, Fate]:
    """A scene with two users, each step of which may be the process's last one."""
    scene, fate = Scene(tmp_path, {"a": 2}), Fate(at)
    scene.repository.reached = fate
    site = scene.sites["a"]
    check = site._check

    def fateful() -> None:
        check()
        fate()

    site._check = fateful
    return scene, fate


async def live(scene: Scene, fate: Fate, rollout_id: str, phase: str) -> None:
    """Until the roll-out is in that phase; a killed process is followed by another one."""
    for _ in range(60):
        with contextlib.suppress(Killed):
            await scene.step(reports=3)
        if fate.steps >= fate.at > 0:
            fate.at = 0
            scene.restart()
        found = scene.driver.get(rollout_id)
        if found is not None and found.phase == phase:
            return
    raise AssertionError(f"{found and found.phase}, not {phase}")


async def forth_and_back(scene: Scene, fate: Fate) -> None:
    scene.report(5)
    rollout = scene.driver.start(ORDER)
    await live(scene, fate, rollout.id, "done")
    assert set(scene.versions().values()) == {2}
    scene.driver.command(rollout.id, "rollback", "test")
    await live(scene, fate, rollout.id, "rolled-back")
    assert set(scene.versions().values()) == {1}
    assert scene.repository.assignments() == {"a": []}
    assert set(scene.sites["a"].models) == {1}, "it has withdrawn the version"


def test_a_process_killed_while_it_signs_or_pushes_goes_on_by_itself(tmp_path: Path) -> None:
    for at in (2, 7):
        asyncio.run(forth_and_back(*doomed(tmp_path / str(at), at)))


@pytest.mark.slow
def test_a_process_killed_at_any_step_of_signing_or_pushing_goes_on_by_itself(tmp_path: Path) -> None:
    scene, fate = doomed(tmp_path / "whole", 0)
    asyncio.run(forth_and_back(scene, fate))
    assert fate.steps > 15
    for at in range(1, fate.steps + 1):
        asyncio.run(forth_and_back(*doomed(tmp_path / str(at), at)))


def test_what_changes_while_the_store_writes_is_written_too(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        rollout = scene.driver.start(ORDER)
        write, slow = scene.store.set, asyncio.Event()

        async def hesitant(key: str, value: bytes) -> None:
            await slow.wait()
            await write(key, value)

        scene.store.set = hesitant  # type: ignore[method-assign]
        first = asyncio.create_task(scene.driver.round())
        await asyncio.sleep(0.01)
        scene.driver.command(rollout.id, "pause", "test")
        slow.set()
        await first
        scene.restart()
        await scene.driver.round()
        found = scene.driver.get(rollout.id)
        assert found is not None
        assert found.phase == "paused"

    asyncio.run(main())


def test_of_two_pushes_to_a_site_the_one_with_the_newer_metadata_ends_last(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        manifest = make_manifest("decoder", "conv", 3, b"three", parent=1)
        scene.repository.publish(manifest, bundle_files(manifest, b"three"), ())
        site: Any = scene.sites["a"]
        inside, most = 0, 0
        metadata: dict[str, bytes] = {}

        async def put_metadata(name: str, data: bytes) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.002)
            metadata[name] = data
            inside -= 1

        site.put_metadata = put_metadata
        first, second = scene.driver.start(ORDER), scene.driver.start(OTHER)
        await scene.driver.round()
        await scene.driver.settle()
        assert most == 1
        assert metadata["timestamp.json"] == (tmp_path / "tuf/metadata/timestamp.json").read_bytes()
        for rollout in (first, second):
            found = scene.driver.get(rollout.id)
            assert found is not None
            assert found.sites["a"].bundle == "delivered"

    asyncio.run(main())


def test_a_cancelled_caller_does_not_let_two_calls_into_the_repository(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        inside, met = [0], []

        def slow() -> None:
            inside[0] += 1
            met.append(inside[0])
            time.sleep(0.05)
            inside[0] -= 1

        first = asyncio.create_task(scene.driver.signed.call(slow))
        await asyncio.sleep(0.01)
        first.cancel()
        await scene.driver.signed.call(slow)
        assert met == [1, 1]

    asyncio.run(main())


def test_a_site_that_loses_the_version_on_trial_gets_it_again(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        site = scene.sites["a"]
        del site.models[2]
        await site.refresh()
        assert set(scene.versions().values()) == {1}
        await scene.step()
        await scene.step()
        assert sorted(scene.versions().values()) == [1, 1, 2, 2]
        await scene.until(rollout, "done")

    asyncio.run(main())


def test_a_site_without_such_users_has_the_version_before_one_comes_there(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4, "b": 0})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        assert not scene.sites["b"].activations
        await scene.until(rollout, "done")
        assert scene.version("b", "a-ue-0") == 2

    asyncio.run(main())


def test_a_site_that_stays_away_is_told_of_once_asked_less_and_less_and_counted(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4, "b": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        canary = rollout.members[0].site
        (away,) = {"a", "b"} - {canary}
        scene.sites[away].away = True
        asked: list[float] = []
        check = scene.sites[away]._check

        def counted() -> None:
            asked.append(scene.now)
            check()

        scene.sites[away]._check = counted
        await scene.until(rollout, "done")
        for _ in range(300):
            await scene.step()
        times = sorted(set(asked))
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert gaps[0] == 5.0
        assert gaps[-1] == 60.0
        assert scene.kinds().count("rollout_owed") == 1
        owed = "semcom_xapp_rollout_sites_owed", {"group": "drone", "decoder": "conv"}
        assert scene.status.metrics.registry.get_sample_value(*owed) == 1
        scene.sites[away].away = False
        for _ in range(61):
            await scene.step()
        assert scene.status.metrics.registry.get_sample_value(*owed) == 0
        assert {scene.version(away, user) for user in scene.users[away]} == {2}

    asyncio.run(main())


def test_what_was_taken_back_is_not_brought_again_nor_is_anything_before_that_is_known(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        what = "drone", "conv", 2
        assert scene.driver.takes_back(*what), "the store was not asked yet"
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "done")
        assert not scene.driver.takes_back(*what)
        scene.driver.command(rollout.id, "rollback", "test")
        assert scene.driver.takes_back(*what)
        await scene.until(rollout, "rolled-back")
        scene.restart()
        assert scene.driver.takes_back(*what)
        await scene.driver.round()
        assert scene.driver.takes_back(*what)
        assert not scene.driver.takes_back("drone", "conv", 1)

    asyncio.run(main())


def test_gates_of_an_ended_roll_out_are_not_shown(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        await scene.step()
        labels = {"group": "drone", "decoder": "conv", "gate": "quality", "value": "limit"}
        shown = "semcom_xapp_rollout_gate", labels
        assert scene.status.metrics.registry.get_sample_value(*shown) == -0.3
        await scene.until(rollout, "done")
        assert scene.status.metrics.registry.get_sample_value(*shown) is None

    asyncio.run(main())


@pytest.mark.parametrize("refuses_to_follow", [False, True])
def test_the_alarm_of_a_refusal_ends_when_the_site_follows(tmp_path: Path, refuses_to_follow: bool) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "done")
        scene.sites["a"].refusal = "DiskFullError" if refuses_to_follow else ""
        scene.driver.command(rollout.id, "rollback", "test")
        await scene.until(rollout, "rolled-back")
        for _ in range(10):
            await scene.step(seconds=60.0)
        assert scene.kinds().count("site_refused") == refuses_to_follow
        scene.sites["a"].refusal = ""
        await scene.step(seconds=60.0)
        await scene.step(seconds=60.0)
        assert scene.kinds().count("bundle_withdrawn") == 1

    asyncio.run(main())


def test_a_defect_in_a_push_is_owed_and_not_repeated_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2})
        calls = 0

        async def broken(bundles: list[str]) -> ActivationReport:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError("a defect")

        scene.sites["a"].activate = broken
        rollout = scene.driver.start(ORDER)
        for _ in range(8):
            await scene.step(seconds=0.25)
        found = scene.driver.get(rollout.id)
        assert found is not None
        assert "a defect" in found.sites["a"].owed
        assert calls == 1

    asyncio.run(main())


def test_no_more_sites_than_the_bound_are_pushed_to_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {f"s{number}": 0 for number in range(9)}, parallel_sites=3)
        now, most = 0, 0

        async def slow(bundles: list[str]) -> ActivationReport:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.15)
            now -= 1
            return ActivationReport(instance="i", outcome="refused", error="DiskFullError")

        for site in scene.sites.values():
            site.activate = slow
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "rolled-back")
        assert most == 3

    asyncio.run(main())


def test_a_flat_repository_that_was_given_a_director_takes_back_what_it_had_signed(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 2}, delegated=False)
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "done")
        migrate(TufRepository(tmp_path / "tuf"), THRESHOLD)  # by another process: `semcom keys migrate`
        scene.driver.command(rollout.id, "rollback", "test")
        await scene.until(rollout, "rolled-back")
        assert scene.repository.assignments()["a"] == []
        assert set(scene.sites["a"].models) == {1}

    asyncio.run(main())
