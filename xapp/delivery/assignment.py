"""What the director signs for a site: its bundles and the encoder-decoder pairs that they form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]

from codec_runtime.contract.bundle import WEIGHTS_FILE
from xapp.delivery.roles import EVERY_SITE, assignment_path


def bundle_path(target_path: str) -> str:
    """``decoder/attention/2/weights.safetensors`` -> ``decoder/attention/2``."""
    return target_path.rpartition("/")[0]


def assigned(director: Targets, site: str) -> list[str]:
    """Bundles of a site now: its own assignment, else that of every site, else none.

    A first assignment of its own thus begins with what the site has; otherwise it would withdraw all that.
    """
    target = director.targets.get(assignment_path(site)) or director.targets.get(assignment_path(EVERY_SITE))
    return [] if target is None else list(target.custom["bundles"])


def assignment_target(
    site: str, bundles: Sequence[str], known: Mapping[str, TargetFile]
) -> tuple[TargetFile, bytes]:
    """The director's target for a site, and the same as a file.

    Args:
        bundles: paths; repeated ones count once.
        known: target files of the repository by path, whose signed custom metadata gives the pairs.

    Raises:
        ValueError: the site's name is not one, or a bundle is not in the repository.
    """
    pairs: set[tuple[str, str]] = set()
    for bundle in bundles:
        weights = known.get(f"{bundle}/{WEIGHTS_FILE}")
        if weights is None:
            raise ValueError(f"bundle {bundle!r} is not in the repository, so it cannot be assigned")
        custom = weights.custom or {}
        if custom.get("encoder_sha256"):
            # Bundles signed by version 0.1 do not repeat the hash of their weights.
            pairs.add((custom["encoder_sha256"], custom.get("weights_sha256") or weights.hashes["sha256"]))
    custom = {
        "site": site,
        "bundles": sorted(set(bundles)),
        "pairs": [list(pair) for pair in sorted(pairs)],
    }
    data = json.dumps(custom, sort_keys=True, separators=(",", ":")).encode()
    target = TargetFile.from_data(assignment_path(site), data, ["sha256"])
    target.unrecognized_fields["custom"] = custom
    return target, data
