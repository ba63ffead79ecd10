"""Requests that a runtime understands, answers that are checked, retries that end."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_doubles import SIDE, FakeRuntime

from codec_runtime.client.errors import BadAnswerError
from codec_runtime.client.protocol import HEADER_LENGTH, build_request, parse_answer
from codec_runtime.serving.open_inference import parse_request
from xapp.lab.inference_client import CodecClient, DecoderChoice, InferenceError, with_retries

PICTURES = np.full((2, SIDE, SIDE, 3), 90, np.uint8)


def client_of(runtime: FakeRuntime) -> CodecClient:
    return CodecClient(httpx.AsyncClient(base_url="http://runtime", transport=runtime.transport()), 5.0)


def test_a_request_reads_back_as_the_arrays_that_went_in() -> None:
    inputs = {
        "image": np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2),
        "snr_db": np.array([1.5, 2], np.float32),
        "item": np.array([1, 1 << 40], np.int64),
    }
    body, headers = build_request(inputs, (), {"user": "ue-3"})
    parsed = parse_request(body, int(headers[HEADER_LENGTH]))
    assert parsed.parameters["user"] == "ue-3"
    assert parsed.outputs == {}
    assert parsed.binary_default
    for name, array in inputs.items():
        assert (parsed.inputs[name] == array).all()


def test_an_array_type_that_the_models_do_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        build_request({"snr_db": np.zeros(2)}, (), {})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5), st.integers(0, 250).map(str)))
def test_no_answer_does_anything_but_parse_or_raise_the_error_of_a_bad_one(
    body: bytes, length: str | None
) -> None:
    with contextlib.suppress(BadAnswerError):
        parse_answer(body, length)


@pytest.mark.parametrize(
    "header",
    [
        b'{"outputs":[{"name":"a","shape":[3],"datatype":"FP32","parameters":{"binary_data_size":8}}]}',
        b'{"outputs":[{"name":"a","shape":[2],"datatype":"BF16","parameters":{"binary_data_size":8}}]}',
        b'{"outputs":[{"name":"a","shape":[-2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}',
        b'{"outputs":[{"name":"a","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}',
        b'{"outputs":[{"name":"a","shape":[2],"datatype":"FP32"}]}',
        b'{"outputs":',
    ],
)
def test_an_answer_whose_tensors_do_not_add_up_is_refused(header: bytes) -> None:
    with pytest.raises(BadAnswerError, match="unreadable answer"):
        parse_answer(header + bytes(8), str(len(header)))


def test_a_picture_survives_encode_and_decode_with_all_channels_and_no_noise() -> None:
    async def run() -> None:
        client = client_of(FakeRuntime())
        encoded = await client.encode(PICTURES, prefix=np.array([16, 16], np.int32))
        assert encoded.symbols.shape == (2, 16, SIDE // 4, SIDE // 4)
        choice = DecoderChoice("attention", 1, 1, SIDE)
        snr, prefix = np.full(2, 10.0, np.float32), np.full(2, 16, np.int32)
        restored = await client.decode(encoded.symbols, snr, prefix, choice)
        assert (restored == PICTURES).all()
        assert client.answered == 2

    asyncio.run(run())


def test_encode_for_a_user_sends_no_rate_of_its_own() -> None:
    runtime = FakeRuntime(prefix=4)
    encoded = asyncio.run(client_of(runtime).encode(PICTURES[:1], user="ue-7"))
    _, parameters, inputs = runtime.calls[0]
    assert parameters == {"user": "ue-7", "binary_data_output": True}
    assert set(inputs) == {"image"}
    assert encoded.prefix == 4


@pytest.mark.parametrize(
    ("status", "retriable"), [(503, True), (404, True), (500, True), (400, False), (413, False)]
)
def test_only_errors_that_may_pass_are_retriable(status: int, retriable: bool) -> None:
    with pytest.raises(InferenceError, match=f"HTTP {status}") as caught:
        asyncio.run(client_of(FakeRuntime(faults=[status])).encode(PICTURES))
    assert caught.value.retriable is retriable


def test_a_runtime_that_is_away_is_retriable_and_noticed() -> None:
    client = client_of(FakeRuntime(faults=[httpx.ConnectError("refused")]))
    with pytest.raises(InferenceError) as caught:
        asyncio.run(client.encode(PICTURES))
    assert caught.value.retriable
    assert not client.reachable


def test_retries_go_on_until_the_runtime_is_back() -> None:
    client = client_of(FakeRuntime(faults=[503, httpx.ConnectError("refused"), 404]))
    seen: list[InferenceError] = []
    asyncio.run(
        with_retries(
            lambda: client.encode(PICTURES), budget_s=60.0, on_retry=seen.append, backoff_s=(0.001, 0.002)
        )
    )
    assert len(seen) == 3


def test_retries_end_with_the_budget_and_at_once_for_a_final_error() -> None:
    seen: list[InferenceError] = []
    spent = client_of(FakeRuntime(faults=[503] * 1000))
    with pytest.raises(InferenceError, match="503"):
        asyncio.run(
            with_retries(
                lambda: spent.encode(PICTURES), budget_s=0.05, on_retry=seen.append, backoff_s=(0.01, 0.02)
            )
        )
    assert seen
    refused = client_of(FakeRuntime(faults=[400, 503]))
    with pytest.raises(InferenceError, match="400"):
        asyncio.run(with_retries(lambda: refused.encode(PICTURES), budget_s=60.0))
