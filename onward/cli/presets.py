"""Presets of the commands: values that replace defaults, and give way to a TOML file and to options.

`samples` says how many sequences `onward compare` trains on where neither --steps nor --epochs does; 1,000,000 are
those of the forward-propagation-of-errors post.
"""

from typing import Any

TANH = {"kind": "stack", "cell": "rnn", "layers": 1, "units": 32}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "compare": {
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
        "immediate": {
            "algorithms": ["spatialbp@1", "snap1@1", "rtrl@1", "bptt"],
            "task": "delayed-xor",
            "samples": 2000 * 16,
            "batch_size": 16,
            "network": TANH,
            "optimizer": {"name": "rmsprop", "learning_rate": 1e-3, "weight_decay": 0.0, "recurrent_factor": 1.0},
        },
    },
    "gradients": {
        "demo": {},
        "quick": {
            "algorithms": ["spatialbp", "snap1", "uoro", "rtrl"],
            "task": "copy:length=2,symbols=2,delay=2",
            "batch_size": 2,
            "keys": 4,
            "network": {"kind": "stack", "layers": 1, "units": 3},
        },
        "immediate": {
            "algorithms": ["spatialbp", "snap1", "rtrl", "bptt"],
            "task": "delayed-xor",
            "window": 1,
            "network": TANH,
        },
    },
}
