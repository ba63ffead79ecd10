"""Which published bundles nobody needs to find in signed metadata any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from tuf.api.metadata import Metadata, TargetFile, Targets  # type: ignore[attr-defined]

from codec_runtime.contract.bundle import WEIGHTS_FILE
from xapp.delivery.assignment import bundle_path
from xapp.delivery.roles import DIRECTOR

VERSIONS_KEPT: Final = 16
"""Of each name, assigned or not: what a roll-out may go back to. Twice what a runtime keeps loaded."""


def forget_stale(roles: Mapping[str, Metadata[Targets]], role: str) -> list[str]:
    """Take stale bundles out of the metadata of ``role``, which is not signed anew yet.

    Args:
        roles: all of a repository with a director.

    Returns:
        Paths of their files, with the hash in the file name.
    """
    others = {
        path: target
        for name in roles if name != role
        for path, target in roles[name].signed.targets.items()
    }
    given = {
        bundle for one in roles[DIRECTOR].signed.targets.values() for bundle in _custom(one)["bundles"]
    }
    targets = roles[role].signed.targets
    stale = stale_bundles(targets, others, given)
    gone = [targets.pop(path) for path in list(targets) if bundle_path(path) in stale]
    return [
        f"{bundle_path(one.path)}/{one.hashes['sha256']}.{one.path.rpartition('/')[2]}" for one in gone
    ]


def stale_bundles(
    targets: Mapping[str, TargetFile], others: Mapping[str, TargetFile], assigned: Collection[str]
) -> set[str]:
    """Bundles that no site is assigned, older than the newest :data:`VERSIONS_KEPT` of their name.

    An encoder stays as long as a bundle that stays needs it.

    Args:
        targets: of the role to be pruned, by path; others: of all other roles. assigned: bundle paths.
    """
    names: dict[str, list[int]] = {}
    for bundle in {bundle_path(path) for path in targets}:
        name, _, version = bundle.rpartition("/")
        names.setdefault(name, []).append(int(version))
    stale = {
        f"{name}/{version}"
        for name, versions in names.items()
        for version in sorted(versions)[:-VERSIONS_KEPT]
    } - set(assigned)
    staying = [target for path, target in targets.items() if bundle_path(path) not in stale]
    needed = {_custom(target).get("encoder_sha256") for target in [*staying, *others.values()]}
    return {bundle for bundle in stale if _weights(targets, bundle) not in needed}


def _weights(targets: Mapping[str, TargetFile], bundle: str) -> str | None:
    target = targets.get(f"{bundle}/{WEIGHTS_FILE}")
    return None if target is None else target.hashes["sha256"]


def _custom(target: TargetFile) -> dict[str, Any]:
    return target.custom or {}
