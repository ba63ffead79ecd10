"""A stock Open Inference client against a live runtime."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
import time
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from runtime_site import Site, serve, write_encoder
from tritonclient.utils import InferenceServerException

from codec_runtime.contract import paths
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch
from codec_runtime.serving import inference_routes
from codec_runtime.serving.open_inference import parse_request

PICTURE = np.random.default_rng(1).integers(0, 256, (1, 3, 50, 61), dtype=np.uint8)


def _input(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _decode_inputs(symbols: np.ndarray, snr: float, prefix: int) -> list[triton.InferInput]:
    batch = symbols.shape[0]
    return [
        _input("symbols", symbols, "FP32"),
        _input("snr_db", np.full(batch, snr, np.float32), "FP32"),
        _input("prefix", np.full(batch, prefix, np.int32), "INT32"),
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_encodes_and_decodes_unchanged(site: Site, binary: bool) -> None:
    client = triton.InferenceServerClient(site.address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("encode")
    assert client.get_model_metadata("decode")["versions"] == ["1"]
    assert {m["name"] for m in client.get_model_repository_index()} >= {"encode", "decode"}
    outputs = [triton.InferRequestedOutput("symbols", binary_data=binary)]
    encoded = client.infer(
        "encode", [_input("image", PICTURE, "UINT8", binary)], outputs=outputs, request_id="7",
        parameters={"user": "ue-1"},
    )
    answer = encoded.get_response()
    parameters = answer["parameters"]
    assert answer["id"] == "7"
    assert parameters | {"user": "ue-1", "prefix": 6, "height": 50, "width": 61} == parameters
    symbols = encoded.as_numpy("symbols")
    assert symbols.shape == (1, 6, 14, 16)
    assert np.mean(symbols**2) == pytest.approx(0.5, rel=1e-3)
    decoded = client.infer(
        "decode", _decode_inputs(symbols, 7.0, 6), model_version="1",
        parameters={"decoder": "conv", "height": 50, "width": 61, "encoder_version": 1},
    )
    told = decoded.get_response()["parameters"]
    assert told == {"decoder": "conv", "decoder_version": 1, "encoder_version": 1, "codec": "semantic"}
    assert decoded.as_numpy("image").shape == (1, 3, 50, 61)
    assert decoded.as_numpy("image").dtype == np.uint8
    client.close()


def test_per_sample_prefix_zeroes_what_is_not_sent(site: Site) -> None:
    client = triton.InferenceServerClient(site.address)
    inputs = [
        _input("image", np.repeat(PICTURE, 2, axis=0), "UINT8"),
        _input("prefix", np.array([2, 5], np.int32), "INT32"),
        _input("snr_db", np.array([1.0, 9.0], np.float32), "FP32"),
    ]
    symbols = client.infer("encode", inputs).as_numpy("symbols")
    assert symbols.shape[1] == 5
    assert not symbols[0, 2:].any()
    assert symbols[1, 4].any()


@pytest.mark.parametrize(
    ("inputs", "parameters", "status", "text"),
    [
        ({"symbols": np.full((1, 4, 2, 2), np.nan, np.float32)}, {}, 400, "finite"),
        ({"symbols": np.zeros((1, 17, 2, 2), np.float32)}, {}, 400, "symbols must have shape"),
        ({"symbols": np.zeros((1, 4, 3, 2), np.float32)}, {}, 400, "multiples of 2"),
        ({"prefix": np.array([0], np.int32)}, {}, 400, "prefix must be in 1..4"),
        ({"snr_db": np.array([900], np.float32)}, {}, 400, "snr_db"),
        ({}, {"decoder": "brain"}, 404, "unknown decoder"),
        ({}, {"decoder_version": 9}, 404, "unknown version 9"),
        ({}, {"encoder_version": 2}, 400, "mixed pair"),
        ({}, {"height": 9}, 400, "height x width"),
        ({}, {"height": "tall"}, 400, "integer"),
    ],
)
def test_bad_decode_requests_are_refused_with_a_reason(
    site: Site, inputs: dict[str, np.ndarray], parameters: dict[str, object], status: int, text: str
) -> None:
    good = {
        "symbols": np.zeros((1, 4, 2, 2), np.float32),
        "snr_db": np.array([7.0], np.float32),
        "prefix": np.array([4], np.int32),
    } | inputs
    kinds = {"symbols": "FP32", "snr_db": "FP32", "prefix": "INT32"}
    client = triton.InferenceServerClient(site.address)
    with pytest.raises(InferenceServerException, match=text) as failure:
        client.infer("decode", [_input(n, a, kinds[n]) for n, a in good.items()], parameters=parameters)
    assert str(status) in str(failure.value)


def test_an_encoder_that_the_request_chose_is_not_paired_with_the_directives_decoder(
    weights: Path, tmp_path: Path
) -> None:
    write_encoder(weights, seed=5, version=2)
    with serve(weights, tmp_path / "state") as site:
        client = triton.InferenceServerClient(site.address)
        image = [_input("image", PICTURE, "UINT8")]
        by_url = client.infer("encode", image, model_version="2")
        by_parameter = client.infer("encode", image, parameters={"encoder_version": 2})
        own = client.infer("encode", image, model_version="1").get_response()["parameters"]
        for answer in (by_url, by_parameter):
            told = answer.get_response()["parameters"]
            assert [told[k] for k in ("encoder_version", "decoder", "decoder_version")] == [2, "", 0]
        assert (own["decoder"], own["decoder_version"]) == ("attention", 1)


def test_the_pixels_of_all_pictures_of_a_request_count(weights: Path, tmp_path: Path) -> None:
    with serve(weights, tmp_path / "state", max_pixels=256) as site:
        client = triton.InferenceServerClient(site.address)
        four, five = (np.zeros((n, 3, 8, 8), np.uint8) for n in (4, 5))
        assert client.infer("encode", [_input("image", four, "UINT8")]).as_numpy("symbols").shape[0] == 4
        with pytest.raises(InferenceServerException, match=r"5 x 64 pixels; 1\.\.256 in all"):
            client.infer("encode", [_input("image", five, "UINT8")])
        with pytest.raises(InferenceServerException, match="5 x 64 pixels"):
            client.infer("decode", _decode_inputs(np.zeros((5, 4, 2, 2), np.float32), 7.0, 4))


@pytest.mark.parametrize("length", ["9" * 5000, "\xb2", "-1", "x"])
def test_a_header_length_that_is_none_is_the_clients_fault(site: Site, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode("latin-1")}
    reply = httpx.post(site.url + "/v2/models/encode/infer", content=b"{}", headers=headers)
    assert (reply.status_code, "a number is needed" in reply.json()["error"]) == (400, True)


def test_directive_in_force_decides_the_rate(site: Site) -> None:
    batch = DirectiveBatch(
        issuer="x", sequence=1, issued_ns=0,
        directives=[
            Directive(user="ue-1", prefix=3, snr_db=2.0, decoder="conv", decoder_version=1),
            Directive(user="ue-2", prefix=3, snr_db=2.0, decoder="conv", decoder_version=5),
        ],
    )
    reply = httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch))
    ack = msgspec.msgpack.decode(reply.content, type=DirectiveAck)
    assert ack.applied == 1
    assert [(r.user, r.reason[:15]) for r in ack.rejected] == [("ue-2", "unknown version")]
    client = triton.InferenceServerClient(site.address)
    answer = client.infer("encode", [_input("image", PICTURE, "UINT8")], parameters={"user": "ue-1"})
    assert answer.as_numpy("symbols").shape[1] == 3
    assert answer.get_response()["parameters"]["decoder"] == "conv"


def test_metrics_tell_models_and_requests(site: Site) -> None:
    client = triton.InferenceServerClient(site.address)
    client.infer("encode", [_input("image", PICTURE, "UINT8")], parameters={"user": "ue-1"})
    text = httpx.get(site.url + "/metrics").text
    assert 'semcom_runtime_request_seconds_count{model="encode",outcome="ok"} 1.0' in text
    assert 'semcom_runtime_model_info{architecture="jscc-fast-conv",kind="decoder",name="conv"' in text
    assert "semcom_runtime_pictures 1.0" in text


def test_undecodable_bodies_are_counted_not_fatal(site: Site) -> None:
    for path in (paths.DIRECTIVES, paths.TELEMETRY, paths.ACTIVATIONS, paths.TRAINING_JOBS):
        reply = httpx.post(site.url + path, content=b"\xc1 not messagepack")
        assert reply.status_code == 400
        assert "error" in reply.json()
    assert httpx.get(site.url + paths.TELEMETRY + "?after=x").status_code == 400
    assert 'bad_requests_total{endpoint="post_directives"} 1.0' in httpx.get(site.url + "/metrics").text


def test_full_queue_answers_503_and_control_stays_responsive(weights: Path, tmp_path: Path) -> None:
    with serve(weights, tmp_path / "state", max_queue=4) as site:
        inference = site.server._runtime.inference
        release = threading.Event()
        inference._thread.submit(release.wait, 20)  # the inference thread is busy
        client = triton.InferenceServerClient(site.address)

        def post(user: str, timeout: int | None = None) -> httpx.Response:
            body, header = triton.InferenceServerClient.generate_request_body(
                [_input("image", PICTURE, "UINT8")], parameters={"user": user}, timeout=timeout
            )
            headers = {"Inference-Header-Content-Length": str(header)}
            url = site.url + "/v2/models/encode/infer"
            return httpx.post(url, content=body, headers=headers, timeout=30)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(post, "greedy") for _ in range(2)]
            while inference.depth < 2:
                time.sleep(0.001)
            unfair = post("greedy")
            assert (unfair.status_code, unfair.headers["retry-after"]) == (429, "1")
            late = post("patient", timeout=2000)
            assert late.status_code == 504
            waiting += [pool.submit(post, user) for user in ("a", "b")]
            while inference.depth < 4:
                time.sleep(0.001)
            refused = post("c")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert _answer_before_the_body(site.address) == "503"
            assert client.is_server_live()
            release.set()
            assert [answer.result(30).status_code for answer in waiting] == [200] * 4
        assert 'outcome="expired"} 1.0' in httpx.get(site.url + "/metrics").text


def _answer_before_the_body(address: str) -> str:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /v2/models/encode/infer HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode())
        return connection.recv(64).split()[1].decode()


def test_a_client_that_went_away_is_not_computed(site: Site) -> None:
    inference = site.server._runtime.inference
    release = threading.Event()
    inference._thread.submit(release.wait, 20)
    body, header = triton.InferenceServerClient.generate_request_body([_input("image", PICTURE, "UINT8")])
    headers = {"Inference-Header-Content-Length": str(header)}
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(site.url + "/v2/models/encode/infer", content=body, headers=headers, timeout=0.2)
    while inference.depth > 1:  # the first to come is with the thread already
        time.sleep(0.001)
    release.set()
    triton.InferenceServerClient(site.address).infer("encode", [_input("image", PICTURE, "UINT8")])
    metrics = httpx.get(site.url + "/metrics").text
    assert 'requests_dropped_total{cause="gone"} 2.0' in metrics


@pytest.mark.parametrize("timeout", [-1, "soon", 1.5, -(10**400)])
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(site: Site, timeout: object) -> None:
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 3, 1, 1], "data": [1, 2, 3]}
    body = {"inputs": [image], "parameters": {"timeout": timeout}}
    reply = httpx.post(site.url + "/v2/models/encode/infer", json=body)
    assert (reply.status_code, "parameter 'timeout'" in reply.json()["error"]) == (400, True)


def test_a_timeout_of_ages_is_one() -> None:
    request = parse_request(b'{"inputs": [], "parameters": {"timeout": 1%s}}' % (b"0" * 400))
    assert 1e5 < inference_routes._timeout_s(request, 30.0) < 1e9
    short = parse_request(b'{"inputs": [], "parameters": {"timeout": 2500}}')
    assert inference_routes._timeout_s(short, 30.0) == pytest.approx(2.5e-3)
    assert inference_routes._timeout_s(parse_request(b'{"inputs": []}'), 30.0) == 30.0
