"""The `semcom` command line: one module a group of sub-commands.

Belongs here: options, help texts, exit codes. Does not: work; each command imports what does it when
it is called, so that `semcom --help` is quick and the xApp image needs no torch.
"""

from xapp.cli import (  # noqa: F401
    adapter,
    adapter_noise,
    bench,
    bundle,
    classify,
    digital,
    e2,
    evaluate,
    experiment,
    keys,
    rollout,
    services,
    split,
    split_leakage,
    split_plan,
    train,
)
from xapp.cli.root import app


def main() -> None:
    """Entry point of the ``semcom`` command."""
    app()


__all__ = ["app", "main"]
