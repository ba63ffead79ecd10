"""A Flower federation of real processes on loopback: SuperLink with TLS, SuperNodes with registered keys."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
APP = ROOT / "codec_runtime" / "adapters" / "federation" / "flower"


def flower_environment() -> Path | None:
    """The separate virtual environment, where it exists."""
    venv = Path(os.environ.get("SEMCOM_FLOWER_VENV") or ROOT / ".venv-flower")
    return venv if (venv / "bin" / "flower-superlink").exists() else None


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.2)


def write_certificates(folder: Path) -> None:
    """ca.pem, server.pem and server.key for 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None
    ) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("test authority", authority, None).sign(authority, hashes.SHA256())
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    )
    leaf = certificate("localhost", server, root.subject).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(leaf.sign(authority, hashes.SHA256()).public_bytes(pem))
    (folder / "server.key").write_bytes(
        server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def write_node_key(folder: Path, name: str) -> tuple[Path, Path]:
    """(private, public) key files of a SuperNode, in OpenSSH's format."""
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return private, public


@dataclass
class FlowerNetwork:
    """SuperLink and SuperNodes; everything lies below ``folder``."""

    venv: Path
    folder: Path
    address: str = ""
    run_id: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
            "FLWR_HOME": str(self.folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(self.venv / "bin" / command[0]), *command[1:]],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_superlink(self) -> None:
        write_certificates(self.folder)
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        tls = [f"--ssl-ca-certfile={self.folder / 'ca.pem'}", f"--ssl-certfile={self.folder / 'server.pem'}"]
        tls.append(f"--ssl-keyfile={self.folder / 'server.key'}")
        self.start(
            "superlink", "flower-superlink", *tls, "--host=127.0.0.1", f"--port={port}",
            "--enable-supernode-auth", "--disable-runtime-dependency-installation",
        )  # fmt: skip
        home = self.folder / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "test"\n\n[superlink.test]\n'
            f'address = "{self.address}"\nroot-certificates = "{self.folder / "ca.pem"}"\n'
        )

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        wait_for(listens, 60, "SuperLink")

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.venv / "bin" / "flwr"), *arguments],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_user(self, client: str, factory: str, options: str = "", register: bool = True) -> None:
        private, public = write_node_key(self.folder, client)
        if register:
            self.flwr("supernode", "register", str(public), "test")
        (port,) = free_ports(1)
        config = {"client": client, "factory": factory, "state-dir": str(self.folder / "users")}
        config |= {"options": options} if options else {}
        self.start(
            client, "flower-supernode", f"--superlink={self.address}",
            f"--root-certificates={self.folder / 'ca.pem'}", f"--auth-supernode-private-key={private}",
            "--host=127.0.0.1", f"--port={port}",
            "--node-config", " ".join(f'{key}="{value}"' for key, value in config.items()),
        )  # fmt: skip

    def run(self, settings: Mapping[str, str | int | float]) -> None:
        config = " ".join(f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in settings.items())
        started = json.loads(self.flwr("run", str(APP), "test", "--run-config", config, "--format", "json"))
        self.run_id = str(started["run-id"])

    def kill(self, name: str) -> None:
        """SIGKILL to a process and what it has started, as a power cut would."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)

    def logs(self) -> str:
        """Ends of all logs, for a failed assertion."""
        if self.run_id:
            (self.folder / "server_app.log").write_text(self.flwr("log", self.run_id, "test", "--show"))
        return "\n".join(
            f"== {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in self.folder.glob("*.log")
        )


@contextlib.contextmanager
def flower_network(venv: Path, folder: Path) -> Iterator[FlowerNetwork]:
    network = FlowerNetwork(venv, folder)
    try:
        network.start_superlink()
        yield network
    except BaseException:
        print(network.logs())
        raise
    finally:
        for name in list(network.processes):
            network.kill(name)
