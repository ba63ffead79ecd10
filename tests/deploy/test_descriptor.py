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
from xapp.metrics import XAppMetrics
from xapp.ric.registration import registration_from
from xapp.ric.rmr import messages
from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

ROOT = Path(__file__).parents[2]
DESCRIPTOR = ROOT / "descriptors" / "config-file.json"
CONFIG: dict[str, Any] = json.loads(DESCRIPTOR.read_text())
SCHEMA: dict[str, Any] = json.loads((ROOT / "descriptors" / "schema.json").read_text())
POLICY_TYPE: dict[str, Any] = json.loads((ROOT / "descriptors" / "a1-policy-type.json").read_text())
PORTS: dict[str, dict[str, Any]] = {port["name"]: port for port in CONFIG["messaging"]["ports"]}

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
# The onboarder wants a host name with a dot or an IPv4 address, a port at most, and no path.
REGISTRY = re.compile(r"[A-Za-z0-9.-]+\.[A-Za-z]+(:\d+)?|\d+(\.\d+){3}(:\d+)?")
BY_MEID = {"RIC_CONTROL_REQ"}
"""Messages that go to the termination of one E2 node: only the routing manager knows which that is."""


def test_name_and_version_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert CONFIG["xapp_name"] == project["name"]
    assert CONFIG["version"] == project["version"]


def test_version_is_semantic() -> None:
    # It becomes the version of the Helm chart, which takes no other.
    assert SEMVER.fullmatch(CONFIG["version"])


def test_name_can_be_a_part_of_kubernetes_names() -> None:
    # service-ricxapp-<name>-http, configmap-ricxapp-<name>-appconfig: 63 characters of lower case at most.
    assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", CONFIG["xapp_name"])
    assert len(f"configmap-ricxapp-{CONFIG['xapp_name']}-appconfig") <= 63


def test_top_level_keys_are_known_to_the_onboarder() -> None:
    assert set(CONFIG) == {
        "xapp_name", "version", "annotations", "containers", "livenessProbe", "readinessProbe", "messaging",
        "metrics", "controls",
    }


def test_there_is_no_rmr_block() -> None:
    # Where there is one, the application manager reads it and ignores `messaging`.
    assert "rmr" not in CONFIG


def test_annotations_are_texts() -> None:
    assert all(isinstance(value, str) for value in CONFIG["annotations"].values())
    assert CONFIG["annotations"]["prometheus.io/port"] == str(PORTS["http"]["port"])


def test_metrics_are_an_object_of_counters_that_the_xapp_exposes() -> None:
    # An array in the onboarder's guide, an object in the schema it checks against.
    assert isinstance(CONFIG["metrics"], dict)
    assert CONFIG["metrics"]
    exposed = XAppMetrics().exposition().decode()
    for key, metric in CONFIG["metrics"].items():
        assert set(metric) == {"objectName", "objectInstance", "name", "type", "description"}
        assert all(isinstance(value, str) and value for value in metric.values())
        assert key == metric["name"]
        assert f"# TYPE {key} {metric['type']}" in exposed


def test_image_is_pulled_from_a_named_registry() -> None:
    (container,) = CONFIG["containers"]
    assert REGISTRY.fullmatch(container["image"]["registry"])


def test_the_registry_rule_refuses_what_the_onboarder_refuses() -> None:
    assert not any(REGISTRY.fullmatch(bad) for bad in ("localhost:5000", "localhost", "https://a.b", "a.b/c"))
    assert all(REGISTRY.fullmatch(good) for good in ("nexus3.o-ran-sc.org:10002", "10.0.0.1:5000"))


def test_image_has_the_tag_of_the_release_and_no_command() -> None:
    (container,) = CONFIG["containers"]
    # A `command` is a string to old onboarders and an array to new ones.
    assert set(container) == {"name", "image"}
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


def test_rmr_data_port_has_all_of_received_messages_sent_messages_and_policies() -> None:
    # Each of the three asks for the other two.
    assert {"rxMessages", "txMessages", "policies"} <= set(PORTS["rmrdata"])
    for name in ("http", "rmrroute"):
        assert not {"rxMessages", "txMessages", "policies"} & set(PORTS[name])


def test_rmr_messages_are_those_that_the_xapp_knows() -> None:
    data = PORTS["rmrdata"]
    for name in data["rxMessages"] + data["txMessages"]:
        assert isinstance(getattr(messages, name), int), name
    assert {"RIC_INDICATION", "A1_POLICY_REQ"} <= set(data["rxMessages"])
    assert {"A1_POLICY_RESP", "A1_POLICY_QUERY"} <= set(data["txMessages"])


def test_policies_name_the_a1_policy_type() -> None:
    # Without it the routing manager sends the A1 mediator's requests nowhere.
    assert PORTS["rmrdata"]["policies"] == [POLICY_TYPE["policy_type_id"]]


def test_platform_is_looked_for_in_its_own_namespace_and_the_xapp_in_ricxapp() -> None:
    controls = CONFIG["controls"]
    assert controls["notification_url"].startswith(f"http://service-ricxapp-{CONFIG['xapp_name']}-http.ricxapp:")
    assert controls["submgr_url"].startswith("http://service-ricplt-submgr-http.ricplt:")
    # The subscription manager makes the RMR host by writing `rmr` for `http` in this host, and the routing
    # manager compares it with the one that appmgr makes of the instance's name.
    host = controls["notification_url"].removeprefix("http://").partition(":")[0]
    assert host.replace("http", "rmr") == f"service-ricxapp-{CONFIG['xapp_name']}-rmr.ricxapp"


def test_appmgr_can_register_the_descriptor() -> None:
    registration = registration_from(CONFIG, environ={}, http_endpoint="a:8080", rmr_endpoint="a:4560")
    sent, taken, policies = registration.messaging()
    assert (sent, taken) == (set(PORTS["rmrdata"]["txMessages"]), set(PORTS["rmrdata"]["rxMessages"]))
    assert policies == {POLICY_TYPE["policy_type_id"]}


def test_seed_routes_cover_what_the_xapp_sends() -> None:
    lines = [
        line.split("|")
        for line in (ROOT / "descriptors" / "routes.rt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0][:2] == ["newrt", "start"]
    assert lines[-1][:2] == ["newrt", "end"]
    entries = [line for line in lines[1:-1] if line[0] in ("mse", "rte")]
    routed = {int(entry[1].partition(",")[0]) for entry in entries}
    sent = {getattr(messages, name) for name in PORTS["rmrdata"]["txMessages"] if name not in BY_MEID}
    assert sent <= routed
    assert routed <= {value for value in vars(messages).values() if isinstance(value, int)} | {13111}
    for entry in entries:
        for endpoint in re.split("[,;]", entry[-1]):
            assert re.fullmatch(r"[a-z0-9.-]+:\d+|%meid", endpoint), entry


def test_controls_satisfy_their_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(CONFIG["controls"])


def test_controls_have_a_schema_that_refuses_what_the_xapp_would() -> None:
    # Without a schema of its own, the onboarder refuses every `controls` section.
    validator = jsonschema.Draft7Validator(SCHEMA)
    for name, bad in (("no_such_setting", 1), ("rmr_port", "4560"), ("report_period_ms", 1), ("meids", [1])):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**CONFIG["controls"], name: bad})


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
