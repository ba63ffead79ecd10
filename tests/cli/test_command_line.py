"""The `semcom` command: help that teaches, errors that name the setting."""

import pytest
from typer.testing import CliRunner

from xapp.cli import app

RUNNER = CliRunner()


COMMANDS = (
    "", "demo", "runtime", "xapp", "lab", "keys init", "train codec", "train pack", "train publish",
    "eval codec", "eval mcs", "experiment schemes", "experiment report", "bench codec",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = RUNNER.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", ["runtime", "xapp", "lab"])
def test_missing_settings_file_is_named(command, tmp_path):
    result = RUNNER.invoke(app, [command, "--config", str(tmp_path / "absent.json")])
    assert result.exit_code == 2
    assert "absent.json" in result.output


def test_wrong_setting_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("SEMCOM_RUNTIME_PORT", "eighty")
    result = RUNNER.invoke(app, ["runtime"])
    assert result.exit_code == 2
    assert "port" in result.output


def test_runtime_refuses_to_listen_off_loopback_without_tls():
    result = RUNNER.invoke(app, ["runtime", "--host", "0.0.0.0", "--port", "0"])
    assert result.exit_code == 2
    assert "tls" in result.output.lower()


def test_keys_are_created_once_and_the_root_to_pin_is_printed(tmp_path):
    first = RUNNER.invoke(app, ["keys", "init", str(tmp_path / "tuf")])
    second = RUNNER.invoke(app, ["keys", "init", str(tmp_path / "tuf")])
    assert first.exit_code == 0
    assert first.output == second.output
    assert first.output.replace("\n", "").endswith("root.json")


def test_unknown_folder_of_pictures_is_named():
    result = RUNNER.invoke(app, ["eval", "codec", "--images", "/nowhere/at/all"])
    assert result.exit_code == 2
    assert "/nowhere/at/all" in result.output
