"""A canary's users get the version on trial, the others of the group do not."""

from __future__ import annotations

import numpy as np
from xapp_simulated_site import ENCODER_WEIGHTS, make_manifest

from codec_runtime.contract.telemetry import CapabilityReport, HeldDecoder
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.rate import FixedRate
from xapp.telemetry.user_table import UserTable


class Group:
    """Users ``u0`` ... of group ``drone`` at a site with versions 1 (base), 2 and 3."""

    def __init__(self, users: int = 4) -> None:
        self.table, self.catalog = UserTable(), DecoderCatalog()
        self.controller = DirectiveController(self.table, self.catalog, FixedRate(), 1e9)
        self.catalog.update(
            [
                make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
                make_manifest("decoder", "attention", 1, b"a1"),
                *(make_manifest("decoder", "attention", v, b"t%d" % v, parent=v - 1) for v in (2, 3)),
            ]
        )
        self.catalog.assign("drone", "attention", 2)
        self.now = 0.0
        for index in range(users):
            self.join(f"u{index}")

    def join(self, user: str, holds: list[int] | None = None, group: str = "drone") -> None:
        held = None if holds is None else [HeldDecoder(family="attention", version=v) for v in holds]
        self.table.fold_capability(
            CapabilityReport(
                user=user, time_ns=0, device_class="drone", group=group, decoders=["attention"],
                compute_gflops=1, holds=held,
            )
        )
        self.table.fold_indication("n", [user], {"SINR": np.array([9.0])}, self.now)

    def versions(self) -> dict[str, int]:
        self.now += 0.01
        self.controller.decide(self.now)
        return dict(zip(self.table.users, map(int, self.table.decoder_version), strict=True))


def test_only_the_canary_users_change() -> None:
    group = Group()
    assert set(group.versions().values()) == {2}
    group.catalog.set_canary("drone", "attention", 3, frozenset({"u1", "u3"}))
    assert group.versions() == {"u0": 2, "u1": 3, "u2": 2, "u3": 3}
    group.catalog.set_canary("drone", "attention", 3, frozenset({"u0"}))
    assert group.versions() == {"u0": 3, "u1": 2, "u2": 2, "u3": 2}
    group.catalog.clear_canary("drone", "attention")
    assert set(group.versions().values()) == {2}


def test_a_canary_of_another_group_or_a_withdrawn_version_changes_nothing() -> None:
    group = Group()
    group.catalog.set_canary("car", "attention", 3, frozenset({"u0"}))
    group.catalog.set_canary("drone", "attention", 7, frozenset({"u1"}))
    assert set(group.versions().values()) == {2}


def test_a_canary_device_without_the_version_stays_on_its_pair_until_it_holds_it() -> None:
    group = Group(users=1)
    group.join("late", holds=[1, 2])
    group.catalog.set_canary("drone", "attention", 3, frozenset({"late", "u0"}))
    assert group.versions() == {"u0": 3, "late": 2}
    group.join("late", holds=[1, 2, 3])
    assert group.versions() == {"u0": 3, "late": 3}


def test_the_canary_follows_its_user_when_rows_move_and_others_join() -> None:
    group = Group()
    group.catalog.set_canary("drone", "attention", 3, frozenset({"u3", "new"}))
    assert group.versions()["u3"] == 3
    group.now = 100.0
    group.table.fold_indication("n", ["u2", "u3"], {"SINR": np.full(2, 9.0)}, group.now)
    assert group.table.remove_silent(group.now, 50.0) == ["u0", "u1"]
    group.join("new")
    assert group.versions() == {"u2": 2, "u3": 3, "new": 3}


def test_clearing_an_unknown_canary_is_no_change() -> None:
    catalog = DecoderCatalog()
    before = catalog.revision
    catalog.clear_canary("drone", "attention")
    assert catalog.revision == before
