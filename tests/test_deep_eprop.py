"""The study of deep e-prop at a small size."""

import csv

import numpy as np

from onward.cli import main
from onward.reproduce.deep_eprop import DeepEProp
from onward.reproduce.deep_eprop_measures import CELLS, Settings

SMALL = Settings(
    tasks=("copy",),
    cells=("leaky",),
    depths=(2,),
    depth=2,
    costed=("leaky",),
    length=8,
    lengths=(),
    fed=("leaky",),
    followed=("leaky",),
    online=("traces",),
    rates=(1e-4, 1e-3),
    units=4,
    batch_size=4,
    repetitions=1,
    steps=2,
    judged=1,
    evaluated=8,
    runs=1,
)


def test_the_study_sees_exactness_depth_feedback_and_stale_traces(tmp_path, monkeypatch):
    monkeypatch.setattr(DeepEProp, "quick", SMALL)
    assert main(["reproduce", "deep-eprop", "--quick", "--out", str(tmp_path)]) == 0
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(r["part"], r["algorithm"], r["depth"]): r for r in rows if r["part"] != "online"}
    cosine = {key: float(row["cosine"]) for key, row in found.items()}
    for name in ("BPTT", "RTRL"):
        assert cosine["gradient", name, "2"] > 0.999999
    assert cosine["gradient", "spatial", "2"] < cosine["gradient", "traces", "2"] < 0.999
    layers = [[float(c) for c in found["gradient", n, "2"]["layers"].split()] for n in ("traces", "spatial")]
    assert layers[0][1] == layers[1][1]
    assert layers[0][0] != layers[1][0]
    assert float(found["gradient", "BPTT", "2"]["activity"]) > 1e-3
    assert len({round(cosine["learning", n, "2"], 4) for n in ("spatial", "traces", "adaptive", "immediate")}) == 4
    slow, fast = (row for row in rows if row["part"] == "online")
    assert 5 < float(fast["distance"]) / float(slow["distance"]) < 20  # of first order in the rate
    assert float(slow["bias"]) > 0.01
    text = (tmp_path / "findings.md").read_text()
    assert "closer to BPTT's than that of the spatial shortcut at 1 of 1 points" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"{n}.png" for n in ("gradients", "learning", "cost", "online")
    }


def test_in_full_it_covers_what_it_is_for():
    points = DeepEProp().points(DeepEProp.full, 0)
    gradients = [p for p in points if p["part"] == "gradient"]
    learnt = [p for p in points if p["part"] == "learning"]
    shapes = {("copy", d, 20) for d in range(1, 6)} | {("copy", 3, 40), ("copy", 3, 80), ("delayed-xor", 3, 20)}
    for some in (gradients, learnt):
        where = {(p["cell"], p["task"], p["depth"], p["T"]) for p in some}
        assert where == {(cell, *shape) for cell in CELLS for shape in (*shapes, ("mnist98", 3, 98))}
    assert {(p["task"], p["rate"]) for p in learnt} >= {("copy", 1e-2), ("mnist98", 1e-2), ("mnist98", 1e-3)}
    assert {p["seed"] for p in learnt if p["cell"] in ("LRU", "ALIF") and p["task"] == "copy"} == {0, 1, 2}
    assert not [p for p in points if (p["algorithm"], p["depth"]) == ("traces", 1)]  # it is the spatial form there
    assert {p["algorithm"] for p in learnt} == {"BPTT", "RTRL", "traces", "spatial", "adaptive", "immediate"}
    assert np.all(np.diff(DeepEProp.full.rates) > 0)
