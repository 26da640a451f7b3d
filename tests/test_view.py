"""Moments of a stream that others may look at while it learns on."""

import math

import numpy as np
import pytest

from onward.baselines import SeasonalNaive
from onward.records import RecordError, RecordStream, StreamSettings


@pytest.mark.parametrize(("season", "horizon"), [(1, 1), (1, 3), (4, 1), (4, 3), (4, 4), (4, 9), (3, 6)])
def test_ahead_knows_what_the_seasonal_naive_forecast_will_be(season, horizon):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(40) < 0.3, np.nan, rng.normal(size=40))
    values[:3] = np.nan
    model, kept = SeasonalNaive(season), []
    for value in values:
        ahead = model.ahead(horizon)
        kept.append((ahead, ahead.after(value)))
        model.update(value)
        np.testing.assert_equal(kept[-1][1], model.forecast(horizon))
    for (ahead, forecast), value in zip(kept, values, strict=True):  # whatever came after
        np.testing.assert_equal(ahead.after(value), forecast)


@pytest.mark.parametrize("season", [None, 3])
def test_a_view_forecasts_what_the_stream_would_and_never_changes(season):
    settings = StreamSettings("y", ("x",), horizon=2, season=season, time="t", units=3)
    rng = np.random.default_rng(1)
    numbers = np.where(rng.random((30, 2)) < 0.2, np.nan, rng.normal(size=(30, 2)))
    records = [{"y": y, "x": x, "t": 3600.0 * step} for step, (y, x) in enumerate(numbers.tolist())]
    stream, views, forecasts = RecordStream(settings, records[0]), [], []
    for record in records:
        views.append(stream.view())
        made = views[-1].predict(record)
        forecasts.append(stream.update(record).forecast)
        assert made == forecasts[-1]
    assert [view.samples for view in views] == list(range(30))
    assert [view.latest for view in views] == [None, *forecasts[:-1]]
    assert [view.predict(record) for view, record in zip(views, records, strict=True)] == forecasts
    assert math.isfinite(forecasts[-1])
    assert len(set(forecasts[5:])) > 20
    with pytest.raises(RecordError, match="'y' is not there"):
        views[-1].predict({"x": 1.0})
