"""The xApp descriptor: what the O-RAN SC onboarder checks and what the xApp reads."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from codec_runtime.contract.settings import SettingsError, load_settings
from xapp.ric.rmr import messages
from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

ROOT = Path(__file__).parents[2]
DESCRIPTOR = ROOT / "descriptors" / "config-file.json"
CONFIG: dict[str, Any] = json.loads(DESCRIPTOR.read_text())
SCHEMA: dict[str, Any] = json.loads((ROOT / "descriptors" / "schema.json").read_text())
PORTS: dict[str, dict[str, Any]] = {port["name"]: port for port in CONFIG["messaging"]["ports"]}

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
# The onboarder wants a host name with a dot or an IPv4 address, a port at most, and no path.
REGISTRY = re.compile(r"(?!localhost)[A-Za-z0-9.-]+\.[A-Za-z]+(:\d+)?|\d+(\.\d+){3}(:\d+)?")


def test_name_and_version_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert CONFIG["xapp_name"] == project["name"]
    assert CONFIG["version"] == project["version"]
    assert SEMVER.fullmatch(CONFIG["version"])


def test_top_level_keys_are_known_to_every_onboarder_release() -> None:
    # No `rmr` block: where there is one, the application manager ignores `messaging`. No `metrics`: releases
    # of the onboarder disagree whether it is an array or an object.
    assert set(CONFIG) == {
        "xapp_name", "version", "annotations", "containers", "livenessProbe", "readinessProbe", "messaging",
        "controls",
    }


def test_image_is_pulled_from_a_named_registry_at_a_fixed_tag() -> None:
    (container,) = CONFIG["containers"]
    # No `command`: it is a string to old onboarders and an array to new ones.
    assert set(container) == {"name", "image"}
    assert REGISTRY.fullmatch(container["image"]["registry"])
    assert container["image"]["tag"] == CONFIG["version"]


@pytest.mark.parametrize(("probe", "path"), [("livenessProbe", "alive"), ("readinessProbe", "ready")])
def test_probes_ask_the_health_endpoints(probe: str, path: str) -> None:
    definition = CONFIG[probe]
    assert definition["httpGet"] == {"path": f"/ric/v1/health/{path}", "port": PORTS["http"]["port"]}
    assert {"httpGet", "initialDelaySeconds", "periodSeconds"} == set(definition)
    assert all(isinstance(definition[key], int) for key in ("initialDelaySeconds", "periodSeconds"))


def test_ports_have_the_names_and_numbers_that_the_platform_looks_up() -> None:
    assert {name: port["port"] for name, port in PORTS.items()} == {
        "http": 8080, "rmrdata": 4560, "rmrroute": 4561,
    }
    container = CONFIG["containers"][0]["name"]
    assert all(port["container"] == container for port in PORTS.values())


def test_rmr_data_port_names_messages_and_policies_together() -> None:
    data = PORTS["rmrdata"]
    assert {"rxMessages", "txMessages", "policies"} <= set(data)
    assert "RIC_INDICATION" in data["rxMessages"]
    for name in data["rxMessages"] + data["txMessages"]:
        assert isinstance(getattr(messages, name), int), name
    assert all(isinstance(policy, int) for policy in data["policies"])


def test_seed_routes_cover_exactly_what_the_xapp_sends() -> None:
    lines = [
        line.split("|")
        for line in (ROOT / "descriptors" / "routes.rt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0][:2] == ["newrt", "start"]
    assert lines[-1] == ["newrt", "end"]
    entries = lines[1:-1]
    assert {int(entry[1]) for entry in entries} == {
        getattr(messages, name) for name in PORTS["rmrdata"]["txMessages"]
    }
    for kind, _, subscription, endpoint in entries:
        assert (kind, subscription) == ("mse", "-1")
        assert re.fullmatch(r"[a-z0-9.-]+:\d+", endpoint)


def test_controls_satisfy_their_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(CONFIG["controls"])


def test_schema_survives_the_template_engine_of_the_onboarder() -> None:
    # The onboarder pastes the schema into a Helm template and strips backslashes from the configuration.
    assert "{{" not in json.dumps(SCHEMA)
    assert "\\" not in json.dumps(CONFIG)
    assert not any(key in json.dumps(SCHEMA) for key in ('"$id"', '"$ref"'))


def test_every_control_is_a_setting_of_the_xapp() -> None:
    settings = {field.name for field in msgspec.structs.fields(XAppSettings)}
    assert set(CONFIG["controls"]) <= settings


def test_schema_describes_every_setting_and_takes_its_default() -> None:
    defaults = msgspec.to_builtins(XAppSettings())
    properties = SCHEMA["properties"]
    assert set(properties) == set(defaults), "schema.json must describe every field of XAppSettings"
    assert all(entry["description"] for entry in properties.values())
    jsonschema.Draft7Validator(SCHEMA).validate(defaults)


def test_the_xapp_starts_with_the_descriptor() -> None:
    settings = load_settings(
        XAppSettings, env_prefix=XAPP_ENV_PREFIX, file=DESCRIPTOR, section="controls", environ={}
    )
    assert settings.http_port == PORTS["http"]["port"]
    assert settings.rmr_port == PORTS["rmrdata"]["port"]
    assert settings.notification_base.endswith(f":{settings.http_port}")
    # In a pod nothing reaches a listener on loopback.
    assert settings.http_host == settings.rmr_host == "0.0.0.0"


@pytest.mark.parametrize(
    "name", [name for name, entry in SCHEMA["properties"].items() if "minimum" in entry]
)
def test_schema_and_xapp_agree_on_ranges(name: str) -> None:
    """What the onboarder lets through, the xApp takes, and the other way round."""
    entry = SCHEMA["properties"][name]

    def accepted(value: float) -> bool:
        # Users are never removed before they are stale, whatever stale_after_s is tried here.
        others = {"remove_after_s": 1e9} if name == "stale_after_s" else {}
        try:
            load_settings(XAppSettings, env_prefix="X", environ={}, overrides={name: value, **others})
        except SettingsError:
            return False
        return True

    step = 1 if entry["type"] == "integer" else 1e-6
    assert accepted(entry["minimum"])
    assert accepted(entry["maximum"])
    assert not accepted(entry["minimum"] - step)
    assert not accepted(entry["maximum"] + step)
