"""Load test: pairs are swapped and withdrawn under clients, and no answer ever comes from a mixed pair."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from runtime_site import free_port, write_decoder, write_encoder
from tritonclient.utils import InferenceServerException

from codec_runtime.bundle.store import BundleContents, load_module, manifest_bytes
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from codec_runtime.serving import inference
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import THRESHOLD

PROGRAM = """
import sys
from codec_runtime.serving.main import run_runtime
from codec_runtime.serving.settings import RuntimeSettings
run_runtime(RuntimeSettings(port=int(sys.argv[1]), weights_dir=sys.argv[2], state_dir=sys.argv[3],
                            trusted_root=sys.argv[4], backend="torch", inference_nice=0))
"""
PICTURE = np.random.default_rng(5).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
SNR_DB, PREFIX = 7.0, 6
PAIRS = {(1, 1), (2, 2), (3, 3)}
"""(encoder version, decoder version): the pairs of the director's list."""
CLIENTS, SWAPS = 4, 6


class Bundles:
    """Three encoders with a decoder each: pair 1 is shipped, the others are signed and pushed."""

    def __init__(self, root: Path) -> None:
        self.weights = root / "weights"
        self.repository = TufRepository(root / "tuf", layout=THRESHOLD)
        self.golden: dict[tuple[int, int], np.ndarray] = {}
        for version in (1, 2, 3):
            home = self.weights if version == 1 else root / f"pair{version}"
            encoder = write_encoder(home, seed=version, version=version)
            decoder = write_decoder(home, encoder, version=version, seed=10 + version)
            self.golden[version, version] = golden(home, version)
            for manifest in (encoder, decoder) if version > 1 else ():
                place = home / manifest.kind / manifest.name / str(version)
                contents = BundleContents(manifest, (place / WEIGHTS_FILE).read_bytes())
                files = {MANIFEST_FILE: manifest_bytes(manifest), WEIGHTS_FILE: contents.weights}
                self.repository.publish(manifest, files)

    def push(self, url: str, *assigned: int) -> ActivationReport:
        """Assign exactly these pairs, push what they need, activate."""
        kinds = ("encoder/anchor", "decoder/attention")
        bundles = [f"{kind}/{version}" for version in assigned for kind in kinds]
        self.repository.assign("_every", bundles)
        state = self.repository.files()
        for path, (hashed, _, local) in state.targets.items():
            if path.rpartition("/")[0] in bundles:
                put(url, "targets", hashed, local.read_bytes())
        for name, data in state.metadata:
            put(url, "metadata", name, data)
        return post(url, paths.ACTIVATIONS, ActivationRequest(bundles=bundles), ActivationReport)


def golden(home: Path, version: int) -> np.ndarray:
    """What a pair alone makes of the picture."""
    _, encoder = load_module(home / "encoder" / "anchor" / str(version))
    _, decoder = load_module(home / "decoder" / "attention" / str(version))
    snr, prefix = np.array([SNR_DB], np.float32), np.array([PREFIX], np.int32)
    return inference.decode(decoder, inference.encode(encoder, PICTURE, snr, prefix), snr, prefix, 64, 64)


def put(url: str, area: str, name: str, data: bytes) -> None:
    reply = httpx.put(f"{url}{paths.INBOX}/{area}/{name}", content=data, timeout=30)
    assert reply.status_code == 204, reply.text


def post(url: str, path: str, message: Any, kind: Any) -> Any:
    reply = httpx.post(url + path, content=msgspec.msgpack.encode(message), timeout=60)
    assert reply.status_code == 200, reply.text
    return msgspec.msgpack.decode(reply.content, type=kind)


@contextmanager
def runtime(bundles: Bundles, state: Path) -> Iterator[str]:
    port = free_port()
    root = str(bundles.repository.trusted_root)
    command = [sys.executable, "-c", PROGRAM, str(port), str(bundles.weights), str(state), root]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    if httpx.get(url + "/v2/health/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert process.poll() is None
            yield url
        finally:
            process.terminate()
            process.wait(20)


class Client(threading.Thread):
    """Encodes under its user's directive and decodes with the versions that the answer names.

    Attributes:
        pairs: answers by pair. withdrawn: decodes refused because the pair went in between.
        refused: decodes of a deliberately mixed pair. wrong: everything that must not be.
    """

    def __init__(self, url: str, user: str, bundles: Bundles, stop: threading.Event) -> None:
        super().__init__(name=user, daemon=True)
        self._url, self._user, self._bundles, self._stop_asked = url, user, bundles, stop
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.withdrawn = self.refused = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        client = triton.InferenceServerClient(self._url.removeprefix("http://"))
        while not self._stop_asked.is_set():
            try:
                self._transmit(client)
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                return
        client.close()

    def _transmit(self, client: triton.InferenceServerClient) -> None:
        answer = client.infer("encode", [_input("image", PICTURE, "UINT8")], parameters={"user": self._user})
        told = answer.get_response()["parameters"]
        pair = (told["encoder_version"], told["decoder_version"])
        if pair not in PAIRS or answer.get_response()["model_version"] != str(pair[0]):
            self.wrong.append(f"encode answered {told}")
        symbols = answer.as_numpy("symbols")
        wanted = {"decoder": told["decoder"], "decoder_version": pair[1], "encoder_version": pair[0]}
        restored = self._decode(client, symbols, wanted)
        if restored is None:
            self.withdrawn += 1
        else:
            self.pairs[pair] += 1
            difference = int(np.abs(restored.astype(int) - self._bundles.golden[pair]).max())
            if difference > 1:  # a batch may round otherwise by one level
                self.wrong.append(f"pair {pair}: picture differs by {difference} levels from its own")
        try:
            self._decode(client, symbols, wanted | {"encoder_version": pair[0] % 3 + 1})
        except InferenceServerException as error:
            self.refused += "mixed pair" in str(error)
            if "mixed pair" not in str(error):
                self.wrong.append(str(error))
        else:
            self.withdrawn += 1  # gone: anything else would have raised

    def _decode(
        self, client: triton.InferenceServerClient, symbols: np.ndarray, wanted: dict[str, Any]
    ) -> np.ndarray | None:
        """The picture, None where the version was withdrawn meanwhile; a mixed pair that is decoded fails."""
        inputs = [
            _input("symbols", symbols, "FP32"),
            _input("snr_db", np.array([SNR_DB], np.float32), "FP32"),
            _input("prefix", np.array([PREFIX], np.int32), "INT32"),
        ]
        try:
            answer = client.infer("decode", inputs, parameters=wanted)
        except InferenceServerException as error:
            if "unknown version" in str(error):
                return None
            raise
        told = answer.get_response()["parameters"]
        if (told["encoder_version"], told["decoder_version"]) != (
            wanted["encoder_version"], wanted["decoder_version"]
        ):
            self.wrong.append(f"asked for {wanted}, decoded by {told}")
        return answer.as_numpy("image")


def _input(name: str, array: np.ndarray, datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def direct(url: str, sequence: int, version: int) -> None:
    """Move every second user to a pair; the others stay where they are."""
    directives = [
        Directive(
            user=f"u{i}", prefix=PREFIX, snr_db=SNR_DB, decoder="attention", decoder_version=version,
            encoder_version=version,
        )
        for i in range(sequence % 2, CLIENTS, 2)
    ]
    batch = DirectiveBatch(issuer="load", sequence=sequence, issued_ns=0, directives=directives)
    assert post(url, paths.DIRECTIVES, batch, DirectiveAck).rejected == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_answer_comes_from_a_mixed_pair_while_pairs_are_swapped_and_withdrawn(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    assert len({picture.tobytes() for picture in bundles.golden.values()}) == 3
    with runtime(bundles, tmp_path / "state") as url:
        stop = threading.Event()
        clients = [Client(url, f"u{i}", bundles, stop) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        withdrawn = 0
        for swap in range(SWAPS):
            newest = 2 + swap % 2
            # In turn: a pair replaces another in one swap, both side by side, none but the shipped one.
            assigned = [(newest,), (2, 3), ()][swap % 3]
            report = bundles.push(url, *assigned)
            assert report.outcome != "refused", report
            withdrawn += len(report.withdrawn)
            direct(url, 2 * swap + 1, newest if newest in assigned else 1)
            time.sleep(0.1)
            direct(url, 2 * swap + 2, 1 if not assigned else assigned[-1])
            time.sleep(0.1)
        stop.set()
        for client in clients:
            client.join(60)
        assert [wrong for client in clients for wrong in client.wrong] == []
        answers = sum((client.pairs for client in clients), Counter())
        assert set(answers) == PAIRS
        assert withdrawn >= SWAPS // 2
        assert all(client.refused for client in clients)
