"""What /metrics says about a server."""

from onward.serve.engine import Engine
from onward.serve.exposition import Counter, family, histogram, labelled, single

MODELS = {"onward": "mae", "naive": "naive_mae", "seasonal-naive": "seasonal_mae"}
COUNTS = {
    "refused": ("onward_refused_updates_total", "Updates that were not finite and were not made."),
    "missing": ("onward_missing_values_total", "Values that were missing in records."),
    "failed": ("onward_failed_forecasts_total", "Forecasts that were not finite."),
}


def text(engine: Engine, requests: Counter) -> str:
    """All metrics, in Prometheus' text format."""
    figures, saved = engine.figures(), engine.saved
    errors = {model: figures[name] for model, name in MODELS.items() if figures.get(name) is not None}
    parts = [
        single("onward_samples_total", "counter", "Records that were learnt from.", engine.samples),
        *(single(name, "counter", about, figures.get(key, 0)) for key, (name, about) in COUNTS.items()),
        labelled(
            "onward_rolling_mae",
            "gauge",
            "Mean absolute error over the last 1000 forecasts that have come due.",
            "model",
            errors,
        ),
    ]
    for key, about in (("norm", "Norm of all parameters."), ("drift", "Late error over earlier error; 1: no drift.")):
        if figures.get(key) is not None:
            parts.append(single(f"onward_{key}", "gauge", about, figures[key]))
    parts += [
        histogram("onward_learn_seconds", "Seconds of learning, per record.", engine.seconds),
        single("onward_learn_waiting", "gauge", "Requests that wait for learning.", engine.waiting),
        family(
            "onward_http_requests_total",
            "counter",
            "Answers by endpoint and status.",
            ((labels, count) for labels, count in sorted(requests.read().items())),
        ),
    ]
    if engine.checkpoint is not None:
        failures = "Checkpoints that could not be written."
        parts.append(single("onward_checkpoint_failures_total", "counter", failures, saved.failures))
        parts.append(
            single("onward_checkpoint_samples", "gauge", "Samples in the last checkpoint.", saved.samples or 0)
        )
        if saved.time is not None:
            about = "When the last checkpoint was written."
            parts.append(single("onward_checkpoint_timestamp_seconds", "gauge", about, saved.time))
    return "".join(parts)
