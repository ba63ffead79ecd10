"""The driver of roll-outs against sites that degrade, refuse, are away, and processes that are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rollout_scene import ORDER, Scene

from xapp.rollout.memory import ROLLOUTS_KEY
from xapp.rollout.moves import IllegalMoveError
from xapp.rollout.orders import RolloutConflictError
from xapp.rollout.plan import PlanSettings

PLAN = PlanSettings(canary_share=0.5, observe_s=60.0, small_observe_s=6.0)


def test_a_good_version_goes_from_the_canary_to_everybody(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        assert sorted(scene.versions().values()) == [1, 1, 2, 2]
        done = await scene.until(rollout, "done")
        assert set(scene.versions().values()) == {2}
        assert [r.phase for r in scene.ended] == ["done"]
        assert done.history[-1].phase == "done"
        assert scene.repository.assignments() == {"a": ["decoder/conv/2"]}
        kinds = scene.kinds()
        assert kinds.index("bundle_pushed") < kinds.index("rollout_observing") < kinds.index("rollout_done")

    asyncio.run(main())


def test_a_version_that_degrades_is_taken_back_everywhere_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 8, "b": 8}, plan=PLAN)
        scene.effect_db = -3.0
        scene.report(10)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        back = await scene.until(rollout, "rolled-back", reports=2)
        assert set(scene.versions().values()) == {1}
        evidence = next(line.evidence for line in back.history if line.phase == "rolling-back")
        assert [reading.gate for reading in evidence if reading.finding == "harmful"] == ["quality"]
        assert scene.repository.assignments() == {"a": [], "b": []}
        pushed = [site for site in scene.sites.values() if site.activations]
        assert len(pushed) == 1, "the canary's site alone had got it"
        assert pushed[0].activations == [["decoder/conv/2"], []]
        assert set(pushed[0].models) == {1}
        assert "rollout_rolling_back" in scene.kinds()

    asyncio.run(main())


def test_a_loss_that_four_users_cannot_show_is_found_where_devices_compare_with_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who is a canary is drawn by the roll-out's id, and once in a while four users do show it.
    monkeypatch.setattr("xapp.rollout.driver.secrets.token_hex", lambda _: "00000001")

    async def main() -> None:
        for paired, phase in ((True, "rolled-back"), (False, "done")):
            scene = Scene(tmp_path / str(paired), {"a": 4})
            scene.effect_db, scene.paired = -1.5, paired
            scene.report(20)
            ended = await scene.until(scene.driver.start(ORDER), phase, seconds=0.5)
            evidence = next(line.evidence for line in ended.history if line.evidence)
            assert [r.gate for r in evidence if r.finding == "harmful"] == ["pairs"] * paired

    asyncio.run(main())


def test_a_version_that_fails_to_decode_is_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 8}, plan=PLAN)
        scene.failing = True
        scene.report(10)
        rollout = scene.driver.start(ORDER)
        back = await scene.until(rollout, "rolled-back", seconds=0.2)
        evidence = next(line.evidence for line in back.history if line.phase == "rolling-back")
        assert [reading.gate for reading in evidence if reading.finding == "harmful"] == ["errors"]

    asyncio.run(main())


def test_a_flat_repository_is_rolled_back_by_assignment_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4}, delegated=False)
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "done")
        scene.driver.command(rollout.id, "rollback", "me")
        assert set(scene.versions().values()) == {1}, "at once, before anything is signed"
        back = await scene.until(rollout, "rolled-back")
        assert "no director" in back.history[-1].reason
        assert scene.sites["a"].activations == [["decoder/conv/2"]]

    asyncio.run(main())


def test_a_site_that_refuses_is_left_out_and_one_that_is_away_is_owed(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 6, "b": 6, "c": 6}, plan=PLAN)
        scene.report(10)
        rollout = scene.driver.start(ORDER)
        canary = rollout.members[0].site
        refusing, away = sorted({"a", "b", "c"} - {canary})
        scene.sites[refusing].refusal = "BadSignatureError"
        scene.sites[away].away = True
        done = await scene.until(rollout, "done", reports=3, seconds=5.0)
        assert done.sites[refusing].bundle == "refused"
        assert "is away" in done.sites[away].owed
        by_site = {site: {scene.version(site, u) for u in scene.users[site]} for site in scene.sites}
        assert by_site == {canary: {2}, refusing: {1}, away: {1}}
        told = [event for event in scene.status.events.after(0) if event["kind"] == "site_refused"]
        assert [event["site"] for event in told] == [refusing]
        scene.sites[away].away = False
        await scene.step(seconds=60.0)
        await scene.step()
        assert {scene.version(away, user) for user in scene.users[away]} == {2}
        assert scene.driver.rollouts[0].sites[away].owed == ""

    asyncio.run(main())


def test_refused_by_the_only_site_rolls_back(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.sites["a"].refusal = "IncompatiblePairError"
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        back = await scene.until(rollout, "rolled-back")
        assert any("refused" in line.reason for line in back.history)
        assert set(scene.versions().values()) == {1}

    asyncio.run(main())


def test_a_rollback_reaches_a_site_that_was_away_later(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "done")
        scene.sites["a"].away = True
        scene.driver.command(rollout.id, "rollback", "me")
        back = await scene.until(rollout, "rolled-back")
        assert back.sites["a"].owed
        assert set(scene.versions().values()) == {1}
        scene.sites["a"].away = False
        await scene.step(seconds=10.0)
        assert set(scene.sites["a"].models) == {1}
        assert scene.driver.rollouts[0].sites["a"].bundle == "withdrawn"

    asyncio.run(main())


def test_paused_nothing_is_promoted_but_harm_still_goes_back(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 8}, plan=PLAN)
        scene.report(10)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        scene.driver.command(rollout.id, "pause", "me")
        for _ in range(20):
            await scene.step(seconds=5.0)
        assert scene.driver.rollouts[0].phase == "paused"
        assert sorted(set(scene.versions().values())) == [1, 2]
        with pytest.raises(IllegalMoveError, match="publishing"):
            scene.driver.command(rollout.id, "pause", "me")
        scene.effect_db = -4.0
        await scene.until(rollout, "rolled-back", reports=5)

    asyncio.run(main())


def test_aborted_users_go_back_at_once_and_the_site_keeps_the_bundle(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.until(rollout, "observing")
        scene.driver.command(rollout.id, "abort", "me")
        assert set(scene.versions().values()) == {1}
        await scene.step()
        assert set(scene.sites["a"].models) == {1, 2}
        again = scene.driver.start(ORDER)
        await scene.until(again, "done")

    asyncio.run(main())


def test_silence_ends_in_a_rollback_not_in_a_promotion(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        back = await scene.until(rollout, "rolled-back", reports=0)
        assert any("no evidence" in line.reason for line in back.history)

    asyncio.run(main())


def test_a_user_alone_has_no_control_group_and_no_gate(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 1})
        rollout = scene.driver.start(ORDER)
        done = await scene.until(rollout, "done")
        assert "no control group" in done.history[0].reason

    asyncio.run(main())


def test_what_cannot_be_rolled_out_is_refused_with_the_reason(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"a": 4})
    with pytest.raises(RolloutConflictError, match="no site serves conv 9"):
        scene.driver.start(ORDER.__class__(group="drone", family="conv", version=2, parent=9))
    first = scene.driver.start(ORDER)
    with pytest.raises(RolloutConflictError, match=first.id):
        scene.driver.start(ORDER)


@pytest.mark.parametrize("degrades", [False, True])
def test_a_process_killed_before_every_round_loses_and_repeats_nothing(
    tmp_path: Path, degrades: bool
) -> None:
    async def main() -> None:
        scene = Scene(tmp_path, {"a": 4, "b": 4})
        scene.report(5)
        rollout = scene.driver.start(ORDER)
        await scene.driver.round()
        await scene.driver.settle()
        for _ in range(60):
            await scene.step(seconds=2.0, reports=3)
            scene.restart()
            await scene.driver.round()
            await scene.driver.settle()
            scene.effect_db = -5.0 if degrades else 0.0
        found = scene.driver.get(rollout.id)
        assert found is not None
        assert found.phase == ("rolled-back" if degrades else "done")
        assert set(scene.versions().values()) == ({1} if degrades else {2})
        for site in scene.sites.values():
            assert site.activations.count(["decoder/conv/2"]) <= 1

    asyncio.run(main())


def test_an_earlier_value_of_an_unknown_version_is_left_alone_with_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        import msgspec

        scene = Scene(tmp_path, {"a": 4})
        scene.store.values[ROLLOUTS_KEY] = msgspec.msgpack.encode({"version": 99, "rollouts": "?"})
        await scene.driver.round()
        assert scene.driver.rollouts == []

    asyncio.run(main())
    assert "99" in str([record.__dict__.get("reason") for record in caplog.records])
