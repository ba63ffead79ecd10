"""The runtime's client: what it accepts, refuses, and tells apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec
import pytest
from xapp_simulated_site import bundle_files, make_manifest

from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch
from codec_runtime.contract.telemetry import QualityReport, TelemetryEvent
from codec_runtime.contract.updates import SiteStatus
from xapp.runtime_client import CandidateError, RuntimeClient, RuntimeRefused, RuntimeUnavailable

pack = msgspec.msgpack.encode
BATCH = DirectiveBatch(issuer="x", sequence=1, issued_ns=0, directives=[])


def client_for(answer: Callable[[httpx.Request], httpx.Response], **arguments: object) -> RuntimeClient:
    return RuntimeClient("http://site", transport=httpx.MockTransport(answer), **arguments)  # type: ignore[arg-type]


def test_a_new_instance_is_announced_once() -> None:
    instances = iter(["a", "a", "b", "b"])
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, content=pack(SiteStatus(instance=next(instances), site="s", telemetry_seq=0, models=[]))
        )

    async def main() -> None:
        async with client_for(answer, on_instance=lambda old, new: seen.append((old, new))) as client:
            for _ in range(4):
                await client.site()

    asyncio.run(main())
    assert seen == [("", "a"), ("a", "b")]


@pytest.mark.parametrize(
    ("status", "kind"), [(500, RuntimeUnavailable), (503, RuntimeUnavailable), (400, RuntimeRefused)]
)
def test_errors_say_whether_trying_again_helps(status: int, kind: type[Exception]) -> None:
    async def main() -> None:
        async with client_for(lambda request: httpx.Response(status, text="because")) as client:
            with pytest.raises(kind, match="because"):
                await client.push_directives(BATCH)

    asyncio.run(main())


def test_connection_errors_are_unavailability() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def main() -> None:
        async with client_for(answer) as client:
            with pytest.raises(RuntimeUnavailable, match="refused"):
                await client.site()

    asyncio.run(main())


def test_an_answer_off_the_contract_is_refused() -> None:
    async def main() -> None:
        async with client_for(lambda request: httpx.Response(200, content=b"\xc1")) as client:
            with pytest.raises(RuntimeRefused, match="DirectiveAck"):
                await client.push_directives(BATCH)

    asyncio.run(main())


def test_directives_travel_as_messagepack() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/vnd.msgpack"
        batch = msgspec.msgpack.decode(request.content, type=DirectiveBatch)
        return httpx.Response(
            200, content=pack(DirectiveAck(instance="a", sequence=batch.sequence, applied=0, rejected=[]))
        )

    async def main() -> DirectiveAck:
        async with client_for(answer) as client:
            return await client.push_directives(BATCH)

    assert asyncio.run(main()).sequence == 1


def events(count: int) -> list[TelemetryEvent]:
    return [
        TelemetryEvent(
            instance="a",
            seq=i,
            report=QualityReport(
                user="ue-1",
                time_ns=time.time_ns(),
                prefix=6,
                decoder="conv",
                decoder_version=1,
                snr_db=1.0,
                psnr_db=25.0,
                ms_ssim=0.9,
                latency_ms=1.0,
            ),
        )
        for i in range(1, count + 1)
    ]


def stream_of(chunks: list[bytes]) -> Callable[[httpx.Request], httpx.Response]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return lambda request: httpx.Response(200, content=body())


async def collect(client: RuntimeClient) -> list[int]:
    async with client:
        return [event.seq async for event in client.telemetry(0)]


def test_events_cut_anywhere_by_the_transport_arrive_whole() -> None:
    data = b"".join(pack(event) for event in events(5))
    chunks = [data[i : i + 7] for i in range(0, len(data), 7)]
    assert asyncio.run(collect(client_for(stream_of(chunks)))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("garbage", [b"\xc1\xc1\xc1", pack({"seq": "x"}), pack(7)])
def test_a_stream_off_the_contract_is_refused(garbage: bytes) -> None:
    with pytest.raises(RuntimeRefused, match="telemetry stream"):
        asyncio.run(collect(client_for(stream_of([garbage]))))


def candidate(files: dict[str, bytes]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(200, content=files[request.url.path.rpartition("/")[2]])


def fetch(files: dict[str, bytes]) -> tuple[object, dict[str, bytes]]:
    async def main() -> tuple[object, dict[str, bytes]]:
        async with client_for(candidate(files)) as client:
            return await client.candidate("job")

    return asyncio.run(main())


def test_a_candidate_that_matches_its_manifest_is_taken_byte_for_byte() -> None:
    files = bundle_files(make_manifest("decoder", "conv", 2, b"weights"), b"weights")
    assert fetch(files)[1] == files


@pytest.mark.parametrize(
    ("weights", "text"),
    [(b"weightz", "does not match"), (b"short", "does not match"), (b"too long for it", "more than")],
)
def test_a_candidate_that_differs_from_its_manifest_is_refused(weights: bytes, text: str) -> None:
    files = bundle_files(make_manifest("decoder", "conv", 2, b"weights"), weights)
    with pytest.raises(CandidateError, match=text):
        fetch(files)
