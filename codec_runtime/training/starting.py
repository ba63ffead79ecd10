"""Weights to start from: of an earlier run, or of published bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from codec_runtime.bundle.store import read_manifest, verify_state
from codec_runtime.contract.bundle import MANIFEST_FILE

PROVENANCE_FILE = "provenance.json"


@dataclass(frozen=True)
class Initial:
    """Weights of an earlier training.

    Attributes:
        states: tensors by network: ``encoder`` and names of decoders.
        model: the encoder's hyper-parameters.
        provenance: how they came about.
        architectures: architecture id by network, where known.
    """

    states: dict[str, dict[str, Tensor]]
    model: dict[str, Any]
    provenance: dict[str, Any]
    architectures: dict[str, str] = field(default_factory=dict)

    def apply(self, networks: Mapping[str, nn.Module]) -> list[str]:
        """Load what is there of each network; the names loaded.

        A network may have grown: parts that start as the identity (``starts_as_identity``) may be missing
        from the initial weights.

        Raises:
            ValueError: the encoder is missing, or a network is of another architecture or size.
        """
        if "encoder" not in self.states:
            raise ValueError("the initial weights hold no encoder")
        loaded = [name for name in networks if name in self.states]
        for name in loaded:
            network, known = networks[name], self.architectures.get(name)
            wanted = getattr(network, "architecture", None)
            if known not in (None, wanted):
                raise ValueError(f"initial {name} is a {known}; this training's is a {wanted}")
            try:
                _load_grown(network, self.states[name])
            except RuntimeError as error:
                first = " ".join(str(error).split())[:300]
                raise ValueError(f"initial {name} is of another width, depth or tier: {first}") from error
        return loaded


def _load_grown(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state``; what it lacks must belong to parts of the network that start as the identity.

    Raises:
        RuntimeError: anything else is missing, unexpected or of another shape.
    """
    grown = tuple(
        f"{name}." for name, part in network.named_modules() if getattr(part, "starts_as_identity", False)
    )
    own = network.state_dict()
    added = {key: own[key] for key in own.keys() - state.keys() if key.startswith(grown)}
    network.load_state_dict({**state, **added})


def read_initial(folder: Path) -> Initial:
    """Weights of a folder of ``semcom train codec``, or of a bundle root (newest version of each name).

    Raises:
        FileNotFoundError: it is neither.
        ValueError: the provenance names no networks; the bundle root has encoders of several names.
        BundleError: a bundle is damaged.
    """
    if (folder / PROVENANCE_FILE).is_file():
        return _of_run(folder)
    manifests = sorted(folder.glob(f"*/*/*/{MANIFEST_FILE}"), key=lambda path: int(path.parent.name))
    if manifests:
        return _of_bundles([path.parent for path in manifests])
    raise FileNotFoundError(
        f"{folder} is neither a folder of `semcom train codec` ({PROVENANCE_FILE}) nor a bundle root "
        f"(KIND/NAME/VERSION/{MANIFEST_FILE})"
    )


def _of_run(folder: Path) -> Initial:
    record = json.loads((folder / PROVENANCE_FILE).read_text())
    networks: dict[str, Any] = record.get("networks", {})
    if not networks or "model" not in record:
        raise ValueError(f"{folder / PROVENANCE_FILE} does not say which networks it is of (networks, model)")
    files = {name: folder / f"{name}.safetensors" for name in networks}
    states = {name: load_file(path) for name, path in files.items() if path.is_file()}
    return Initial(states, record["model"], record, {name: networks[name]["architecture"] for name in states})


def _of_bundles(directories: list[Path]) -> Initial:
    manifests = {directory: read_manifest(directory) for directory in directories}
    encoders = [directory for directory, manifest in manifests.items() if manifest.kind == "encoder"]
    if len({manifests[directory].name for directory in encoders}) != 1:
        raise ValueError(f"{directories[0].parents[2]} must hold encoder bundles of one name to start from")
    newest, encoder = encoders[-1], manifests[encoders[-1]]
    chosen = {"encoder": newest}
    for directory, manifest in manifests.items():
        # Versions ascend, so the newest stays; a decoder of another encoder is of no use.
        if manifest.kind == "decoder" and manifest.encoder_sha256 == encoder.weights_sha256:
            chosen[manifest.name] = directory
    provenance = {
        "bundle": f"{encoder.kind}/{encoder.name}/{encoder.version}",
        "weights_sha256": encoder.weights_sha256,
        **encoder.provenance,
    }
    return Initial(
        {name: verify_state(directory)[1] for name, directory in chosen.items()},
        dict(encoder.hyperparameters),
        provenance,
        {name: manifests[directory].architecture for name, directory in chosen.items()},
    )
