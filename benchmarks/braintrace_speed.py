"""Online learning beside braintrace (https://github.com/chaobrain/braintrace) and plain NumPy, all in one run.

    pip install braintrace    # in an environment of its own, with Onward; not a dependency
    python benchmarks/braintrace_speed.py [--cells rnn gru] [--units 64 128] [--batch 1 16] [--length 64]

The same network in each: one layer and a linear readout in float32, with the same weights, inputs and targets, whose
number is checked. What is timed is the gradient of the sequence's squared error at every step, added up online, and
carried on from one call to the next. braintrace goes step by step, by its own `etrace_grad` under `brainstate`'s jit.
Onward is timed step by step as well (`run` on windows of one step in a scan, which is what it takes to update after
every step) and with the whole sequence handed to `run`; the numbers that both give are the same.

The tanh layer is braintrace's `ValinaRNNCell`. Its `GRUCell` applies the reset gate before the product, which is
another function than Onward's, cuDNN's and PyTorch's, so the GRU is written here in braintrace's own `Linear` layers;
that is also the faster one in braintrace. Biases that are only ever added to each other count once.

Which of braintrace's algorithms is which, as its sources (0.2.6) have it:

- `D_RTRL`: "recurrence_scope" is 'diagonal', which takes the recurrent product out of the transition before
  differentiating it: e-prop, not the diagonal of the Jacobian. So it stands beside `EProp`, and the gradients agree.
- `pp_prop`: that recursion with the trace of a weight replaced by the product of two smoothed vectors. It is
  cheaper than e-prop (O(N) of memory for each sequence) and a coarser estimate. Beside `EProp`, as the nearest.
- `SnAp(1)`: the diagonal of the whole Jacobian. So it stands beside `SnAp(1)`, and the gradients agree. `SnAp(2)` is
  all of real-time recurrent learning in a dense layer, in both (only if asked for: --algorithms 'SnAp(2)').
- `UORO`: one product of two vectors for all sequences of the batch together; Onward keeps one for each sequence, which
  is less noisy and takes more memory. By default it wants windows of several steps; here also 'single-step'.

Printed are microseconds a step after compilation (the median of interleaved runs, and in brackets the least, which
on a busy machine says more of short work), the cosine with BPTT's gradient of the layer's weights (of one draw for
UORO), and, each in a process of its own, seconds of building, tracing and compiling and the compiled program's
temporary memory at T and 16 T. --skip speed or --skip compile leaves one of them out.
"""

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from common import report, timings
from numpy_online import UORO, Diagonal, gradient

import onward as ow

try:
    import brainstate
    import braintrace
except ImportError as error:
    raise SystemExit(
        f"{error}: this benchmark times braintrace beside Onward; `pip install braintrace` (0.2.6 was used, with jax "
        "0.10.2) into an environment of its own, with `pip install -e .` there for Onward, and run it again"
    ) from error

INPUTS, OUTPUTS = 32, 8


class Pair(NamedTuple):
    """An algorithm of braintrace and one of Onward; `steps`: how many braintrace is handed at a time."""

    theirs: type
    options: dict
    ours: ow.Algorithm
    plain: Callable | None  # weights and batch to a NumPy recursion
    steps: int = 1


PAIRS = {
    "D_RTRL": Pair(braintrace.D_RTRL, {}, ow.EProp(), lambda w, b: Diagonal(w, b, mixing=False)),
    "pp_prop(0.9)": Pair(braintrace.pp_prop, {"decay_or_rank": 0.9}, ow.EProp(), None),
    "SnAp(1)": Pair(braintrace.SnAp, {"n": 1}, ow.SnAp(1), lambda w, b: Diagonal(w, b, mixing=True)),
    "SnAp(2)": Pair(braintrace.SnAp, {"n": 2}, ow.SnAp(2), None),
    "UORO": Pair(
        braintrace.UORO, {"vjp_method": "single-step"}, ow.UORO(), lambda w, b: UORO(w, b, np.random.default_rng(0))
    ),
    "UORO, 8 steps": Pair(braintrace.UORO, {}, ow.UORO(chunk=8), None, 8),
}


class Work(NamedTuple):
    """A jitted function, its arguments for a length, and how to find the layer's gradient in what it returns."""

    run: Callable
    arguments: Callable
    gradient: Callable


class GRU(brainstate.nn.RNNCell):
    """Onward's GRU in braintrace's layers."""

    def __init__(self, inputs, units):
        super().__init__()
        self.units = units
        linear = braintrace.nn.Linear
        self.reset, self.keep = linear(inputs + units, units), linear(inputs + units, units)
        self.driven, self.own = linear(inputs, units), linear(units, units)

    def init_state(self, batch_size=None, **_):
        self.h = brainstate.HiddenState(jnp.zeros((batch_size, self.units)))

    def update(self, x):
        h = self.h.value
        both = jnp.concatenate([x, h], axis=-1)
        r, z = jax.nn.sigmoid(self.reset(both)), jax.nn.sigmoid(self.keep(both))
        n = jnp.tanh(self.driven(x) + r * self.own(h))
        self.h.value = (1 - z) * n + z * h
        return self.h.value


class Net(brainstate.nn.Module):
    def __init__(self, cell, readout):
        super().__init__()
        self.cell, self.readout = cell, readout

    def update(self, x):
        return self.readout(self.cell(x))


def network(cell, units):
    keys = jax.random.split(jax.random.key(0))
    kind = {"rnn": ow.cells.RNN, "gru": ow.cells.GRU}[cell]
    return ow.stack(kind(INPUTS, units, key=keys[0]), readout=eqx.nn.Linear(units, OUTPUTS, key=keys[1]))


def matrices(net, cell, joined):
    """The layer's weights, or their gradient, one array per product: [units, sources], biases last.

    `joined`: how to make one of two biases that are only ever added: their sum, or for a gradient either.
    """
    layer = next(node for node in net.nodes.values() if isinstance(node, (ow.cells.RNN, ow.cells.GRU)))
    ih, hh, b_ih, b_hh = (np.asarray(a) for a in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh))
    if cell == "rnn":
        return [np.concatenate([ih, hh, joined(b_ih, b_hh)[:, None]], axis=1)]
    gates = [np.concatenate([ih[:, g], hh[:, g], joined(b_ih, b_hh)[:, g, None]], axis=1) for g in (0, 1)]
    return [*gates, np.concatenate([ih[:, 2], b_ih[:, 2:]], 1), np.concatenate([hh[:, 2], b_hh[:, 2:]], 1)]


def readout(net):
    linear = next(node for node in net.nodes.values() if isinstance(node, eqx.nn.Linear))
    return np.concatenate([linear.weight, linear.bias[:, None]], axis=1)


def data(batch, length):
    """Inputs and targets [time, batch, ...]."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, batch, size)).astype(np.float32) for size in (INPUTS, OUTPUTS)]


def ours(algorithm, cell, units, batch, stepwise=False):
    net = network(cell, units)
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    carry = algorithm.init(net, key=jax.random.key(1), batch=batch)

    def window(parameters, carry, window):
        net = eqx.combine(parameters, static)
        carry, estimate = algorithm.run(net, ow.losses.squared_error, carry, window)
        return carry, estimate.gradient, estimate.loss

    def each(parameters, carry, whole):
        def step(state, sample):
            carry, more, loss = window(parameters, state[0], jax.tree.map(lambda leaf: leaf[:, None], sample))
            return (carry, jax.tree.map(jnp.add, state[1], more)), loss

        start = carry, jax.tree.map(jnp.zeros_like, parameters)
        (carry, total), losses = jax.lax.scan(step, start, whole)
        return carry, total, losses

    def arguments(length):
        sample = ow.Sample(*data(batch, length), np.ones((length, batch), np.float32))
        order = jnp.asarray if stepwise else lambda leaf: jnp.asarray(leaf.swapaxes(0, 1))
        return parameters, carry, jax.tree.map(order, sample)

    find = lambda result: matrices(result[1], cell, lambda a, b: a)  # noqa: E731
    return Work(jax.jit(each if stepwise else window), arguments, find)


def theirs(pair, cell, units, batch):
    net, linear = network(cell, units), braintrace.nn.Linear
    layer = GRU(INPUTS, units) if cell == "gru" else braintrace.nn.ValinaRNNCell(INPUTS, units, activation="tanh")
    layers = [layer.reset, layer.keep, layer.driven, layer.own] if cell == "gru" else [layer.W]
    model, values = Net(layer, linear(units, OUTPUTS)), matrices(net, cell, np.add)
    for module, value in zip([*layers, model.readout], [*values, readout(net)], strict=True):
        fresh = {"weight": jnp.asarray(value[:, :-1].T), "bias": jnp.asarray(value[:, -1])}
        if jax.tree.map(jnp.shape, fresh) != jax.tree.map(jnp.shape, module.weight.value):
            raise SystemExit(f"the weights of both {cell} networks differ in shape")
        module.weight.value = fresh
    chunked = pair.steps > 1
    wrap = braintrace.MultiStepData if chunked else lambda x: x
    example = data(batch, pair.steps)[0]
    learner = braintrace.compile(
        model, pair.theirs, wrap(jnp.asarray(example if chunked else example[0])), batch_size=batch, **pair.options
    )

    def step(x, y):
        return jnp.mean(jnp.sum((learner(wrap(x)) - y) ** 2, axis=-1), axis=-1)

    @brainstate.transform.jit
    def run(inputs, targets):
        return learner.etrace_grad(
            inputs, targets, step_fn=step, reduction="sum", return_value=True, chunk_size=pair.steps
        )

    paths = [("cell", name, "weight") for name in (("reset", "keep", "driven", "own") if cell == "gru" else ("W",))]
    find = lambda result: [  # noqa: E731
        np.concatenate([result[0][path]["weight"].T, result[0][path]["bias"][:, None]], axis=1) for path in paths
    ]
    return Work(run, lambda length: [jnp.asarray(a) for a in data(batch, length)], find)


def cosine(a, b):
    a, b = (np.concatenate([np.ravel(array) for array in arrays]).astype(np.float64) for arrays in (a, b))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def speed(names, cell, units, batch, length, runs):
    """One table: every pair in turn, timed side by side."""
    net = network(cell, units)
    weights, out, (inputs, targets) = matrices(net, cell, np.add), readout(net), data(batch, length)
    bptt = ours(ow.BPTT(), cell, units, batch)
    exact = bptt.gradient(bptt.run(*bptt.arguments(length)))
    rows = {}
    for name in names:
        pair = PAIRS[name]
        works = {
            "braintrace": theirs(pair, cell, units, batch),
            **({} if pair.steps > 1 else {"step by step": ours(pair.ours, cell, units, batch, stepwise=True)}),
            "whole sequence": ours(pair.ours, cell, units, batch),
        }
        calls = {key: functools.partial(work.run, *work.arguments(length)) for key, work in works.items()}
        close = {key: cosine(works[key].gradient(call()), exact) for key, call in calls.items()}
        if plain := pair.plain:
            calls["NumPy"] = lambda plain=plain: gradient(cell, weights, out, inputs, targets, plain(weights, batch))
            close["NumPy"] = cosine(calls["NumPy"]()[0], exact)
        times = timings(calls, runs)
        middle, least = ({key: f(values) for key, values in times.items()} for f in (statistics.median, min))
        rows[name] = f"beside {pair.ours!r}"
        for key in times:
            each, quickest = (values[key] / length * 1e6 for values in (middle, least))
            row = f"{each:9.1f} ({quickest:9.1f}) us a step  cosine {close[key]:6.3f}"
            if key != "braintrace":
                more, most = (values["braintrace"] / values[key] for values in (middle, least))
                row += f"  braintrace takes {more:7.2f} ({most:7.2f}) times as long"
            rows[f"  {name}, {key}"] = row
    count = sum(weight.size for weight in weights) + out.size
    report(f"{cell}, {units} units, {count:,} weights, batch {batch}, {length} steps; median of {runs}", rows)


def build(name, whose, cell, units, batch):
    pair = PAIRS[name]
    if whose == "braintrace":
        return theirs(pair, cell, units, batch)
    return ours(pair.ours, cell, units, batch, stepwise=whose == "step by step")


def compilation(name, whose, cell, units, batch, length):
    """Print seconds of building and compiling, and the temporary memory at two lengths, of this process's one work."""
    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.zeros(())))
    network(cell, units)
    start = time.perf_counter()
    work = build(name, whose, cell, units, batch)
    short = work.run.lower(*work.arguments(length)).compile()
    seconds = time.perf_counter() - start
    long = work.run.lower(*work.arguments(16 * length)).compile()
    print(seconds, *(program.memory_analysis().temp_size_in_bytes / 1e6 for program in (short, long)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=("rnn", "gru"), default=["rnn", "gru"])
    parser.add_argument("--units", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--length", type=int, default=64, help="steps of the sequence, a multiple of 8")
    parser.add_argument("--runs", type=int, default=5)
    default = [name for name in PAIRS if name != "SnAp(2)"]
    parser.add_argument("--algorithms", nargs="+", choices=PAIRS, default=default)
    parser.add_argument("--skip", choices=("speed", "compile"))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "WHOSE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.algorithms
    if options.one:
        compilation(*options.one, options.cells[0], options.units[0], options.batch[0], options.length)
        return
    for cell, units, batch in itertools.product(options.cells, options.units, options.batch):
        if options.skip != "speed":
            speed(names, cell, units, batch, options.length, options.runs)
            print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for cell in options.cells if options.skip != "compile" else ():
        units, batch, rows = options.units[0], options.batch[-1], {}
        for name in names:
            for whose in ("braintrace", *(["step by step"] if PAIRS[name].steps == 1 else []), "whole sequence"):
                size = ["--cells", cell, "--units", str(units), "--batch", str(batch), "--length", str(options.length)]
                command = [sys.executable, __file__, *size, "--one", name, whose]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, *sizes = map(float, done.stdout.split()[-3:])
                rows[f"{name}, {whose}"] = f"{seconds:6.2f} s   {sizes[0]:8.3f} MB  {sizes[1]:8.3f} MB"
        title = f"building and compiling; temporary memory at T = {options.length}, {16 * options.length}"
        report(f"{title}: {cell}, {units} units, batch {batch}", rows)


if __name__ == "__main__":
    main()
