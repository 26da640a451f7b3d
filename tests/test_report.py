"""The report of a comparison: what it says, and that it needs no network."""

import dataclasses
import json
import re

import numpy as np
import pytest

from onward import figures, report
from onward.report import Comparison, Result

LEARNT = Result(
    label="BPTT",
    slug="bptt",
    text="bptt",
    status="finished",
    exact=True,
    exact_share=1.0,
    test={"loss": 0.5, "accuracy": 0.9},
    seconds_per_epoch=12.3,
    memory=5_000_000,
    cosine_mean=1.0,
    cosine_last=1.0,
    norm_ratio=1.0,
)
BIASED = dataclasses.replace(
    LEARNT, label="SpatialBP", slug="spatialbp", exact=False, exact_share=0.25, test={"loss": 1.0, "accuracy": 0.7}
)
REASON = "a step needs 12.0 GB, and 80% of the 4.0 GB available may be used"
DECLINED = Result(label="RTRL <x>", slug="rtrl", text="rtrl", status="declined", reason=REASON)


def comparison(*results, **changes):
    task = {"name": "mnist98", "primary": "accuracy", "higher_is_better": True}
    task |= {"loss": "loss, nats", "epochs": True, "text": "98 steps"}
    fields = {
        "title": "Credit assignment on mnist98",
        "task": task,
        "network": {"text": "4 blocks"},
        "machine": {"text": "2 cores", "peak_rss": 2_000_000_000},
        "versions": {"onward": "0"},
        "created": "2026-01-01 10:00",
        "batch_size": 64,
        "steps": 100,
        "epoch_steps": 50,
        "epoch_text": "epoch of 50 batches",
    }
    return Comparison(**fields | changes, results=results or (LEARNT, BIASED, DECLINED))


def events(slug, level):
    for step in range(1, 101):
        yield {"algorithm": slug, "event": "train", "step": step, "loss": 2.0 / step**0.5 + level}
    for step in range(20, 101, 20):
        yield {"algorithm": slug, "event": "validation", "step": step, "accuracy": 1 - level - 0.5 / step, "loss": 1.0}
        yield {"algorithm": slug, "event": "alignment", "step": step, "cosine": 1 - level, "norm_ratio": 1 - level / 2}


@pytest.fixture
def folder(tmp_path):
    comparison().save(tmp_path)
    lines = [*events("bptt", 0.0), *events("spatialbp", 0.3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"algorithm": "bptt", "eve')
    (tmp_path / "config.toml").write_text('task = "mnist98" # <&>\n')
    return tmp_path


def test_what_is_saved_is_loaded(tmp_path):
    comparison().save(tmp_path)
    assert report.load(tmp_path) == comparison()


def test_page_opens_without_a_network(folder):
    page = report.write(folder).read_text()
    for address in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page):
        assert address.startswith(("#", "data:")), address
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert page.count("<svg") == page.count("</svg>") == 3


def test_page_says_what_was_found(folder):
    page = report.write(folder).read_text()
    for text in (
        "BPTT",
        "90.00\u00a0%",
        "70.00\u00a0%",
        "5 MB",
        "exact",
        "biased (exact for 25\u00a0%)",
        REASON,
        "12.3",
    ):
        assert text in page, text
    assert "RTRL &lt;x&gt;" in page
    assert "RTRL <x>" not in page
    assert "# &lt;&amp;&gt;" in page  # the configuration


def test_figures_are_png_files(folder):
    report.write(folder)
    for name in ("learning", "alignment", "cost"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("lines", ["", '{"algorithm": "bptt", "event": "train", "step": 1, "loss": null}\n'])
def test_a_run_without_measurements_still_has_a_report(tmp_path, lines):
    bare = Result(label="BPTT", slug="bptt", text="bptt", status="failed", reason="training diverged.")
    comparison(bare, DECLINED).save(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(lines)
    page = report.write(tmp_path).read_text()
    assert "not measured" in page
    assert "training diverged." in page
    assert "No algorithm has been trained to the end." in page


def test_summary_ranks_by_the_primary_metric():
    assert report.summary(comparison()) == (
        "BPTT reaches a test accuracy of 90.00\u00a0% after 6,400 training sequences; SpatialBP 70.00\u00a0%."
    )
    lower = comparison().task | {"primary": "mean_squared_error", "higher_is_better": False}
    worse, better = (
        dataclasses.replace(LEARNT, label=label, test={"mean_squared_error": value})
        for label, value in (("worse", 0.2), ("better", 0.1))
    )
    assert report.summary(comparison(worse, better, task=lower)).startswith("better reaches a test mean squared error")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0.0000"), (1.5, "1.5000"), (1e-7, "1e-07"), (1234.5, "1,234.5000")],
)
def test_number(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (12, "12 B"), (70_700, "70.7 kB"), (5_000_000, "5 MB"), (12.34e9, "12.3 GB"), (1.2e13, "12,000 GB")],
)
def test_size(value, text):
    assert report.size(value) == text


def test_labels_keep_their_distance_and_order():
    heights = [0.5, 0.51, 0.5, 0.98, 1.0, 0.0]
    placed = figures.spread(heights, 0.1)
    ordered = np.sort(placed)
    assert np.diff(ordered).min() > 0.099
    assert ordered[0] > -0.001
    assert ordered[-1] < 1.001
    assert all((placed[i] < placed[j]) for i in range(6) for j in range(6) if heights[i] < heights[j])


def test_running_mean():
    np.testing.assert_allclose(figures.running_mean(np.array([0.0, 3.0, 6.0, 9.0]), 3), [1.5, 3, 6, 7.5])
    np.testing.assert_allclose(figures.running_mean(np.array([4.0]), 5), [4.0])
    assert figures.running_mean(np.zeros(0), 3).size == 0
