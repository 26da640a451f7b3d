"""Presets of `onward compare`: values that replace defaults, and give way to a TOML file and to options.

`samples` says how many sequences to train on where neither --steps nor --epochs does; 1,000,000 are those of the
forward-propagation-of-errors post.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {"samples": 600 * 64, "validate_every": 60, "align_every": 30},
    "quick": {
        "algorithms": ["bptt", "snap1@14"],
        "samples": 20 * 64,
        "batch_size": 64,
        "validate_every": 20,
        "align_every": 10,
        "network": {"layers": 1, "units": 8, "width": 8},
    },
    "full": {"samples": 1_000_000},
}
