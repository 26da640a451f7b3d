"""What Onward claims of each algorithm: where its gradient is BPTT's, where it is not, and what it costs.

One row per algorithm; the laws in `tests/laws/` run on every row. A new algorithm needs one row here.
"""

import collections
import functools
from dataclasses import dataclass, field
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import onward as ow

CELLS = ("RNN", "GRU", "LSTM", "LRU", "IndRNN", "LeakyRNN", "AntisymmetricRNN")
STACKS = tuple(f"{cell} x 2" for cell in CELLS)
DEEP = ("mixed x 4", "mixed x 5", "dag", "wide dag", "skip dag", "LRU blocks")  # 3 layers: window by window
DIAGONAL = ("LRU x 1", "IndRNN x 1", "Leapfrog x 1", "RTU x 1", "ElementwiseLSTM x 1", "LRU below maps")
SPIKING = ("LIF x 1", "ALIF x 1")  # where gradients are those of the surrogate: no finite difference agrees with them
REVERSIBLE = ("RevGRU x 1", "RevLSTM x 1", "Leapfrog x 2")
OPTIONS = {"LRU": {"r_min": 0.5, "max_phase": 1.5}, "LeakyRNN": {"leak": 0.6}, "RevLSTM": {"min_forget": 0.2}}
OPTIONS |= {"Leapfrog": {"step": 1.0}, "RTU": {"r_min": 0.5, "form": "nonlinear", "activation": "tanh"}}
OPTIONS |= {"LIF": {"dampening": 1.0}, "ALIF": {"dampening": 1.0, "tau_a": 8.0, "beta": 0.6, "refractory": 1}}


@dataclass(frozen=True)
class Claim:
    """One algorithm: networks on which its whole gradient is BPTT's, and networks on which it must differ."""

    algorithm: ow.Algorithm
    exact: tuple[str, ...]
    biased: tuple[str, ...]
    window_law: bool = True
    memory: Literal["flat", "bounded", "grows"] = "flat"  # of a window, with its length
    nodes_on: tuple[str, ...] = ("LRU x 2", "dag")  # where `exact_nodes` is held against the numbers
    laws_on: tuple[str, str] = ("GRU x 2", "RNN x 1")  # where the laws are tried that hold on any network
    id: str = field(default="")


CLAIMS = (
    Claim(ow.BPTT(), STACKS + DEEP[1:], (), window_law=False, memory="grows", id="BPTT"),
    Claim(ow.BPTT(checkpoint=3), ("GRU x 2", "dag"), (), window_law=False, memory="grows", id="BPTT-checkpoint"),
    Claim(
        ow.ReversibleBPTT(chunk=4),
        (*REVERSIBLE, "LRU x 2", "LRU blocks", "reversible dag"),
        (),
        window_law=False,
        nodes_on=("LRU x 2",),
        laws_on=("LRU x 2", "LRU x 1"),
        id="ReversibleBPTT",
    ),
    Claim(ow.NthOrder(0), (), ("RNN x 1", "LRU x 1", "dag"), id="NthOrder-0"),
    Claim(ow.NthOrder(2), (), ("RNN x 1", "LRU x 1", "dag"), id="NthOrder-2"),
    Claim(ow.NthOrder(20), ("LSTM x 2", "dag"), (), id="NthOrder-20"),
    Claim(ow.SpatialBP(), (), ("RNN x 1", "LRU x 1", "dag"), id="SpatialBP"),
    Claim(ow.RTRL(), STACKS + DEEP + DIAGONAL + REVERSIBLE + SPIKING, (), id="RTRL"),
    Claim(ow.RTRL(lazy=3), ("dag",), (), nodes_on=("dag",), laws_on=("RNN x 1", "RNN x 1"), id="RTRL-lazy"),
    Claim(ow.RTRL(decay=0.8), (), ("RNN x 1", "LRU x 1", "GRU x 2", "dag"), id="RTRL-decay"),
    Claim(
        ow.RTRL(cross_terms="directional"),
        ("RNN x 1", "GRU x 2"),
        ("LSTM x 1", "ALIF x 1", "dag"),
        nodes_on=("dag",),
        laws_on=("LSTM x 1", "LSTM x 1"),
        id="RTRL-directional",
    ),
    Claim(ow.SnAp(1), DIAGONAL, ("RNN x 1", "GRU x 1", "LSTM x 1", "LeakyRNN x 1", "LRU x 2", "dag"), id="SnAp-1"),
    Claim(
        ow.SnAp(2),
        ("RNN x 1", "GRU x 2", "dag"),
        ("sparse",),
        nodes_on=("sparse",),
        laws_on=("sparse",) * 2,
        id="SnAp-2",
    ),
    Claim(ow.SnAp(5), ("sparse", "LRU x 2"), (), nodes_on=("sparse",), laws_on=("sparse",) * 2, id="SnAp-5"),
    Claim(
        ow.EProp(),
        DIAGONAL,
        ("RNN x 1", "GRU x 1", "LSTM x 1", "LeakyRNN x 1", "LRU x 2", "dag", *SPIKING),
        id="EProp",
    ),
    Claim(
        ow.EProp(depth="traces"),
        (*DIAGONAL, "LRU x 2", "IndRNN x 2", "LRU x 5", "skip dag", "diagonal dag"),
        ("RNN x 1", "GRU x 2", "mixed x 5", "dag"),
        id="EProp-traces",
    ),
    Claim(ow.EProp(feedback="random"), (), ("LRU x 1", "RNN x 1", "dag"), id="EProp-random"),
    Claim(ow.EProp(depth="traces", feedback="random"), (), ("LRU x 2", "dag"), id="EProp-traces-random"),
    Claim(
        ow.EProp(feedback="adaptive"),
        (),
        ("LRU x 1 with feedback", "dag with feedback"),
        nodes_on=("dag with feedback",),
        laws_on=("GRU x 2 with feedback", "RNN x 1 with feedback"),
        id="EProp-adaptive",
    ),
    Claim(ow.UORO(), (), ("RNN x 1", "dag"), nodes_on=("dag",), laws_on=("RNN x 1", "RNN x 1"), id="UORO"),
    Claim(
        ow.KFRTRL(), DIAGONAL[:1], ("RNN x 1", "dag"), nodes_on=("dag",), laws_on=("RNN x 1", "RNN x 1"), id="KFRTRL"
    ),
    Claim(ow.OK(2), (), ("RNN x 1", "dag"), nodes_on=("LRU below maps",), laws_on=("RNN x 1", "RNN x 1"), id="OK-2"),
    Claim(
        ow.ForwardErrors(),
        ("LRU x 2", "IndRNN x 2", "LSTM x 2", "mixed x 4", "dag", "LRU blocks"),
        (),
        window_law=False,
        memory="bounded",
        id="ForwardErrors",
    ),
    Claim(
        ow.ForwardErrors(warmup="shoot", segments=3),
        ("LRU x 1", "LRU x 2", "GRU x 2"),
        (),
        window_law=False,
        memory="bounded",
        nodes_on=("LRU x 2",),
        id="ForwardErrors-shoot",
    ),
    Claim(
        ow.ForwardErrors(warmup="probe", passes=2, segments=2),
        ("LRU x 1", "LRU below maps"),
        ("LRU x 2", "GRU x 2"),
        window_law=False,
        memory="bounded",
        nodes_on=("LRU x 2",),
        id="ForwardErrors-probe-2",
    ),
)
BY_ID = {claim.id: claim for claim in CLAIMS}
INPUT, OUTPUT = 3, 2


class Gated(eqx.Module):
    """A gated linear unit, as a memoryless module."""

    value: eqx.nn.Linear
    gate: eqx.nn.Linear

    def __call__(self, x):
        return self.value(x) * jax.nn.sigmoid(self.gate(x))


@functools.cache
def network(name: str, seed: int = 0) -> ow.Network:
    """The test network called `name`; small, and alive: see `tests/laws/test_alive.py`."""
    if name.endswith(" with feedback"):
        return ow.with_feedback(network(name.removesuffix(" with feedback"), seed))
    keys = iter(jax.random.split(jax.random.key(seed), 40))

    def cell(kind, size, units=4, **options):
        return getattr(ow.cells, kind)(size, units, key=next(keys), **OPTIONS.get(kind, {}), **options)

    def linear(a, b):
        return eqx.nn.Linear(a, b, key=next(keys))

    if name == "sparse":  # every unit hears one other of its layer, and above all units of a half
        ring, halves = np.roll(np.eye(4), 1, axis=0), np.repeat(np.eye(2), 2, axis=0).repeat(2, axis=1)
        above = ow.cells.Sparse(cell("RNN", 4), {"weight_hh": ring, "weight_ih": halves})
        return ow.stack(ow.cells.Sparse(cell("GRU", INPUT), {"weight_hh": ring}), above, readout=linear(4, OUTPUT))
    if name == "LRU below maps":
        below = cell("LRU", INPUT)
        maps = linear(below.output_size, 5), eqx.nn.LayerNorm(5), eqx.nn.MLP(5, 4, 6, 1, key=next(keys))
        return ow.stack(below, *maps, readout=linear(4, OUTPUT))
    if name == "LRU blocks":
        layers = [linear(INPUT, 4)]
        for _ in range(2):
            layers += [cell("LRU", 4), linear(8, 4), eqx.nn.LayerNorm(4), eqx.nn.MLP(4, 4, 6, 1, key=next(keys))]
        return ow.stack(*layers, linear(4, OUTPUT), ow.cells.CumulativeMean(OUTPUT))
    if name == "dag":
        nodes = {"a": cell("GRU", INPUT, 3), "b": cell("RNN", 3 + INPUT), "mix": linear(7, 4), "c": cell("LSTM", 4, 3)}
        nodes["out"] = linear(3 + 3, OUTPUT)
        inputs = {"a": ("input",), "b": ("a", "input"), "mix": ("a", "b"), "c": ("mix",), "out": ("c", "a")}
        return ow.Network(nodes, inputs, "out")
    if name == "wide dag":
        nodes = {
            "in": linear(INPUT, 3),
            "a": cell("GRU", 3, 3),
            "b": cell("LeakyRNN", INPUT, 3),
            "c": cell("LSTM", 6, 3),
        }
        nodes |= {"d": cell("LRU", 3 + INPUT, 2), "e": cell("RNN", 7, 3), "out": linear(9, OUTPUT)}
        inputs = {"in": ("input",), "a": ("in",), "b": ("input",), "c": ("a", "b"), "d": ("c", "input")}
        return ow.Network(nodes, inputs | {"e": ("d", "b"), "out": ("e", "c", "in")}, "out")
    if name == "diagonal dag":
        nodes = {"a": cell("LRU", INPUT, 3), "b": cell("IndRNN", INPUT, 3), "glu": Gated(linear(9, 4), linear(9, 4))}
        nodes |= {"c": cell("RTU", 4 + INPUT, 2), "d": cell("ElementwiseLSTM", 10, 3), "out": linear(12, OUTPUT)}
        inputs = {"a": ("input",), "b": ("input",), "glu": ("a", "b"), "c": ("glu", "input"), "d": ("c", "a")}
        return ow.Network(nodes, inputs | {"out": ("d", "a", "b")}, "out")
    if name == "skip dag":
        nodes = {"in": linear(INPUT, 4), "a": cell("LRU", 4, 3), "glu": Gated(linear(6, 4), linear(6, 4))}
        nodes |= {"norm": eqx.nn.LayerNorm(4), "b": cell("IndRNN", 8), "out": linear(8, OUTPUT)}
        inputs = {"in": ("input",), "a": ("in",), "glu": ("a",), "norm": ("glu",), "b": ("norm", "in")}
        return ow.Network(nodes, inputs | {"out": ("b", "in")}, "out")
    if name == "reversible dag":
        nodes = {"a": cell("LRU", INPUT, 3), "b": cell("RevGRU", 6 + INPUT, 2), "mix": linear(10, 4)}
        nodes |= {"c": cell("Leapfrog", 4, 3), "d": cell("IndRNN", 4, 3, activation="tanh")}
        nodes |= {"e": cell("RevLSTM", 6, 2), "out": linear(4 + 6, OUTPUT)}
        inputs = {"a": ("input",), "b": ("a", "input"), "mix": ("a", "b"), "c": ("mix",), "d": ("mix",)}
        return ow.Network(nodes, inputs | {"e": ("c", "d"), "out": ("e", "a")}, "out")
    kind, depth = name.split(" x ")
    kinds = ("GRU", "LRU", "LSTM", "RNN", "LeakyRNN")[: int(depth)] if kind == "mixed" else (kind,) * int(depth)
    layers, size = [], INPUT
    for i, each in enumerate(kinds):
        if i:
            layers.append(eqx.nn.MLP(size, 3, 5, 1, jnp.tanh, key=next(keys)))
            size = 3
        layers.append(cell(each, size, 4 if i == 0 else 3))
        size = layers[-1].output_size
    return ow.stack(*layers, readout=linear(size, OUTPUT))


def sample(length: int = 9, batch: int | None = 2, terminal: bool = False, seed: int = 0) -> ow.Sample:
    """Random inputs and targets; losses at random steps, or only at the last."""
    rng = np.random.default_rng(seed)
    lead = (length,) if batch is None else (batch, length)
    weight = rng.uniform(0.2, 1.0, lead) * (rng.uniform(size=lead) < 0.8)
    if terminal:
        weight = np.zeros(lead)
        weight[..., -1] = 1.0
    arrays = rng.normal(size=(*lead, INPUT)), rng.normal(size=(*lead, OUTPUT)), weight
    return ow.Sample(*(jnp.asarray(a) for a in arrays))


def flat(tree) -> np.ndarray:
    """A tree of arrays as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)] or [np.zeros(0)])


def distance(a, b) -> float:
    """Relative distance of two trees of arrays."""
    a, b = flat(a), flat(b)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@eqx.filter_jit
def start(algorithm, net, batch):
    """The carry before the first step, compiled."""
    return algorithm.init(net, jax.random.key(0), batch)


TRACED: collections.Counter = collections.Counter()  # how often each algorithm's loss was traced by `run`


@eqx.filter_jit
def run(algorithm, net, carry, window):
    """One window, compiled."""

    def loss(output, target):
        TRACED[algorithm] += 1
        return ow.losses.squared_error(output, target)

    return algorithm.run(net, loss, carry, window)


def gradient_of(algorithm, net, window):
    """Loss and gradient of a whole sample, from the initial state."""
    carry = start(algorithm, net, window.weight.shape[0] if window.batched else None)
    _, estimate = run(algorithm, net, carry, window)
    return estimate.loss, estimate.gradient


def cut(window, start, stop):
    """Steps `start` to `stop` of a window, batched or not."""
    axis = window.weight.ndim - 1
    return jax.tree.map(lambda leaf: leaf[:, start:stop] if axis else leaf[start:stop], window)


def windowed(algorithm, net, window, edges):
    """Gradients of consecutive windows that end at `edges`, and the last carry."""
    carry = start(algorithm, net, window.weight.shape[0] if window.batched else None)
    gradients, begin = [], 0
    for stop in edges:
        carry, estimate = run(algorithm, net, carry, cut(window, begin, stop))
        gradients.append(estimate.gradient)
        begin = stop
    return gradients, carry


def total(gradients):
    """The sum of several gradients."""
    return jax.tree.map(lambda *leaves: sum(leaves), *gradients)


@functools.cache
def reference(name: str) -> tuple[jax.Array, ow.Network]:
    """Loss and gradient by `autodiff` of the whole sample on the network called `name`."""
    return autodiff(network(name), sample())


@eqx.filter_jit
def autodiff(net, window):
    """Loss and gradient by differentiating the plain step-by-step unroll: independent of every algorithm here."""

    def one(net, w):
        return jnp.sum(w.weight * jax.vmap(ow.losses.squared_error)(net.unroll(w.input), w.target))

    if window.batched:
        return eqx.filter_value_and_grad(lambda n: jnp.mean(jax.vmap(lambda w: one(n, w))(window)))(net)
    return eqx.filter_value_and_grad(lambda n: one(n, window))(net)
