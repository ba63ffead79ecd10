"""Health checks of images and charts, run against a small server that speaks what the processes speak."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).parents[2]
PATHS = {"/ric/v1/health/alive", "/v2/health/live", "/v2/health/ready"}
MISSING_PORT = 9
"""Discard: nothing listens there."""


class Health(http.server.BaseHTTPRequestHandler):
    """200 on every health path, 503 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in PATHS else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def make_certificates(folder: Path) -> None:
    """tls.crt, tls.key, ca.crt: one certificate for both ends and both usages, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "semcom-test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.crt").write_bytes(pem)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def serve(context: ssl.SSLContext | None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


@pytest.fixture(scope="module")
def plain_port() -> Iterator[int]:
    yield from serve(None)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def mtls_port(certificates: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    context.load_verify_locations(certificates / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    yield from serve(context)


def run(script: str, **environment: str) -> int:
    """Exit code of a probe; a proxy of the surroundings must not matter."""
    proxy = "http://127.0.0.1:9"
    surroundings = {"PATH": os.environ["PATH"], "http_proxy": proxy, "https_proxy": proxy}
    return subprocess.run(
        [sys.executable, "-c", script], env={**surroundings, **environment}, capture_output=True, timeout=30,
        check=False,
    ).returncode


def docker_check(stage: str) -> str:
    text = (ROOT / "Dockerfile").read_text().split(f" AS {stage}\n")[1]
    command = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", text)
    assert command is not None
    python, flag, script = msgspec.json.decode(command[1])
    assert (python, flag) == ("python3", "-c")
    return script


def test_xapp_image_check_follows_its_health_endpoint(plain_port: int) -> None:
    script = docker_check("xapp")
    assert "127.0.0.1:8080/" in script
    assert run(script.replace(":8080/", f":{plain_port}/")) == 0
    assert run(script.replace(":8080/", f":{plain_port}/other/")) != 0
    assert run(script.replace(":8080/", f":{MISSING_PORT}/")) != 0


def test_runtime_image_check_speaks_http_without_tls_settings(plain_port: int) -> None:
    script = docker_check("codec-runtime")
    assert run(script, SEMCOM_RUNTIME_PORT=str(plain_port)) == 0
    assert run(script, SEMCOM_RUNTIME_PORT=str(MISSING_PORT)) != 0


def test_runtime_image_check_shows_a_certificate_under_mutual_tls(mtls_port: int, certificates: Path) -> None:
    script = docker_check("codec-runtime")
    tls = {
        "SEMCOM_RUNTIME_TLS_CERT": str(certificates / "tls.crt"),
        "SEMCOM_RUNTIME_TLS_KEY": str(certificates / "tls.key"),
    }
    assert run(script, SEMCOM_RUNTIME_PORT=str(mtls_port), **tls) == 0
    assert run(script, SEMCOM_RUNTIME_PORT=str(mtls_port)) != 0


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_runtime_chart_probe_shows_a_certificate_under_mutual_tls(
    probe: str, mtls_port: int, certificates: Path
) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with helm.Chart.load(ROOT / "charts" / "semcom-codec-runtime") as chart:
        values = {"tls": {"secretName": "t"}, "service": {"port": mtls_port}}
        files = chart.render(values, name="s", namespace="n")
    (text,) = (text for name, text in files.items() if name.endswith("/deployment.yaml"))
    deployment = yaml.safe_load(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    python, flag, script = container[probe]["exec"]["command"]
    assert (python, flag) == ("python3", "-c")
    script = script.replace("/etc/semcom/tls", str(certificates))
    assert run(script) == 0
    assert run(script.replace(f":{mtls_port}/", f":{MISSING_PORT}/")) != 0
