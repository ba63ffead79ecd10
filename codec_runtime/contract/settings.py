"""Settings of a process: defaults < JSON file < environment, checked against a typed struct.

A setting ``listen_port`` of a process with prefix ``SEMCOM_RUNTIME`` is overridden by the environment
variable ``SEMCOM_RUNTIME_LISTEN_PORT``. Lists and nested values are given as JSON in the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message names it and its origin."""


def load_settings(
    kind: type[SettingsT],
    *,
    env_prefix: str,
    file: Path | None = None,
    section: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Read settings of type ``kind``.

    Args:
        kind: a msgspec.Struct whose fields all have defaults.
        env_prefix: e.g. ``SEMCOM_XAPP``.
        file: JSON file; None for none.
        section: key of the file under which the settings are (``controls`` in an OSC config-file.json).
        environ: environment, ``os.environ`` if None.
        overrides: highest precedence (command-line flags); None values are ignored.

    Raises:
        SettingsError: file missing or not JSON, unknown key, wrong type.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(file, section))
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise SettingsError(
            f"{file}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(fields))}"
        )
    for name, field in fields.items():
        variable = f"{env_prefix}_{name.upper()}"
        if variable in environ:
            values[name] = _from_text(environ[variable], field.type, variable)
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings of {kind.__name__}: {error}") from error


def _from_file(file: Path, section: str | None) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {file} does not exist") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"settings file {file} is not JSON: {error}") from error
    if section is not None and isinstance(content, dict):
        content = content.get(section, {})
    if not isinstance(content, dict):
        raise SettingsError(f"settings file {file}: a JSON object is needed")
    return content


def _from_text(text: str, kind: Any, variable: str) -> Any:
    if text[:1] in "[{" and text:
        try:
            return msgspec.json.decode(text.encode())
        except msgspec.DecodeError as error:
            raise SettingsError(f"{variable} is not JSON: {error}") from error
    return text
