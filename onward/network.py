"""Networks: directed acyclic graphs of recurrent layers and memoryless maps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from onward.cells.base import Cell, restart
from onward.cells.contract import check_unit_local
from onward.modules import resolve

INPUT = "input"


class Network(eqx.Module):
    """A directed acyclic graph, evaluated in topological order at each step; only cells remember anything.

    **Arguments.**
    `nodes`: name -> `Cell` or memoryless module (any callable from a vector to a vector: `eqx.nn.Linear`, `MLP`,
    `LayerNorm`, `Embedding`, a function ...).
    `inputs`: name -> names of the nodes it reads at the same step, `"input"` being the network's input. Several
    are concatenated in that order.
    `output`: the node whose value is the network's output.
    `input_size`: features of the input; inferred where a node that reads only `"input"` declares it.
    **Raises.** `ValueError` on a cycle, an unknown name, sizes that do not fit, or a cell that breaks the unit-local
    contract.
    **Example.**

        >>> import jax, onward as ow
        >>> cell = ow.cells.GRU(3, 4, key=jax.random.key(0))
        >>> net = Network({"a": cell, "skip": lambda x: 2 * x}, {"a": ("input",), "skip": ("a",)}, "skip")
        >>> net.unroll(jax.numpy.ones((7, 3))).shape
        (7, 4)
    """

    nodes: dict[str, Any]
    edges: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    output: str = eqx.field(static=True)
    input_size: int | None = eqx.field(static=True)
    output_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        nodes: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        output: str,
        *,
        input_size: int | None = None,
    ):
        self.edges = _sort(nodes, inputs, output)
        self.nodes = {name: nodes[name] for name, _ in self.edges}
        self.output = output
        self.input_size = input_size if input_size is not None else _infer_input_size(self)
        for name in self.nodes:
            if not callable(self.nodes[name]) and name not in self.recurrent_names:
                raise ValueError(f"node {name!r} is a {type(self.nodes[name]).__name__}, which is not callable")
        for name in self.recurrent_names:
            check_unit_local(self.nodes[name], name)
        self.output_size = _check_sizes(self)

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """name -> names it reads."""
        return dict(self.edges)

    @property
    def recurrent_names(self) -> tuple[str, ...]:
        """Names of the cells, in topological order."""
        return tuple(name for name, _ in self.edges if isinstance(self.nodes[name], Cell))

    @property
    def reads_integers(self) -> bool:
        """Whether the input is read by embeddings alone: one integer a step, with no axis of features."""
        readers = [self.nodes[name] for name, parents in self.edges if INPUT in parents]
        return all(isinstance(node, eqx.nn.Embedding) for node in readers)

    def ancestors(self, name: str) -> frozenset[str]:
        """Names of all nodes that `name` depends on within a step, itself included."""
        found = {name}
        for node, parents in reversed(self.edges):
            if node in found:
                found.update(parent for parent in parents if parent != INPUT)
        return frozenset(found)

    def effective(self) -> "Network":
        """The same network with every cell in its unit-local parameters, and every tied map given its weight."""
        cells = {name: self.nodes[name].effective() for name in self.recurrent_names}
        return self._with_nodes(resolve({**self.nodes, **cells}))

    def randomized(self, key: Array) -> "Network":
        """The network as training has it for one batch, with dropped weights drawn; see `cells.WeightDrop`."""
        keys = dict(zip(self.recurrent_names, jax.random.split(key, max(1, len(self.recurrent_names))), strict=False))
        cells = {name: self.nodes[name].randomized(keys[name]) for name in keys}
        return self._with_nodes({**self.nodes, **cells})

    def fresh_states(self, states: dict[str, PyTree], key: Array) -> dict[str, PyTree]:
        """Those of a batch `[batch, ...]` with what is random in them drawn anew; see `cells.LockedDropout`."""
        fresh = {}
        for number, (name, state) in enumerate(states.items()):
            keys = jax.random.split(jax.random.fold_in(key, number), jax.tree.leaves(state)[0].shape[0])
            fresh[name] = jax.vmap(self.nodes[name].fresh_state)(state, keys)
        return fresh

    def _with_nodes(self, nodes: dict[str, Any]) -> "Network":
        return eqx.tree_at(lambda net: net.nodes, self, nodes, is_leaf=lambda x: x is None)

    def initial_state(self) -> dict[str, PyTree]:
        """State of every cell before the first step."""
        return {name: self.nodes[name].initial_state() for name in self.recurrent_names}

    def begin(self, states: dict[str, PyTree], reset: Array | None) -> dict[str, PyTree]:
        """The initial states where `reset` says that an episode begins, and else `states`; None: nowhere."""
        return {name: restart(self.nodes[name], state, reset) for name, state in states.items()}

    def step(self, states: dict[str, PyTree], input: PyTree) -> tuple[dict[str, PyTree], PyTree]:
        """One step of the whole network: new states and output."""
        values, new = {INPUT: input}, {}
        for name, parents in self.edges:
            node, read = self.nodes[name], gather(values, name, parents)
            if isinstance(node, Cell):
                new[name] = node.transition(states[name], node.emit(states[name]), read)
                values[name] = node.emit(new[name])
            else:
                values[name] = node(read)
        return new, values[self.output]

    def unroll(
        self,
        inputs: Float[Array | np.ndarray, "time features"] | Int[Array | np.ndarray, " time"],
        states: dict[str, PyTree] | None = None,
    ) -> PyTree:
        """Outputs `[time, ...]` for `inputs` `[time, features]`, or integers `[time]` where embeddings read them.

        They start from `states`, by default the initial ones. No steps give no outputs; a NaN stays one.
        **Raises.** `ValueError` or `TypeError` where a step has other features than the network reads, or integers.
        """
        check_input(self, inputs, jnp.shape(inputs)[:1])
        return _unroll(self, inputs, states)


@eqx.filter_jit  # compiled once for a network and a length, and not for every call
def _unroll(network, inputs, states):
    network = network.effective()
    states = network.initial_state() if states is None else states
    return jax.lax.scan(lambda s, x: network.step(s, x), states, inputs)[1]


def stack(*layers: Any, readout: Callable | None = None, input_size: int | None = None) -> Network:
    """A chain of cells and memoryless modules in any order, ended by an optional `readout`.

    **Example.**

        >>> import equinox as eqx, jax, onward as ow
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> net = stack(ow.cells.LSTM(3, 8, key=k1), readout=eqx.nn.Linear(8, 2, key=k2))
        >>> net.unroll(jax.numpy.ones((5, 3))).shape
        (5, 2)
    """
    if not layers:
        raise ValueError("stack needs at least one layer; give it a cell such as onward.cells.LSTM(...)")
    width = len(str(len(layers) - 1))
    names = [f"{i:0{width}d}_{type(layer).__name__.lower()}" for i, layer in enumerate(layers)]
    nodes = dict(zip(names, layers, strict=True))
    if readout is not None:
        nodes["readout"] = readout
    order = list(nodes)
    inputs = {name: (parent,) for name, parent in zip(order, [INPUT, *order], strict=False)}
    return Network(nodes, inputs, order[-1], input_size=input_size)


def gather(values: Mapping[str, PyTree], name: str, parents: Sequence[str]) -> PyTree:
    """What node `name` reads: its only parent's value, or its parents' values concatenated."""
    if len(parents) == 1:
        return values[parents[0]]
    try:
        return jnp.concatenate([values[parent] for parent in parents], axis=-1)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"node {name!r} reads {', '.join(parents)}, which cannot be concatenated ({error}); "
            "only arrays that agree in all but the last axis can be"
        ) from None


def check_input(network: Network, input: PyTree, steps: tuple[int, ...]) -> None:
    """Raise a `ValueError` or `TypeError` where a node cannot read `input`, of shape `steps` and then its features."""
    if not hasattr(input, "dtype"):
        return
    for name, parents in network.edges:
        if INPUT not in parents:
            continue
        node, shape, dtype, size = network.nodes[name], jnp.shape(input), input.dtype, network.input_size
        if not isinstance(node, (Cell, eqx.nn.Linear, eqx.nn.MLP, eqx.nn.LayerNorm, eqx.nn.RMSNorm)):
            continue
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"`input` has dtype {dtype}, but node {name!r} ({type(node).__name__}) needs floating-point numbers; "
                "convert it with .astype(float), or read integers through an eqx.nn.Embedding"
            )
        if size is not None and shape[len(steps) :] != (size,):
            raise ValueError(
                f"`input` has shape {shape}, but the network reads {size} features a step; give it shape "
                f"{(*steps, size)}"
            )


def is_recurrent(network: Network) -> PyTree:
    """Tree of booleans over the network's inexact arrays: True for the parameters its cells declare recurrent."""

    def mark(path, _):
        if len(path) < 3:
            return False
        node = network.nodes[path[1].key]
        return isinstance(node, Cell) and any(getattr(part, "name", None) in node.recurrent for part in path[2:])

    return jax.tree_util.tree_map_with_path(mark, eqx.filter(network, eqx.is_inexact_array))


def _sort(nodes, inputs, output):
    """Edges in topological order, of the nodes that the output depends on first; all nodes are kept."""
    for name in nodes:
        if name == INPUT:
            raise ValueError(f"a node cannot be called {INPUT!r}, which is the network's input; rename it")
        if name not in inputs or not inputs[name]:
            raise ValueError(f"node {name!r} has no entry in `inputs`; say what it reads, e.g. ('input',)")
        if isinstance(inputs[name], str):
            raise ValueError(f"`inputs[{name!r}]` must be a tuple of names, got the string {inputs[name]!r}")
        for parent in inputs[name]:
            if parent != INPUT and parent not in nodes:
                raise ValueError(
                    f"node {name!r} reads {parent!r}, which is not a node; known: {', '.join([INPUT, *nodes])}"
                )
    for name in inputs:
        if name not in nodes:
            raise ValueError(f"`inputs` names {name!r}, which is not a node; known: {', '.join(nodes)}")
    if output not in nodes:
        raise ValueError(f"`output` is {output!r}, which is not a node; known: {', '.join(nodes)}")
    edges, placed, waiting = [], {INPUT}, dict.fromkeys(nodes)
    while waiting:
        ready = [name for name in waiting if all(parent in placed for parent in inputs[name])]
        if not ready:
            raise ValueError(
                f"the nodes {', '.join(waiting)} form a cycle; within one step a network is acyclic "
                "(a cell reads its own previous emission without being listed as its own input)"
            )
        for name in ready:
            edges.append((name, tuple(inputs[name])))
            placed.add(name)
            del waiting[name]
    return tuple(edges)


def _infer_input_size(network):
    for name, parents in network.edges:
        if parents == (INPUT,):
            node = network.nodes[name]
            for field in ("input_size", "in_features", "in_size"):
                size = getattr(node, field, None)
                if isinstance(size, int):
                    return size
    return None


def _check_sizes(network):
    """Evaluate shapes node by node; returns the output's size, or None where the input's size is not known."""
    if network.input_size is None and not network.reads_integers:
        return None
    values = {INPUT: jax.ShapeDtypeStruct((network.input_size,), jnp.result_type(float))}
    if network.reads_integers:
        values = {INPUT: jax.ShapeDtypeStruct((), jnp.int32)}
    nodes = resolve(network.nodes)
    for name, parents in network.edges:
        node = nodes[name]
        read = jax.eval_shape(lambda v, name=name, parents=parents: gather(v, name, parents), values)
        if isinstance(node, Cell):
            if read.shape != (node.input_size,):
                raise ValueError(
                    f"node {name!r} ({type(node).__name__}) has input_size {node.input_size} but reads "
                    f"{' + '.join(parents)} of shape {read.shape}; make them agree"
                )
            values[name] = jax.eval_shape(node.emit, node.initial_state())
        else:
            try:
                values[name] = eqx.filter_eval_shape(node, read)
            except Exception as error:
                raise ValueError(
                    f"node {name!r} ({type(node).__name__}) cannot read {' + '.join(parents)} of shape {read.shape}: "
                    f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
                ) from error
    shape = getattr(values[network.output], "shape", ())
    return shape[-1] if shape else None
