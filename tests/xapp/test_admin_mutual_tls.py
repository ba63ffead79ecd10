"""The admin listener off loopback: clients with a certificate of its CA command roll-outs, nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rollout_scene import ORDER, Scene
from typer.testing import CliRunner
from xapp_simulated_site import eventually

from xapp.cli import app
from xapp.rollout.admin import AdminListener
from xapp.rollout.api import ROLLOUTS
from xapp.settings import XAppSettings

HOST = "0.0.0.0"


class Authority:
    """A CA of a test, whose certificates are good for an hour."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {place.name}")])
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = self._write("ca.pem", certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, who: str, purpose: x509.ObjectIdentifier) -> tuple[str, str]:
        """Paths of certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]), key.public_key())
            .add_extension(here, critical=False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        encoded = certificate.public_bytes(serialization.Encoding.PEM)
        return self._write(f"{who}.pem", encoded), self._write(f"{who}.key", secret)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _write(self, name: str, data: bytes) -> str:
        path = self.place / name
        path.write_bytes(data)
        return str(path)


@contextlib.asynccontextmanager
async def listening(scene: Scene, ours: Authority) -> AsyncIterator[int]:
    """Port of an admin listener that is bound to every address."""
    certificate, key = ours.issue("xapp", ExtendedKeyUsageOID.SERVER_AUTH)
    settings = XAppSettings(
        admin_host=HOST, admin_tls_cert=certificate, admin_tls_key=key, admin_client_ca=ours.ca
    )
    listener = AdminListener(settings, scene.driver)
    task = asyncio.create_task(listener.serve())
    try:
        await eventually(lambda: bool(listener.port))
        yield listener.port
    finally:
        task.cancel()
        await asyncio.wait([task])


def client(ca: str, pair: tuple[str, str] | None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=ca)
    if pair is not None:
        context.load_cert_chain(*pair)
    return httpx.AsyncClient(verify=context)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, {"a": 4})
    scene.driver.start(ORDER)
    return scene


def test_a_client_of_the_ca_commands_and_the_command_line_is_one(scene: Scene, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    pair = ours.issue("operator", ExtendedKeyUsageOID.CLIENT_AUTH)
    rollout = scene.driver.rollouts[0].id

    async def main() -> None:
        async with listening(scene, ours) as port:
            url = f"https://127.0.0.1:{port}"
            async with client(ours.ca, pair) as http:
                assert (await http.get(url + ROLLOUTS)).status_code == 200
                pause = await http.post(f"{url}{ROLLOUTS}/{rollout}/pause", json={"by": "test"})
                assert pause.json()["phase"] == "paused"
            words = ["rollout", "abort", rollout, "--url", url, "--json"]
            words += ["--ca", ours.ca, "--cert", pair[0], "--key", pair[1]]
            result = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert result.exit_code == 0, result.output
            assert json.loads(result.stdout)["phase"] == "aborted"

    asyncio.run(main())


@pytest.mark.parametrize("who", ["nobody", "stranger", "server certificate", "plain text"])
def test_nobody_else_reads_or_commands(scene: Scene, tmp_path: Path, who: str) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    pair = {
        "nobody": None,
        "stranger": theirs.issue("stranger", ExtendedKeyUsageOID.CLIENT_AUTH),
        "server certificate": ours.issue("server", ExtendedKeyUsageOID.SERVER_AUTH),
        "plain text": None,
    }[who]
    path = f"{ROLLOUTS}/{scene.driver.rollouts[0].id}/pause"
    scheme = "http" if who == "plain text" else "https"

    async def main() -> None:
        async with listening(scene, ours) as port, client(ours.ca, pair) as http:
            for method in ("GET", "POST"):
                with pytest.raises(httpx.TransportError):
                    await http.request(method, f"{scheme}://127.0.0.1:{port}{path}", json={})

    asyncio.run(main())
    assert scene.driver.rollouts[0].phase == "publishing"


def test_a_connection_that_never_speaks_holds_up_nobody(scene: Scene, tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours")
    pair = ours.issue("operator", ExtendedKeyUsageOID.CLIENT_AUTH)

    async def main() -> None:
        async with listening(scene, ours) as port, client(ours.ca, pair) as http:
            with socket.create_connection(("127.0.0.1", port)):
                assert (await http.get(f"https://127.0.0.1:{port}{ROLLOUTS}")).status_code == 200

    asyncio.run(main())
