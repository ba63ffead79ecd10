"""The report of a made-up run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_run import fake_run

from xapp.lab.demo import charts
from xapp.lab.demo.pictures import pairs_by_phase, pairs_by_snr
from xapp.lab.demo.report import build_report, headline, story
from xapp.lab.demo.summary import RunData, summarise


class Elements(HTMLParser):
    """Every start tag with its attributes, and tags left open."""

    VOID = {"meta", "img", "br", "path", "use", "rect", "circle", "line"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    data = fake_run(tmp_path_factory.mktemp("run") / "samples")
    return build_report(data, summarise(data))


def test_the_report_needs_nothing_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")
    for tag, attributes in Elements(page).tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;base64,", "#"))


def test_the_markup_is_balanced(page):
    assert Elements(page).open == []


def test_pictures_come_in_pairs_with_alternative_texts(page):
    images = [attributes for tag, attributes in Elements(page).tags if tag == "img"]
    assert len(images) == 2 * (6 + 3 * 2)
    assert all(len(image["alt"]) > 20 for image in images)


def test_every_chart_has_a_label_and_follows_the_colours_of_the_page(page):
    drawn = [attributes for tag, attributes in Elements(page).tags if tag == "svg"]
    assert len(drawn) == 4
    assert all(attributes.get("aria-label") for attributes in drawn)
    assert "#010203" not in page
    assert "var(--drone)" in page


def test_a_run_without_anything_still_gives_a_page():
    data = RunData(duration_s=60, users=4, seed=1, interrupted=True)
    text = build_report(data, summarise(data))
    assert Elements(text).open == []
    assert "interrupted" in text


def test_text_of_events_is_escaped():
    data = fake_run()
    summary = summarise(data)
    summary["events"] = [{"time_s": 1.0, "kind": "x", "text": "<script>alert(1)</script>"}]
    assert "<script>" not in build_report(data, summary)


def test_the_headline_does_not_claim_a_gain_that_was_not_there():
    summary = summarise(fake_run())
    better = {**summary, "quality_misses": {"adaptive": 0.1, "static_same_bandwidth": 0.3}}
    worse = {**summary, "quality_misses": {"adaptive": 0.3, "static_same_bandwidth": 0.1}}
    assert headline(better) == "Adapting cut missed pictures from 30% to 10% at the same bandwidth"
    assert "did not help" in headline(worse)


def test_the_story_tells_the_update_or_that_there_was_none():
    data = fake_run()
    assert "against the old one on the same" in story(data, summarise(data))
    data.events = ()
    assert "No codec update was completed" in story(data, summarise(data))


def test_pictures_are_spread_over_the_snr(tmp_path):
    data = fake_run(tmp_path)
    snrs = [float(pair.caption.split(" dB SNR")[0]) for pair in pairs_by_snr(data, 5)]
    assert len(snrs) == 5
    assert snrs == sorted(snrs)
    assert list(pairs_by_phase(data)) == ["before", "drifted", "updated"]


def test_pictures_that_are_gone_are_left_out(tmp_path):
    data = fake_run(tmp_path)
    for file in tmp_path.glob("*_restored.png"):
        file.unlink()
    assert pairs_by_snr(data) == []
    assert pairs_by_phase(data) == {}


def test_binned_means_leave_out_empty_bins():
    times, means = charts.binned_means(np.array([0.1, 0.9, 4.5]), np.array([1.0, 3.0, 7.0]), 1.0)
    assert times.tolist() == [0.5, 4.5]
    assert means.tolist() == [2.0, 7.0]


@pytest.mark.parametrize("counts", [[0, 3, 1], [0, 3, 1, 0], [0, 0, 3, 1, 2]])
def test_the_loop_histogram_takes_buckets_with_and_without_overflow(counts):
    data = fake_run()
    data.xapp.update(
        {
            "instance": "z",
            "latency_ms": {"loop": {"p50": 1.5, "p99": 3.0, "count": 10_000}},
            "latency_histogram": {"loop": {"edges_ms": [0.5, 1.0, 2.0, 4.0], "counts": counts}},
        }
    )
    svg = charts.loop_histogram(data)
    assert svg.startswith("<svg")
    assert re.search(r"p99\s+3\.0 ms", svg)
