"""`semcom bench`: ratios against named references, measured interleaved in one run."""

from __future__ import annotations

from xapp.cli.root import bench_app  # noqa: F401
