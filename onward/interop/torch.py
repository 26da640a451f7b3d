"""PyTorch's recurrent layers as cells and back, without a loss of a bit.

PyTorch stacks the gates of all units along the first axis, gate by gate; Onward has the unit axis first:

    weight_ih_l{k} [G N, I]  <->  weight_ih [N, G, I]  (RNN: G = 1, [N, I])        (1)
    bias_ih_l{k}   [G N]     <->  bias_ih   [N, G]     (RNN: [N])                  (2)

and the same for `weight_hh` and `bias_hh`. Names, order of the gates and the two biases are PyTorch's already, so
(1) and (2) only reorder numbers. Gradients have the same trees as cells and networks, so they travel the same way.

PyTorch is imported inside the functions, never by `import onward`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from onward.cells import GRU, LSTM, RNN, Cell
from onward.network import INPUT, Network, stack

CELLS = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}  # by the name of the PyTorch class
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ARRAYS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
DTYPES = ("float16", "float32", "float64")


def from_torch(module: Any) -> Any:
    """A cell with the parameters of a one-layer `torch.nn.RNN` (tanh), `GRU` or `LSTM`; a network for several layers.

    **Shapes.** For each layer as in equations (1) and (2) of this module. A network is the `onward.stack` of the
    layers, without a readout; join it with one through its cells: `onward.stack(*network.nodes.values(), readout=...)`.
    **Arguments.** `module`: float16, float32 or float64, kept; on any device. Values are copied: training one side
    leaves the other alone. `batch_first` concerns PyTorch's input only and is accepted either way; Onward's batches are
    [batch, time, ...]. With `bias=False` the biases are zeros, which training would then move.
    **Returns.** A `Cell` if `module.num_layers` is 1, else a `Network`. Both start from the zero state, as PyTorch.
    **Raises.** `TypeError` for another module or dtype; `ValueError` for relu, `bidirectional`, `proj_size`, or dropout
    between layers, and for float64 where JAX's 64-bit mode is off; `ImportError` where PyTorch is missing.
    **Example.** (not a doctest, since PyTorch is an extra)

        cell = onward.interop.from_torch(torch.nn.GRU(3, 5))
        network = onward.stack(cell, readout=eqx.nn.Linear(5, 2, key=key))
    """
    kind = _check_module(module)
    cells = _cells(module, kind, lambda parameter, name: parameter)
    return cells[0] if len(cells) == 1 else stack(*cells)


def gradient_from_torch(module: Any) -> Any:
    """The gradients that `backward()` left in `module`, in the tree of `from_torch(module)`.

    So they can be compared with, or used in place of, what `onward.value_and_grad` returns. PyTorch has no gradient of
    the biases that `bias=False` leaves out: these are zeros.

    **Raises.** As `from_torch`, and `ValueError` if a parameter has no gradient.
    """

    def gradient(parameter, name):
        if parameter.grad is None:
            raise ValueError(f"`module.{name}` has no gradient (`.grad` is None); call backward() on a loss first")
        return parameter.grad

    kind = _check_module(module)
    cells = _cells(module, kind, gradient)
    if len(cells) == 1:
        return cells[0]
    network = stack(*_cells(module, kind, lambda parameter, name: parameter))
    return eqx.tree_at(lambda net: net.nodes, network, dict(zip(network.nodes, cells, strict=True)))


def to_torch(source: Any, *, batch_first: bool = False) -> Any:
    """A `torch.nn.RNN`, `GRU` or `LSTM` with the values of a cell, of a stack of cells, or of a gradient of these.

    **Arguments.** `source`: an `onward.cells.RNN`, `GRU` or `LSTM`; a list of such, from the lowest layer up; a
    `Network` that is a plain stack of such; or a gradient with the tree of one of these, which gives a module whose
    parameters are the gradients. Those go into PyTorch's `.grad` fields by

        for parameter, gradient in zip(module.parameters(), to_torch(gradients).parameters()):
            parameter.grad = gradient.data

    A network with other nodes (a readout) is not a PyTorch layer: give its cells,
    `to_torch([network.nodes[name] for name in network.recurrent_names])`.
    `batch_first`: as in PyTorch; the order of axes that the module will expect.
    **Returns.** A module on the CPU in the dtype of `source`. PyTorch's random numbers are not consumed.
    **Raises.** `TypeError` for other cells or dtypes, `ValueError` for what one PyTorch module cannot hold (layers of
    different kinds, sizes or dtypes, a graph that is no stack); `ImportError` where PyTorch is missing.
    """
    torch = _import("to_torch")
    cells = _layers(source)
    kind = _check_cells(cells)
    first, dtype = cells[0], np.asarray(cells[0].weight_hh).dtype.name
    module = getattr(torch.nn, kind)(
        first.input_size,
        first.hidden_size,
        num_layers=len(cells),
        batch_first=batch_first,
        dtype=getattr(torch, dtype),
        device="meta",
    ).to_empty(device="cpu")
    with torch.no_grad():
        for k, cell in enumerate(cells):
            for name in ARRAYS:
                values = _gate_major(np.asarray(getattr(cell, name)), GATES[kind])
                getattr(module, f"{name}_l{k}").copy_(torch.from_numpy(values))
    return module


def _import(caller: str):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"onward.interop.{caller} needs PyTorch, which is not installed; run `pip install torch`"
        ) from error
    return torch


def _check_module(module) -> str:
    """Name of the PyTorch class, once the module is one that cells can stand for."""
    torch = _import("from_torch")
    kind = next((name for name in CELLS if isinstance(module, getattr(torch.nn, name))), None)
    if kind is None:
        raise TypeError(
            f"`module` must be a torch.nn.RNN, torch.nn.GRU or torch.nn.LSTM, got {type(module).__name__}; "
            "write other layers as a subclass of onward.cells.Cell"
        )
    if kind == "RNN" and module.nonlinearity != "tanh":
        raise ValueError(
            f"`module` has nonlinearity={module.nonlinearity!r}, but onward.cells.RNN is the tanh network; "
            "write a relu one as a subclass of onward.cells.Cell"
        )
    if module.bidirectional:
        raise ValueError(
            "`module` has bidirectional=True, which reads the future and so cannot run forward in time; "
            "use bidirectional=False"
        )
    if module.proj_size:
        raise ValueError(f"`module` has proj_size={module.proj_size}, which Onward's cells lack; use proj_size=0")
    if module.dropout and module.num_layers > 1:
        raise ValueError(
            f"`module` has dropout={module.dropout} between its layers, which the network would lack; "
            "set `module.dropout = 0` first to leave it out"
        )
    return kind


def _cells(module, kind: str, read: Callable) -> list[Cell]:
    """One cell for each layer; `read(parameter, name)` gives the tensor whose numbers it is to hold."""
    cells = []
    for k in range(module.num_layers):
        size = module.input_size if k == 0 else module.hidden_size
        skeleton = eqx.filter_eval_shape(CELLS[kind], size, module.hidden_size, key=jax.random.key(0))
        arrays = [_read(module, f"{name}_l{k}", GATES[kind], read) for name in ARRAYS]
        cells.append(eqx.tree_at(lambda cell: [getattr(cell, name) for name in ARRAYS], skeleton, arrays))
    return cells


def _read(module, name: str, gates: int, read: Callable) -> jax.Array:
    if not module.bias and name.startswith("bias"):
        values = np.zeros(gates * module.hidden_size, _numpy(module, "weight_hh_l0", lambda p, _: p).dtype)
    else:
        values = _numpy(module, name, read)
    return jnp.array(_unit_major(values, gates))


def _numpy(module, name: str, read: Callable) -> np.ndarray:
    tensor = read(getattr(module, name), name).detach().cpu()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise TypeError(f"`module.{name}` has dtype {dtype}; convert the module with .float(), which makes it float32")
    if dtype == "float64" and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            f"`module.{name}` is float64, but JAX's 64-bit mode is off; turn it on with "
            "jax.config.update('jax_enable_x64', True), or convert the module with .float()"
        )
    return tensor.numpy()


def _unit_major(values: np.ndarray, gates: int) -> np.ndarray:
    """Equations (1), (2) from left to right: [gates * units, ...] to [units, gates, ...], or [units, ...] for one."""
    split = values.reshape(gates, -1, *values.shape[1:])
    return split[0] if gates == 1 else np.ascontiguousarray(np.swapaxes(split, 0, 1))


def _gate_major(values: np.ndarray, gates: int) -> np.ndarray:
    """Equations (1), (2) from right to left, always as a copy that may be written to."""
    if gates == 1:
        return np.array(values)
    return np.array(np.swapaxes(values, 0, 1).reshape(-1, *values.shape[2:]))


def _layers(source) -> Sequence[Any]:
    """The cells of `source`, lowest first."""
    if not isinstance(source, Network):
        layers = list(source) if isinstance(source, (list, tuple)) else [source]
        if not layers:
            raise ValueError("`source` is an empty list; give at least one cell")
        return layers
    order = [name for name, _ in source.edges]
    for name in order:
        if not isinstance(source.nodes[name], tuple(CELLS.values())):
            raise ValueError(
                f"node {name!r} ({type(source.nodes[name]).__name__}) has no place in a PyTorch recurrent module; give "
                "the cells alone: to_torch([network.nodes[name] for name in network.recurrent_names])"
            )
    if tuple(source.edges) != tuple(zip(order, [(name,) for name in [INPUT, *order]], strict=False)):
        raise ValueError("`source` is a graph, but PyTorch's layers form a stack; convert its cells one by one")
    if source.output != order[-1]:
        raise ValueError(f"`source` gives out node {source.output!r}, but PyTorch the last layer, {order[-1]!r}")
    return [source.nodes[name] for name in order]


def _check_cells(cells: Sequence[Any]) -> str:
    """Name of the PyTorch class that can hold all `cells` as its layers."""
    kind = next((name for name, cls in CELLS.items() if type(cells[0]) is cls), None)
    if kind is None:
        raise TypeError(
            f"`source` must be an onward.cells.RNN, GRU or LSTM, or a stack of them, got {type(cells[0]).__name__}"
        )
    first = cells[0]
    for k, cell in enumerate(cells):
        if type(cell) is not type(first):
            raise ValueError(f"layer {k} is a {type(cell).__name__} above a {kind}; PyTorch's layers are of one kind")
        if cell.hidden_size != first.hidden_size:
            raise ValueError(
                f"layer {k} has {cell.hidden_size} units above {first.hidden_size}; PyTorch's layers are of one size"
            )
        if k > 0 and cell.input_size != first.hidden_size:
            raise ValueError(
                f"layer {k} reads {cell.input_size} inputs, but the layer below has {first.hidden_size} units; "
                "give the cells from the lowest layer up"
            )
        _check_arrays(cell, kind, k, np.asarray(first.weight_hh).dtype)
    return kind


def _check_arrays(cell, kind: str, k: int, dtype: np.dtype) -> None:
    skeleton = eqx.filter_eval_shape(CELLS[kind], cell.input_size, cell.hidden_size, key=jax.random.key(0))
    for name in ARRAYS:
        array, wanted = getattr(cell, name), getattr(skeleton, name).shape
        if np.shape(array) != wanted:
            raise ValueError(f"`{name}` of layer {k} has shape {np.shape(array)}, but {kind} has {wanted}")
        if np.asarray(array).dtype != dtype:
            raise ValueError(
                f"`{name}` of layer {k} is {np.asarray(array).dtype} where weight_hh is {dtype}; use one dtype"
            )
    if dtype.name not in DTYPES:
        raise TypeError(f"`source` has dtype {dtype}; PyTorch is given {', '.join(DTYPES)}: convert the arrays first")
