"""docs/testbed.md names settings, ports, services and numbers that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from xapp.config_watch import LIVE
from xapp.ric.alarms import PROBLEMS
from xapp.settings import XAppSettings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "testbed.md").read_text()
CONFIG: dict[str, Any] = json.loads((ROOT / "descriptors" / "config-file.json").read_text())
SETTINGS = {field.name for field in msgspec.structs.fields(XAppSettings)}


def test_settings_of_the_examples_exist() -> None:
    (override,) = re.findall(r"override\.yaml <<END\n(.*?)END\n", GUIDE, flags=re.DOTALL)
    assert set(yaml.safe_load(override)["controls"]) <= SETTINGS
    variables = set(re.findall(r"SEMCOM_XAPP_([A-Z_]+)=", GUIDE))
    assert variables
    assert {name.lower() for name in variables} <= SETTINGS


def test_services_and_ports_are_those_of_the_descriptor() -> None:
    name = CONFIG["xapp_name"]
    named = set(re.findall(r"service-ricxapp-[a-z-]+[a-z]", GUIDE))
    assert named == {f"service-ricxapp-{name}-http", f"service-ricxapp-{name}-rmr"}
    assert f"configmap-ricxapp-{name}-appconfig" in GUIDE
    assert CONFIG["controls"]["submgr_url"] in GUIDE
    assert f"--version={CONFIG['version']}" in GUIDE


def test_policy_type_and_alarms_have_their_numbers() -> None:
    (policy,) = next(p["policies"] for p in CONFIG["messaging"]["ports"] if p["name"] == "rmrdata")
    assert set(re.findall(r"policytypes/(\d+)", GUIDE)) == {str(policy)}
    assert set(map(int, re.findall(r"\b84\d{3}\b", GUIDE))) <= {problem.number for problem in PROBLEMS}


def test_every_live_setting_is_told() -> None:
    (sentence,) = re.findall(r"Policy, its parameters.*?apply\s+at\s+once", GUIDE, flags=re.DOTALL)
    words = {
        "policy": "Policy", "policy_parameters": "parameters", "quality_target_db": "quality target",
        "budget_prefix": "budget", "meids": "E2 nodes", "report_period_ms": "report period",
        "stale_after_s": "two age limits", "remove_after_s": "two age limits", "log_level": "log level",
        "e2_nodes": "what is set for single nodes", "cell_prbs": "carrier",
        "subcarrier_spacing_khz": "carrier",
        "picture_pixels": "picture size", "radio_resources": "slice quotas", "slices": "slice quotas",
        "split": "split control",
    }  # fmt: skip
    assert set(words) == LIVE
    assert all(word in " ".join(sentence.split()) for word in words.values())
