"""The `semcom` command line: one module a group of sub-commands.

Belongs here: options, help texts, exit codes. Does not: work; each command imports what does it when
it is called, so that `semcom --help` is quick and the xApp image needs no torch.
"""

from xapp.cli import bench, bundle, e2, evaluate, experiment, keys, services, train  # noqa: F401
from xapp.cli.root import app


def main() -> None:
    """Entry point of the ``semcom`` command."""
    app()


__all__ = ["app", "main"]
