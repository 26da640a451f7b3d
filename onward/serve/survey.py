"""What a stream's model looks like at a moment, small enough to be sent and drawn."""

from typing import Any, NamedTuple

import jax
import numpy as np

from onward.records import RecordStream

UNITS = 64  # most that are shown


class Frame(NamedTuple):
    """After so many `samples`: the time stamp of the last, the stream's figures, the states of at most 64 units."""

    samples: int
    time: Any
    figures: dict[str, Any]
    activity: list[float]


def frame_of(stream: RecordStream, time: Any) -> Frame:
    """The frame of now; of more units some are chosen evenly; complex states show their real part."""
    known = stream.learner.unpack(stream.state)
    states = known.carry.states if known.live is None else known.live
    parts = [np.real(np.asarray(leaf)).ravel() for leaf in jax.tree.leaves(states)]
    units = np.concatenate(parts).astype(float) if parts else np.zeros(0)
    if len(units) > UNITS:
        units = units[np.linspace(0, len(units) - 1, UNITS).round().astype(int)]
    return Frame(stream.samples, time, stream.figures(), [float(f"{unit:.3g}") for unit in units])
