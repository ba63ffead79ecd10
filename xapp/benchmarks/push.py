"""`semcom bench push`: what travels to a site and how long that takes, against a raw HTTP upload.

A codec runtime and the reference (:mod:`xapp.benchmarks.raw_upload`) run in processes of their own on
loopback; both are sent to by this one, in turn, in an order that rotates, for several rounds. Medians count.

- *full*: a new encoder-decoder pair. *adapter*: an update of the decoder alone, whole. *delta*: the same
  update as a difference from its parent. Each under a version that the site has not seen, so all of it
  travels.
- ``ms`` of those three is ``transfer`` and ``verify`` of ``steps``. Verify, as the site measures it:
  signatures, lengths and hashes compared, every tensor and the architecture checked, files and names
  installed and flushed to disk. ``load`` (building the modules, compiling, warming up), ``publish`` (the swap
  of a pointer) and ``record`` (of what serves after a restart) are beside it: an upload has none of them.
  Transfer is all the rest of the push, requests and answers and what the site does with what comes, the
  sha256 of every byte included. Signing at the xApp, before, is not in it. ``whole`` is the push from begin
  to end.
- ``raw_http``: one PUT of the same bytes as *full* (manifests and weights), read from a file, hashed while
  they come, written, file and name flushed; the same HTTP client and server, in processes split the same way
  and of the same priority.
- ``ratio_10mb`` is *full*, transferred, verified and durable, by that, the median over the rounds of the
  ratio within a round, so that both have met the same load of the machine; ``ratio_10mb_best`` the ratio of
  the shortest times; ``transfer_ratio_10mb`` that of the transfer alone, medians. ``is_10mb`` says whether
  *full* is 9 to 13 MB, as the shipped pairs are.
- ``fixed_ms`` and ``ms_per_mb``: the straight line through *adapter* and *full*, and through the uploads of
  their bytes. What a second bundle costs for itself is in the push's slope.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from codec_runtime.benchmarks.codec import machine
from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.benchmarks.push_bundles import Payload, files_of, read_payload
from xapp.benchmarks.push_servers import BenchError, raw_server, runtime_server
from xapp.delivery.push import push
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import THRESHOLD
from xapp.runtime_client import RuntimeClient

CASES: Final = ("full", "adapter", "delta")
STEPS: Final = ("transfer", "verify", "load", "publish", "record", "whole")
UPLOADS: Final = ("full", "adapter")
"""Cases whose bytes are uploaded to the reference, too."""
TEN_MB: Final = (9_000_000, 13_000_000)
_TIMEOUT_S: Final = 60.0
_FIRST_VERSION: Final = 1000


@dataclass(frozen=True)
class PushBenchmark:
    """What was measured.

    Attributes:
        bytes: that a push sent, by case: targets and signed metadata.
        targets: bytes of the target files alone, by case. raw_bytes: of the reference's uploads, by case.
        steps: by case and step of a push, ms; medians over the rounds. raw_ms: of the reference, by case.
        ratios: transfer and verification of *full* to the reference: by round, and of the shortest.
    """

    rounds: int
    bundles: str
    bytes: dict[str, int]
    targets: dict[str, int]
    raw_bytes: dict[str, int]
    steps: dict[str, dict[str, float]]
    raw_ms: dict[str, float]
    ratios: list[float]
    best_ratio: float

    @property
    def ms(self) -> dict[str, float]:
        """Transfer and verification of each case, and the reference."""
        own = {case: self.steps[case]["transfer"] + self.steps[case]["verify"] for case in CASES}
        return {**own, "raw_http": self.raw_ms["full"], "raw_http_adapter": self.raw_ms["adapter"]}

    @property
    def ratio(self) -> float:
        """Of the whole pair, verified and durable, to the raw upload of the same bytes."""
        return median(self.ratios)

    @property
    def is_10mb(self) -> bool:
        """Whether the pair has the size that the ratio is meant for."""
        return TEN_MB[0] <= self.raw_bytes["full"] <= TEN_MB[1]

    @property
    def transfer_ratio(self) -> float:
        """Of the medians, without the verification."""
        return self.steps["full"]["transfer"] / self.raw_ms["full"]

    @property
    def lines(self) -> dict[str, tuple[float, float]]:
        """Fixed part, ms, and slope, ms/MB, of the push and of the reference."""
        return {
            "push": _line(self.targets, self.ms),
            "raw_http": _line(self.raw_bytes, self.raw_ms),
        }

    def as_dict(self) -> dict[str, Any]:
        """The keys of ``--json``."""
        return {
            "bytes": self.bytes,
            "ms": {name: round(value, 2) for name, value in self.ms.items()},
            "ratio_10mb": round(self.ratio, 3),
            "ratio_10mb_best": round(self.best_ratio, 3),
            "is_10mb": self.is_10mb,
            "load_ms": round(self.steps["full"]["load"], 2),
            "transfer_ratio_10mb": round(self.transfer_ratio, 3),
            "fixed_ms": {name: round(fixed, 2) for name, (fixed, _) in self.lines.items()},
            "ms_per_mb": {name: round(slope, 3) for name, (_, slope) in self.lines.items()},
            "bytes_of_full": {case: round(self.bytes[case] / self.bytes["full"], 4) for case in CASES},
            "target_bytes": self.targets,
            "raw_bytes": self.raw_bytes["full"],
            "steps": {
                case: {step: round(value, 2 if step != "publish" else 5) for step, value in steps.items()}
                for case, steps in self.steps.items()
            },
            "rounds": self.rounds,
            "bundles": self.bundles,
            "machine": machine(),
        }

    def as_text(self) -> str:
        """A table with a line a case."""
        lines = [
            f"{self.bundles}, {self.rounds} interleaved rounds on loopback, medians",
            f"{'':10}{'bytes':>12}{'of full':>9}" + "".join(f"{step + ' ms':>13}" for step in STEPS),
        ]
        lines += [
            f"{case:10}{self.bytes[case]:12,}{self.bytes[case] / self.bytes['full']:9.1%}"
            + "".join(f"{self.steps[case][step]:13.{2 if step != 'publish' else 5}f}" for step in STEPS)
            for case in CASES
        ]
        lines += [
            f"{'raw HTTP':10}{self.raw_bytes[case]:12,}{'':9}{self.raw_ms[case]:13.2f}" for case in UPLOADS
        ]
        lines += [
            f"{name}: {fixed:.1f} ms and {slope:.2f} ms/MB" for name, (fixed, slope) in self.lines.items()
        ]
        lines.append(
            f"full, transferred, verified and durable: {self.ratio:.2f}x the raw upload "
            f"({self.transfer_ratio:.2f}x without the verification; of the shortest times: "
            f"{self.best_ratio:.2f}x)"
        )
        if not self.is_10mb:
            lines.append("not the case of 10 MB: the pair is outside of {:,} to {:,} bytes".format(*TEN_MB))
        return "\n".join(lines)


def _line(sizes: Mapping[str, int], ms: Mapping[str, float]) -> tuple[float, float]:
    """Fixed part and slope, ms and ms/MB, of the straight line through *adapter* and *full*."""
    large, small = sizes["full"] / 1e6, sizes["adapter"] / 1e6
    if large == small:
        return ms["full"], 0.0
    slope = (ms["full"] - ms["adapter"]) / (large - small)
    return ms["full"] - slope * large, slope


class _TimedSite:
    """A site's client that counts the targets' bytes."""

    def __init__(self, client: RuntimeClient) -> None:
        self._client = client
        self.target_bytes = 0

    async def inbox(self) -> InboxListing:
        return await self._client.inbox()

    async def put_metadata(self, name: str, data: bytes) -> None:
        await self._client.put_metadata(name, data)

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
        self.target_bytes += len(data)
        return await self._client.put_chunk(name, span, data)

    async def activate(
        self,
        bundles: list[str],
        *,
        targets: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        coming: Sequence[str] = (),
    ) -> ActivationReport:
        self.target_bytes += sum(map(len, (targets or {}).values()))
        return await self._client.activate(bundles, targets=targets, metadata=metadata, coming=coming)


def bench_push(
    weights: Path,
    *,
    decoder: str = "attention",
    rounds: int = 7,
    finetune_s: float = 4.0,
    on_round: Callable[[], object] | None = None,
) -> PushBenchmark:
    """Measure; one more round before those that count warms both sides up.

    Args:
        weights: bundle root with an encoder and ``decoder``. finetune_s: spent on making the update.

    Raises:
        BenchError: a process does not start, or the site refuses. ValueError, BundleError: no sound pair.
    """
    payload = read_payload(weights, decoder, finetune_s)
    with TemporaryDirectory(prefix="semcom-bench-push-") as name:
        folder = Path(name)
        repository = TufRepository(folder / "tuf", layout=THRESHOLD)
        with (
            runtime_server(folder / "site", repository.trusted_root) as site,
            raw_server(folder / "raw") as raw,
        ):
            bench = _Bench(payload, repository, folder / "payload", site, raw, folder / "raw")
            return asyncio.run(bench.run(rounds, on_round))


class _Bench:
    def __init__(
        self, payload: Payload, repository: TufRepository, file: Path, site: str, raw: str, uploads: Path
    ) -> None:
        self._payload = payload
        self._repository = repository
        self._file = file
        self._site = site
        self._raw = raw
        self._uploads = uploads
        self._bytes: dict[str, int] = {}
        self._targets: dict[str, int] = {}
        self._steps: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        self._raw_s: dict[str, list[float]] = {case: [] for case in UPLOADS}
        # The update's parent: the delta applies to the weights of any version of the pair.
        _, encoder = files_of(payload.encoder, _FIRST_VERSION)
        _, pair_decoder = files_of(payload.decoder, _FIRST_VERSION)
        _, update = files_of(payload.update, _FIRST_VERSION)
        self._bodies = {
            "full": b"".join([*encoder.values(), *pair_decoder.values()]),
            "adapter": b"".join(update.values()),
        }
        for case, body in self._bodies.items():
            file.with_name(case).write_bytes(body)

    async def run(self, rounds: int, on_round: Callable[[], object] | None) -> PushBenchmark:
        order = [*CASES, "raw"]
        async with (
            RuntimeClient(self._site, timeout_s=_TIMEOUT_S) as client,
            httpx.AsyncClient(base_url=self._raw, trust_env=False, timeout=_TIMEOUT_S) as http,
        ):
            for number in range(rounds + 1):
                for case in order:
                    if case == "raw":
                        for upload in UPLOADS:
                            await self._upload(http, upload)
                    else:
                        await self._push(client, case, number)
                # The first round goes in the given order, since an update needs the pair, and does not count.
                order.append(order.pop(0))
                if on_round is not None and number:
                    on_round()
        steps = {
            case: {step: median(row[step] for row in rows[1:]) for step in STEPS}
            for case, rows in self._steps.items()
        }
        full = [row["transfer"] + row["verify"] for row in self._steps["full"][1:]]
        raw = [1e3 * seconds for seconds in self._raw_s["full"][1:]]
        first = self._payload.encoder.manifest
        return PushBenchmark(
            rounds=rounds,
            bundles=f"encoder {first.name} {first.version}, decoder {self._payload.decoder.manifest.name}",
            bytes=self._bytes,
            targets=self._targets,
            raw_bytes={case: len(body) for case, body in self._bodies.items()},
            steps=steps,
            raw_ms={case: 1e3 * median(times[1:]) for case, times in self._raw_s.items()},
            ratios=[one / other for one, other in zip(full, raw, strict=True)],
            best_ratio=min(full) / min(raw),
        )

    def _publish(self, case: str, number: int) -> list[str]:
        payload, version = self._payload, _FIRST_VERSION + 3 * number
        if case == "full":
            made = [files_of(payload.encoder, version), files_of(payload.decoder, version)]
        elif case == "adapter":
            made = [files_of(payload.update, version + 1, parent=_FIRST_VERSION)]
        else:
            made = [files_of(payload.update, version + 2, parent=_FIRST_VERSION, with_delta=True)]
        return [self._repository.publish(manifest, files) for manifest, files in made]

    async def _push(self, client: RuntimeClient, case: str, number: int) -> None:
        bundles = await asyncio.to_thread(self._publish, case, number)
        files = await asyncio.to_thread(self._repository.files)
        site = _TimedSite(client)
        started = time.perf_counter()
        report = await push(site, files, bundles)
        seconds = time.perf_counter() - started
        answer = report.activation
        if answer.outcome != "activated":
            raise BenchError(f"{case}: the site {answer.outcome}: {answer.error} {answer.detail}")
        self._bytes[case] = report.bytes_pushed
        self._targets[case] = site.target_bytes
        steps = {
            "verify": answer.verify_ms,
            "load": answer.load_ms,
            "publish": answer.publish_ms,
            "record": answer.record_ms,
        }
        whole = 1e3 * seconds
        self._steps[case].append({"transfer": whole - sum(steps.values()), **steps, "whole": whole})

    async def _upload(self, http: httpx.AsyncClient, case: str) -> None:
        digest = hashlib.sha256(self._bodies[case]).hexdigest()
        (self._uploads / digest).unlink(missing_ok=True)  # or freeing its blocks would be measured
        started = time.perf_counter()
        answer = await http.put(f"/{digest}", content=self._file.with_name(case).read_bytes())
        self._raw_s[case].append(time.perf_counter() - started)
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise BenchError(f"raw upload: HTTP {answer.status_code} {answer.text[:100]}")
