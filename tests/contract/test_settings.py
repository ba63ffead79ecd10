"""Precedence and messages of settings."""

import json

import msgspec
import pytest

from codec_runtime.contract.settings import SettingsError, load_settings


class Example(msgspec.Struct, frozen=True, kw_only=True):
    port: int = 1
    name: str = "a"
    meids: list[str] = []
    fast: bool = False


def test_environment_beats_file_and_flags_beat_both(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"port": 2, "name": "file"}))
    settings = load_settings(
        Example, env_prefix="EX", file=file,
        environ={"EX_PORT": "3", "EX_MEIDS": '["gnb1"]', "EX_FAST": "true"},
        overrides={"name": "flag", "port": None},
    )
    assert settings == Example(port=3, name="flag", meids=["gnb1"], fast=True)


def test_section_of_an_osc_config_file(tmp_path):
    file = tmp_path / "config-file.json"
    file.write_text(json.dumps({"name": "semcom", "controls": {"port": 9}}))
    assert load_settings(Example, env_prefix="EX", file=file, section="controls", environ={}).port == 9


def test_unknown_setting_is_named_with_the_known_ones(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"prot": 2}')
    with pytest.raises(SettingsError, match=r"prot.*known are.*port"):
        load_settings(Example, env_prefix="EX", file=file, environ={})


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_file_that_is_no_json_object_is_refused(tmp_path, content):
    file = tmp_path / "settings.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match="JSON"):
        load_settings(Example, env_prefix="EX", file=file, environ={})


def test_wrong_type_names_the_field():
    with pytest.raises(SettingsError, match="port"):
        load_settings(Example, env_prefix="EX", environ={"EX_PORT": "eighty"})
