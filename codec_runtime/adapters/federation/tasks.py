"""How an engine's processes find a user's task: by the name of the function that makes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from codec_runtime.adapters.federation.client import LocalTask

TaskFactory = Callable[[str, Mapping[str, str]], LocalTask]
"""Makes a user's task from the user's name and options."""


def load_factory(name: str) -> TaskFactory:
    """The function behind ``module:function``.

    Raises:
        ValueError: there is none.
    """
    module, _, function = name.partition(":")
    try:
        found: TaskFactory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no task factory {name!r} (module:function): {error}") from error
    return found


def parse_options(text: str) -> dict[str, str]:
    """Options written as ``key:value,key:value``; empty for none.

    Raises:
        ValueError: a part has no key.
    """
    options = {}
    for part in filter(None, text.split(",")):
        key, colon, value = part.partition(":")
        if not key or not colon:
            raise ValueError(f"options are key:value,key:value, got {part!r}")
        options[key.strip()] = value.strip()
    return options
