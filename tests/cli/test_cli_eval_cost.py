"""`semcom eval cost`: every kind at every tier, trained or not; what is wrong is named."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from codec_runtime.bundle.store import SHIPPED_WEIGHTS, bundle_directory, find_bundles, read_manifest
from xapp.cli.root import app

KINDS = ("attention", "conv", "resnet", "vgg")
TIERS = ("small", "medium", "large")


def test_all_tiers_are_listed_and_a_larger_one_costs_more() -> None:
    result = CliRunner().invoke(
        app, ["eval", "cost", "--family", "fast", "--network", "width=8", "--size", "48x32", "--json"]
    )
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert (table["family"], table["width"], table["height"]) == ("fast", 48, 32)
    rows = {(row["network"], row["tier"]): row for row in table["rows"]}
    assert list(rows) == [("encoder", ""), *((kind, tier) for kind in KINDS for tier in TIERS)]
    assert all(row["ms_per_image"] > 0 for row in rows.values())
    for key in ("parameters", "macs_per_pixel"):
        for kind in KINDS:
            small, medium, large = (rows[kind, tier][key] for tier in TIERS)
            assert small < medium < large


def test_the_shipped_configuration_is_what_the_cards_say() -> None:
    result = CliRunner().invoke(app, ["eval", "cost", "--size", "96x64", "--json"])
    assert result.exit_code == 0, result.output
    rows = {(row["network"], row["tier"]): row for row in json.loads(result.stdout)["rows"]}
    cards = [read_manifest(place) for place in find_bundles(SHIPPED_WEIGHTS)]
    decoders = [card for card in cards if card.kind == "decoder"]
    assert decoders
    for card in decoders:
        row = rows[card.name.split("-")[0], str(card.hyperparameters["tier"])]
        assert row["parameters"] == card.parameters - _running_averages(card.name, card.version)
        assert row["macs_per_pixel"] == pytest.approx(card.macs_per_pixel, rel=5e-3)  # some are per picture


def _running_averages(name: str, version: int) -> int:
    """Values of a decoder's state that are no parameters."""
    tensors = read_manifest(bundle_directory(SHIPPED_WEIGHTS, "decoder", name, version)).tensors
    return sum(math.prod(spec.shape) for key, spec in tensors.items() if "running_" in key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--family", "slow"], "no codec family 'slow'; known: fast, anchor"),
        (["--size", "768"], "WIDTHxHEIGHT"),
        (["--size", "0x64"], "1 to 8192"),
        (["--family", "fast", "--network", "width"], "KEY=VALUE"),
        (["--family", "fast", "--network", "wdith=8"], "wdith"),
        (["--weights", "/nowhere"], "no encoder"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["eval", "cost", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
