"""The clients of the swap benchmark: ``python -m codec_runtime.benchmarks.swap_load SPEC``, a closed loop.

Each client is a thread with one connection that encodes a picture and decodes what it got, over and over; an
*exchange*. It decodes with the decoder and versions that the encoder's answer names, and looks whether all
answers agree: the versions, and the picture, which must be that of this version and of no other. The process
says :data:`READY`, ends when its input does and writes what it saw to a file, one :class:`Exchange` each.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from codec_runtime.benchmarks.inputs import picture
from codec_runtime.serving.open_inference import HEADER_LENGTH

SNR_DB = 7.0
PREFIX = 6
SAME_PICTURE = 0.5
"""Mean difference, in grey levels, up to which two pictures are one: batches round differently."""
READY = "every client is served"
_TIMEOUT_S = 60.0


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the clients do.

    Attributes:
        port: of the runtime on this host.
        clients: at once; side: of their pictures, pixels.
        result: file for the exchanges, MessagePack.
    """

    port: int
    clients: int
    side: int
    result: str


class Exchange(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One encode and decode.

    Attributes:
        begun_s, ended_s: by ``time.monotonic``, which all processes of a machine share.
        version: of the decoder.
        failed: status and words of the answer that was no result, "" if all went well.
        mixed: answers that do not belong together, "" if they do.
    """

    begun_s: float
    ended_s: float
    version: int = 0
    failed: str = ""
    mixed: str = ""


class _FailedError(RuntimeError):
    pass


class _Client:
    def __init__(self, spec: LoadSpec, number: int, stop: threading.Event) -> None:
        self._spec = spec
        self._stop = stop
        self._user = user_name(number)
        self._image = picture(100 + number, 1, spec.side, spec.side)
        self._pictures: dict[int, npt.NDArray[np.int16]] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", spec.port, timeout=_TIMEOUT_S)
        self.exchanges: list[Exchange] = []

    def run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            version, failed, mixed = 0, "", ""
            try:
                version, mixed = self._exchange()
            except (_FailedError, OSError, http.client.HTTPException, ValueError, KeyError) as error:
                failed = f"{type(error).__name__}: {error}"[:200]
                self._connection.close()
            self.exchanges.append(
                Exchange(begun_s=begun, ended_s=time.monotonic(), version=version, failed=failed, mixed=mixed)
            )

    def _exchange(self) -> tuple[int, str]:
        """(decoder version, what does not belong together)."""
        told, symbols = self._infer("encode", {"user": self._user}, image=self._image)
        pair = {key: told[key] for key in ("decoder", "decoder_version", "encoder_version")}
        size = {"height": self._spec.side, "width": self._spec.side}
        answered, image = self._infer(
            "decode", {**pair, **size}, symbols=symbols, snr_db=np.array([SNR_DB], np.float32),
            prefix=np.array([told["prefix"]], np.int32),
        )
        version = int(pair["decoder_version"])
        if any(answered[key] != value for key, value in pair.items()):
            return version, f"asked for {pair}, answered {answered}"
        return version, self._compare(version, image.astype(np.int16))

    def _compare(self, version: int, image: npt.NDArray[np.int16]) -> str:
        """Versions of one parity have the same weights (:func:`codec_runtime.benchmarks.swap.bench_swap`)."""
        distance = _distance(image, self._pictures.setdefault(version % 2, image))
        other = self._pictures.get((version + 1) % 2)
        if other is not None and _distance(image, other) <= SAME_PICTURE:
            return f"version {version} gave the picture of its neighbours"
        return "" if distance <= SAME_PICTURE else f"version {version} gave a picture off by {distance:.2f}"

    def _infer(self, model: str, parameters: dict[str, Any], **inputs: npt.NDArray[Any]) -> Any:
        names = {np.dtype("u1"): "UINT8", np.dtype("<f4"): "FP32", np.dtype("<i4"): "INT32"}
        header = msgspec.json.encode({
            "parameters": {**parameters, "binary_data_output": True},
            "inputs": [
                {"name": name, "shape": list(array.shape), "datatype": names[array.dtype],
                 "parameters": {"binary_data_size": array.nbytes}}
                for name, array in inputs.items()
            ],
        })
        body = b"".join([header, *(array.tobytes() for array in inputs.values())])
        headers = {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        self._connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise _FailedError(f"{model}: {response.status} {content[:120]!r}")
        length = int(response.headers[HEADER_LENGTH])
        answer = msgspec.json.decode(content[:length])
        (output,) = answer["outputs"]
        dtype = np.dtype("u1" if output["datatype"] == "UINT8" else "<f4")
        return answer["parameters"], np.frombuffer(content[length:], dtype).reshape(output["shape"])


def _distance(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> float:
    return float(np.abs(one - other).mean())


def user_name(number: int) -> str:
    """The user of a client."""
    return f"bench-{number}"


def main() -> None:
    """Run until standard input ends."""
    spec = msgspec.json.decode(sys.argv[1], type=LoadSpec)
    stop = threading.Event()
    clients = [_Client(spec, number, stop) for number in range(spec.clients)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    while not all(client.exchanges for client in clients):
        time.sleep(0.01)
    print(READY, flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    exchanges = [exchange for client in clients for exchange in client.exchanges]
    Path(spec.result).write_bytes(msgspec.msgpack.encode(exchanges))


if __name__ == "__main__":
    main()
