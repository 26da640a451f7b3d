"""What forecasts a stream of records: its settings, and its network."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from onward.algorithms import Algorithm
from onward.cli.errors import UsageError
from onward.cli.registry import CELLS, make_algorithm
from onward.cli.specs import choose, options_of, parse, sentence
from onward.network import INPUT, Network
from onward.tasks.base import at_least


@dataclass(frozen=True)
class StreamSettings:
    """What to forecast from which fields of a stream's records, and with which network.

    **Arguments.** `target`: the field that is forecast. `features`: the fields that the network reads beside it; () is
    all that are numbers in the first record. `horizon`: steps (records) ahead. `season`: in steps, for the seasonal
    naive forecast, which the network then reads too. `time`: a field with a time stamp, from which sine and cosine of
    the hour of day and of the day of week are made. `cell`, `algorithm`: as on the command line, e.g. "gru" and
    "snap:1". `units`: of the recurrent layer and of the perceptron that reads it. `window`: samples from one update to
    the next. `learning_rate`: Adam's. `seed`: of the initial weights.
    **Raises.** `ValueError`, one sentence, for the first that makes no sense.
    """

    target: str
    features: tuple[str, ...] = ()
    horizon: int = 1
    season: int | None = None
    time: str | None = None
    cell: str = "rtu"
    units: int = 32
    algorithm: str = "rtrl"
    window: int = 1
    learning_rate: float = 3e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.features, str):
            raise ValueError(f"`features` must be several names, got the text {self.features!r}; give a tuple")
        object.__setattr__(self, "features", tuple(self.features))
        names = (self.target, *self.features, *(() if self.time is None else (self.time,)))
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"`target`, `features` and `time` must be names of fields, got {name!r}; give a text")
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"`features` must be different fields, got {', '.join(self.features)}; name each once")
        if self.time in (self.target, *self.features):
            raise ValueError(f"`time` is {self.time!r}, which is the target or a feature too; leave it out there")
        remedy = "give a number of steps"
        for name in ("horizon", "window") if self.season is None else ("horizon", "window", "season"):
            at_least(1, remedy, **{name: getattr(self, name)})
        at_least(1, "give a number of units", units=self.units)
        at_least(0, "give an integer of 0 or more", seed=self.seed)
        for name in ("horizon", "window", "season", "units"):
            if (getattr(self, name) or 0) > 1_000_000:
                raise ValueError(f"`{name}` must be at most 1,000,000, got {getattr(self, name)}; choose fewer")
        if self.seed >= 2**32:
            raise ValueError(f"`seed` must be below 2^32, got {self.seed}; choose a smaller one")
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            raise ValueError(f"`learning_rate` must be a number above 0, got {rate!r}; try 0.0003")
        make_network(self.cell, 1, 1, 0, shapes_only=True)
        algorithm_of(self.algorithm)


def make_network(
    cell: str, inputs: int, units: int, seed: int, *, start: float = 0.0, shapes_only: bool = False
) -> Network:
    """A recurrent layer, a perceptron, and a linear map, the last two of which read the layer and the input.

        s_t = cell(s_{t-1}, x_t),   y_t = mlp([s_t; x_t]) + skip [s_t; x_t]        (1)

    At first `skip` is `start` for the first input and 0 for all others, and the perceptron gives 0. With 1, where the
    first input is the target in the same units, the network starts as the naive forecast.

    **Arguments.** `cell`: as on the command line, e.g. "rtu" or "leaky-rnn:leak=0.8". `units`: of the layer and of the
    perceptron's only hidden layer. `shapes_only`: no weights, just to see whether it can be built.
    **Raises.** `ValueError` if there is no such cell, or it does not take the options.
    """
    try:
        spec = parse(cell, "cell")
        kind = choose(spec, CELLS, "cell")
        options = options_of(kind, spec, "cell")
    except UsageError as error:
        raise ValueError(str(error)) from None

    def build(key):
        first, second, third = jax.random.split(key, 3)
        layer = kind(inputs, units, key=first, **options)
        width = layer.output_size + inputs
        mlp, skip = eqx.nn.MLP(width, 1, units, 1, key=second), eqx.nn.Linear(width, 1, key=third)
        mlp = eqx.tree_at(lambda m: (m.layers[-1].weight, m.layers[-1].bias), mlp, replace_fn=jnp.zeros_like)
        skip = eqx.tree_at(lambda m: (m.weight, m.bias), skip, replace_fn=jnp.zeros_like)
        skip = eqx.tree_at(lambda m: m.weight, skip, skip.weight.at[0, 0].set(start))
        reads = (INPUT, "cell")
        nodes = {"cell": layer, "mlp": mlp, "skip": skip, "sum": _sum}
        return Network(nodes, {"cell": (INPUT,), "mlp": reads, "skip": reads, "sum": ("mlp", "skip")}, "sum")

    try:
        key = jax.random.key(seed)
        return eqx.filter_eval_shape(build, key) if shapes_only else eqx.filter_jit(build)(key)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cell {cell!r} cannot be built: {sentence(error)}") from error


def algorithm_of(text: str) -> Algorithm:
    """The algorithm that `text` names on the command line. **Raises.** `ValueError` if there is none of that name."""
    try:
        choice = make_algorithm(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if choice.window is not None:
        raise ValueError(f"`algorithm` {text!r} has a window after @; give it as `window` instead")
    return choice.algorithm


def _sum(values: Float[Array, " terms"]) -> Float[Array, " 1"]:
    return jnp.sum(values, keepdims=True)
