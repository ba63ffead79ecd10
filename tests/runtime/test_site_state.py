"""Directives, model sets, telemetry ring, picture buffer, exposure: the pure parts of a site."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from runtime_site import write_decoder, write_encoder

from codec_runtime.bundle.errors import MixedPairError, VersionConflictError
from codec_runtime.bundle.store import find_bundles
from codec_runtime.contract.directives import Directive, DirectiveBatch
from codec_runtime.contract.settings import SettingsError
from codec_runtime.contract.telemetry import TelemetryEvent, TrainingReport
from codec_runtime.serving.directives import DirectiveTable, default_directive
from codec_runtime.serving.pictures import PictureBuffer
from codec_runtime.serving.registry import ModelRegistry, UnknownModelError
from codec_runtime.serving.settings import RuntimeSettings, check_exposure
from codec_runtime.serving.telemetry import TelemetryStream


@pytest.fixture
def registry(weights: Path) -> ModelRegistry:
    loaded = ModelRegistry()
    for directory in reversed(find_bundles(weights)):
        loaded.publish(loaded.prepare([directory]))
    return loaded


def _directive(name: str, **changes: object) -> Directive:
    base = Directive(user=name, prefix=4, snr_db=5.0, decoder="attention", decoder_version=1)
    return msgspec.structs.replace(base, **changes)


def _batch(sequence: int, *directives: Directive, issuer: str = "x", full: bool = False) -> DirectiveBatch:
    return DirectiveBatch(
        issuer=issuer, sequence=sequence, issued_ns=0, directives=list(directives), full=full
    )


def test_repeated_and_older_batches_are_not_applied_again(registry: ModelRegistry) -> None:
    table = DirectiveTable()
    assert table.apply(_batch(2, _directive("u", prefix=2)), registry.models) == (1, [])
    assert table.apply(_batch(2, _directive("u", prefix=8)), registry.models) == (0, [])
    assert table.apply(_batch(1, _directive("u", prefix=8)), registry.models) == (0, [])
    assert table.in_force("u") == _directive("u", prefix=2)
    assert table.apply(_batch(1, _directive("u", prefix=8), issuer="y"), registry.models) == (1, [])
    assert table.in_force("u") == _directive("u", prefix=8)


def test_full_batch_replaces_the_table_but_a_rejected_user_keeps_the_earlier_one(
    registry: ModelRegistry,
) -> None:
    table = DirectiveTable()
    table.apply(_batch(1, _directive("a"), _directive("b"), _directive("c")), registry.models)
    applied, rejected = table.apply(
        _batch(2, _directive("a", prefix=9), _directive("b", decoder_version=7), full=True), registry.models
    )
    assert (applied, [r.user for r in rejected]) == (1, ["b"])
    assert table.in_force("a") == _directive("a", prefix=9)
    assert table.in_force("b") == _directive("b")
    assert table.in_force("c") is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"decoder": "brain"}, "unknown decoder"),
        ({"decoder_version": 3}, "unknown version"),
        ({"encoder_version": 2}, "unknown version"),
        ({"prefix": 0}, "prefix out of range"),
        ({"prefix": 17}, "prefix out of range"),
        ({"snr_db": float("nan")}, "snr out of range"),
        ({"user": ""}, "user"),
    ],
)
def test_directive_that_cannot_be_followed_is_rejected_with_its_reason(
    registry: ModelRegistry, changes: dict[str, object], reason: str
) -> None:
    _, (rejected,) = DirectiveTable().apply(_batch(1, _directive("u", **changes)), registry.models)
    assert rejected.reason.startswith(reason)


def test_default_is_the_newest_base_version_at_one_sixteenth(
    registry: ModelRegistry, weights: Path, tmp_path: Path
) -> None:
    encoder = registry.models.encoder().manifest
    write_decoder(tmp_path / "new", encoder, version=2, parent=1)  # fine-tuned: for those told to use it
    registry.publish(registry.prepare(find_bundles(tmp_path / "new")))
    directive = default_directive("u", registry.models)
    assert (directive.decoder, directive.decoder_version, directive.prefix) == ("attention", 1, 6)


def test_decoder_of_another_encoder_never_joins(registry: ModelRegistry, tmp_path: Path) -> None:
    stranger = write_encoder(tmp_path / "other", seed=50)
    write_decoder(tmp_path / "new", stranger, version=2, parent=1)
    before = registry.models
    with pytest.raises(MixedPairError):
        registry.prepare(find_bundles(tmp_path / "new"))
    assert registry.models is before


def test_second_encoder_pairs_only_with_its_own_decoders(registry: ModelRegistry, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path, seed=50, version=2)
    write_decoder(tmp_path, encoder, version=2)
    registry.publish(registry.prepare(sorted(find_bundles(tmp_path), reverse=True)))
    _, (rejected,) = DirectiveTable().apply(
        _batch(1, _directive("u", decoder_version=2, encoder_version=1)), registry.models
    )
    assert rejected.reason.startswith("mixed pair")
    assert DirectiveTable().apply(
        _batch(1, _directive("u", decoder_version=2, encoder_version=2)), registry.models
    ) == (1, [])


def test_version_is_not_replaced_by_other_weights(registry: ModelRegistry, tmp_path: Path) -> None:
    write_decoder(tmp_path, registry.models.encoder().manifest, version=1, seed=77)
    with pytest.raises(VersionConflictError):
        registry.prepare(find_bundles(tmp_path))


def test_retired_version_is_gone_for_new_requests_only(registry: ModelRegistry, tmp_path: Path) -> None:
    write_decoder(tmp_path, registry.models.encoder().manifest, version=2, parent=1)
    registry.publish(registry.prepare(find_bundles(tmp_path)))
    in_flight = registry.models
    registry.publish([], frozenset({tmp_path / "decoder" / "attention" / "2"}))
    assert in_flight.decoder("attention", 2)
    with pytest.raises(UnknownModelError, match=r"loaded are \[1\]"):
        registry.models.decoder("attention", 2)


def _report(job: str) -> TrainingReport:
    return TrainingReport(job=job, time_ns=0, state="running")


async def _collect(stream: TelemetryStream, after: int) -> list[int]:
    data = b"".join([chunk async for chunk in stream.read(after, 0.01)])
    unpacked: list[int] = []
    while data:  # events are concatenated: re-encode to know the length of each
        event = next(
            e for n in range(1, len(data) + 1) if (e := _try(data[:n])) is not None
        )
        unpacked.append(event.seq)
        data = data[len(msgspec.msgpack.encode(event)):]
    return unpacked


def _try(data: bytes) -> TelemetryEvent | None:
    try:
        return msgspec.msgpack.decode(data, type=TelemetryEvent)
    except msgspec.DecodeError:
        return None


def test_stream_resumes_and_shows_what_the_ring_lost_as_a_gap() -> None:
    async def scenario() -> None:
        missed: list[int] = []
        stream = TelemetryStream("i", 3, missed.append)
        for number in range(5):
            stream.publish(_report(str(number)))
        assert await _collect(stream, 4) == [5]
        assert missed == []
        assert await _collect(stream, 0) == [3, 4, 5]
        assert missed == [2]
        assert await _collect(stream, 99) == [3, 4, 5]  # the reader knew another instance

    asyncio.run(scenario())


def test_waiting_reader_gets_events_as_they_come_and_ends_on_close() -> None:
    async def scenario() -> None:
        stream = TelemetryStream("i", 8)
        reader = stream.read(0, 60.0)
        for number in (1, 2):
            waiting = asyncio.ensure_future(anext(reader))
            await asyncio.sleep(0)
            assert stream.publish(_report("j")) == number
            event = msgspec.msgpack.decode(await waiting, type=TelemetryEvent)
            assert (event.seq, event.instance) == (number, "i")
        stream.close()
        assert [chunk async for chunk in reader] == []

    asyncio.run(scenario())


def test_pictures_are_bounded_by_count_and_bytes() -> None:
    buffer = PictureBuffer(per_user=3, max_bytes=10 * 48)
    picture = np.zeros((1, 3, 4, 4), np.uint8)  # 48 bytes
    for number in range(5):
        buffer.add("a", picture + number)
    assert [int(p[0, 0, 0]) for _, p in buffer.recent(["a"])] == [2, 3, 4]
    for number in range(9):
        buffer.add(f"b{number}", picture)
    assert buffer.total_bytes == 10 * 48
    assert len(buffer) == 10
    assert len(buffer.recent(["a"])) == 1  # the user with most gave way
    buffer.add("c", np.zeros((1, 3, 99, 99), np.uint8))
    assert buffer.recent(["c", "nobody"]) == []


def test_pictures_from_before_a_drift_can_be_left_out() -> None:
    now = 100.0
    buffer = PictureBuffer(per_user=9, max_bytes=10_000, clock=lambda: now)
    for now in (100.0, 104.0, 106.0):
        buffer.add("a", np.full((1, 3, 4, 4), int(now), np.uint8))
    now = 107.0
    assert [int(p[0, 0, 0]) for _, p in buffer.recent(["a"], max_age_s=3.5)] == [104, 106]
    assert len(buffer.recent(["a"])) == 3


def test_tiny_pictures_of_invented_users_are_bounded_by_the_number_of_users() -> None:
    buffer = PictureBuffer(per_user=3, max_bytes=1 << 20, max_users=3)
    picture = np.zeros((1, 3, 1, 1), np.uint8)
    for user in ("a", "b", "a", "c", "d"):
        buffer.add(user, picture)
    assert [user for user in "abcd" if buffer.recent([user])] == ["a", "c", "d"]  # b was silent for longest
    assert len(buffer) == 4


def test_kept_picture_does_not_alias_the_request() -> None:
    buffer = PictureBuffer(per_user=1, max_bytes=1000)
    images = np.zeros((1, 3, 4, 4), np.uint8)
    buffer.add("a", images)
    images += 7
    assert not buffer.recent(["a"])[0][1].any()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "example.org"])
def test_network_exposure_needs_mutual_tls(host: str) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        check_exposure(RuntimeSettings(host=host))
    assert check_exposure(RuntimeSettings(host=host, allow_insecure=True))
    assert not check_exposure(RuntimeSettings(host=host, tls_cert="c", tls_key="k", client_ca="a"))
    with pytest.raises(SettingsError, match="together"):
        check_exposure(RuntimeSettings(host=host, tls_cert="c", allow_insecure=True))
    for loopback in ("127.0.0.1", "::1", "localhost"):
        assert not check_exposure(RuntimeSettings(host=loopback))
