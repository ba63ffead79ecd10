"""The setting ``sites``: what is taken, what is refused and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from codec_runtime.contract.settings import SettingsError, load_settings
from xapp.config_watch import classify_change, merge_live
from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

SCHEMA = json.loads((Path(__file__).parents[2] / "descriptors" / "schema.json").read_text())
TWO = {
    "berlin": {"url": "https://berlin:8480", "meids": ["gnb-1", "gnb-2"]},
    "tokyo": {"url": "https://tokyo:8480", "meids": ["gnb-3"]},
}


def read(sites: Any, **others: Any) -> XAppSettings:
    return load_settings(
        XAppSettings, env_prefix=XAPP_ENV_PREFIX, environ={}, overrides={"sites": sites, **others}
    )


def test_without_sites_the_runtime_url_is_the_only_one() -> None:
    settings = XAppSettings(meids=["gnb-1"])
    assert settings.sites == {}
    assert settings.configured_meids == ["gnb-1"]


def test_nodes_of_sites_are_subscribed_to_like_meids_each_once() -> None:
    assert read(TWO, meids=["gnb-3", "gnb-4"]).configured_meids == ["gnb-3", "gnb-4", "gnb-1", "gnb-2"]


def test_sites_can_be_given_in_the_environment() -> None:
    settings = load_settings(
        XAppSettings, env_prefix=XAPP_ENV_PREFIX, environ={f"{XAPP_ENV_PREFIX}_SITES": json.dumps(TWO)}
    )
    assert settings.sites["tokyo"].meids == ["gnb-3"]


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        ({**TWO, "rome": {"url": "http://rome", "meids": ["gnb-3"]}}, "E2 node 'gnb-3' is tokyo's"),
        ({**TWO, "rome": {"url": "https://tokyo:8480/"}}, "url 'https://tokyo:8480' is tokyo's"),
        ({"berlin": {"url": "berlin:8480"}}, "url = 'berlin:8480'"),
        ({"berlin": {"url": "ftp://berlin"}}, "url = 'ftp://berlin'"),
        ({"berlin": {"url": "http://"}}, "without a path is needed"),
        ({"berlin": {"url": "http://berlin/semcom/v1"}}, "without a path is needed"),
        ({"berlin": {"url": "http://berlin:99999"}}, "http://berlin:99999"),
        ({"berlin": {"url": "http://berlin", "meids": ["a", "a"]}}, "distinct, non-empty"),
        ({"berlin": {"url": "http://berlin", "meids": [""]}}, "distinct, non-empty"),
        ({"berlin": {"meids": ["gnb-1"]}}, "url"),
        ({"berlin": {"url": "http://berlin", "tls": True}}, "tls"),
        ({"_every": {"url": "http://berlin"}}, "'_every' is no name"),
        ({"a/b": {"url": "http://berlin"}}, "'a/b' is no name"),
        ({"": {"url": "http://berlin"}}, "'' is no name"),
    ],
)
def test_what_cannot_be_followed_is_refused_naming_it(sites: Any, reason: str) -> None:
    with pytest.raises(SettingsError, match="settings of XAppSettings") as caught:
        read(sites)
    assert reason in str(caught.value)


def test_changed_sites_wait_for_a_restart() -> None:
    old, new = read(TWO), read({"berlin": TWO["berlin"]}, log_level="DEBUG")
    assert classify_change(old, new) == (frozenset({"log_level"}), frozenset({"sites"}))
    assert merge_live(old, new).sites == old.sites


def test_the_schema_takes_and_refuses_the_same() -> None:
    validator = jsonschema.Draft7Validator(SCHEMA["properties"]["sites"])
    validator.validate(TWO)
    validator.validate(msgspec.to_builtins(read(TWO).sites))
    for bad in (
        {"_every": {"url": "http://berlin"}},
        {"berlin": {}},
        {"berlin": {"url": "berlin:8480"}},
        {"berlin": {"url": "http://berlin/semcom/v1"}},
        {"berlin": {"url": "http://berlin", "meids": ["a", "a"]}},
        {"berlin": {"url": "http://berlin", "tls": True}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(bad)
