"""Presets of `onward compare`: values that replace defaults, and give way to a TOML file and to options."""

from typing import Any

SAMPLES = 1_000_000  # what the forward-propagation-of-errors post trains on

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {"steps": 800},
    "quick": {
        "steps": 20,
        "batch_size": 32,
        "validate_every": 10,
        "align_every": 10,
        "network": {"layers": 1, "units": 8, "width": 8},
    },
    "full": {"steps": SAMPLES // 64},
}
