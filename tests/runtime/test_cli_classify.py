"""`semcom split publish` and `semcom client classify`, from weights to an answer."""

from __future__ import annotations

import json
from pathlib import Path

from classifier_releases import push
from PIL import Image
from runtime_site import Repository, Site
from typer.testing import CliRunner

from codec_runtime.bundle.verification import verify_bundle
from xapp.cli import app

CHAIN = ["split", "publish", "chain", "--size", "32", "--classes", "5", "--width", "4"]


def test_published_classifier_classifies_a_photograph(
    site: Site, repository: Repository, tmp_path: Path
) -> None:
    bundles = tmp_path / "bundles"
    made = CliRunner().invoke(app, [*CHAIN, str(bundles), "--device", "phone-mid", "--json"])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["written"]
    assert told["cuts"][0]["feature_bytes"] > 3 * 32 * 32
    assert verify_bundle(bundles / "classifier" / "chain" / "1").sound
    (report,) = push(site, repository, bundles, 1)
    assert report.outcome == "activated", report.detail
    Image.new("RGB", (60, 40), (200, 30, 90)).save(tmp_path / "a.png")
    done = CliRunner().invoke(app, [
        "client", "classify", "--image", str(tmp_path / "a.png"), "--site", site.url, "--top", "3",
        "--state", str(tmp_path / "device"), "--trusted-root", str(tmp_path / "root.json"), "--json",
    ])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert len(set(answer["classes"])) == 3
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    assert (answer["network"], answer["version"], answer["cut"]) == ("chain", 1, told["cuts"][0]["cut"])


def test_what_cannot_be_published_is_refused_with_what_would_be_right(tmp_path: Path) -> None:
    cases = {
        "there are": ["split", "publish", "unknown-network", str(tmp_path)],
        "has no operation in a module": [*CHAIN, str(tmp_path), "--after", "nowhere"],
        "no device class": [*CHAIN, str(tmp_path), "--device", "toaster"],
        "size = 7": ["split", "publish", "chain", str(tmp_path), "--size", "7"],
    }
    for text, arguments in cases.items():
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert text in done.output
    assert list(tmp_path.iterdir()) == []


def test_site_that_is_away_ends_with_a_message(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    done = CliRunner().invoke(app, [
        "client", "classify", "--image", str(tmp_path / "a.png"), "--site", "http://127.0.0.1:9",
        "--state", str(tmp_path / "device"), "--timeout", "0.2",
    ])
    assert done.exit_code == 2
    assert "semcom: GET /semcom/v1/site" in done.output
