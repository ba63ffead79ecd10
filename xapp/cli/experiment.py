"""`semcom experiment`: the experiments of the papers, one command each."""

from __future__ import annotations

from xapp.cli.root import experiment_app  # noqa: F401
