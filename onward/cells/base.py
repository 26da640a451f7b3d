"""The interface of a recurrent layer, as a pure function of one step."""

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from onward.integers import is_integer

State = PyTree  # every leaf [units, ...]
PerUnit = float | Sequence[float] | np.ndarray | Array  # one number for all units, or one for each


class Cell(eqx.Module):
    """One layer of recurrent units; subclass it to bring your own.

    State and what the units broadcast are kept apart, since that difference is what the local learning rules
    (e-prop, RFLO, SnAp) are defined by: a path state -> state stays inside a unit, a path
    state -> emission -> state may go from any unit to any other.

        state_t    = transition(state_{t-1}, emit(state_{t-1}), input_t)      (1)
        emission_t = emit(state_t)                                            (2)

    **Unit-local contract.** Each array of `effective()` and each leaf of the state has the unit axis first, and row i
    of every parameter and of the state touches row i of the new state only, except through `emission` and `input`.
    It is checked when a network is built. Write `transition` so that it works for any number of units (no
    hard-coded layer size): the rules that need a unit's derivative by its own emission evaluate units one at a time.

    **Class attributes.**
    `recurrence`: "dense" (the layer reads its emission), "diagonal" (it never does, so that units do not see each
    other) or "none" (no gradient passes from one step to the next).
    `unit_local`: False for a cell that cannot keep the contract; BPTT, NthOrder and RTRL still serve it.
    `recurrent`: names of the parameters that training treats as recurrent (no weight decay, their own rate).

    **Inverse**, optional: a cell that can say which state a step came from defines `inverse` and answers True to
    `invertible`. `ReversibleBPTT` needs it of the cell that `effective()` returns. Where `recurrence` is "none", what
    the state holds only to be emitted may come back as anything.
    """

    input_size: eqx.AbstractVar[int]
    output_size: eqx.AbstractVar[int]
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "dense"
    unit_local: ClassVar[bool] = True
    recurrent: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def initial_state(self) -> State:
        """The state before the first step: a tree of arrays `[units, ...]`, no function of parameters."""

    @abc.abstractmethod
    def emit(self, state: State) -> Float[Array, " output_size"]:
        """What the layer's own units and the next node see of `state`."""

    @abc.abstractmethod
    def transition(
        self, state: State, emission: Float[Array, " output_size"], input: Float[Array, " input_size"]
    ) -> State:
        """The next state, given the layer's own previous `emission` and the present `input`."""

    def effective(self) -> "Cell":
        """The same cell in parameters that keep the contract; itself, unless its natural parameters do not."""
        return self

    def randomized(self, key: Array) -> "Cell":
        """The cell as training is to have it for one batch: with its weights' dropout drawn, if there is any."""
        del key
        return self

    def fresh_state(self, state: State, key: Array) -> State:
        """`state` as training is to have it at the start of a batch: with what is random in it drawn."""
        del key
        return state

    @property
    def invertible(self) -> bool:
        """Whether there is an `inverse`."""
        return False

    def inverse(self, state: State, input: Float[Array, " input_size"]) -> State:
        """The state before the step that read `input` and led to `state`."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse")


class FactoredCell(Cell):
    """A cell whose transition is matrix products followed by work within each unit.

        transition(state, emission, input) = update(state, recur(emission), project(input))      (3)

    The split lets `project` be computed for all steps at once as one matrix product, and lets a sweep of errors
    leave the matrices' gradients to one product afterwards. `recur` must be linear (or affine) in the emission;
    every leaf of what `project` and `recur` return has the unit axis first; `update` works unit by unit (where
    `unit_local` is False, it need not). An invertible cell defines `revert`.
    """

    @abc.abstractmethod
    def project(self, input: Float[Array, " input_size"]) -> PyTree:
        """The part of the transition that depends on the input alone; leaves `[units, ...]`."""

    @abc.abstractmethod
    def recur(self, emission: Float[Array, " output_size"]) -> PyTree:
        """The part that depends on the layer's previous emission alone; leaves `[units, ...]`."""

    @abc.abstractmethod
    def update(self, state: State, recurrent: PyTree, drive: PyTree) -> State:
        """The next state of each unit from its own state, its recurrent and its input drive."""

    def transition(self, state, emission, input):
        return self.update(state, self.recur(emission), self.project(input))

    def revert(self, state: State, drive: PyTree) -> State:
        """The state before the step that led to `state` with the input drive `drive`."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def inverse(self, state, input):
        return self.revert(state, self.project(input))


def factor(cell: Cell) -> tuple[Callable, Callable, Callable]:
    """`(project, recur, update)` of any cell; a plain cell's matrices stay inside `update`."""
    if isinstance(cell, FactoredCell):
        return cell.project, cell.recur, cell.update
    return (lambda input: input), (lambda emission: emission), cell.transition


def factor_inverse(cell: Cell) -> tuple[Callable, Callable]:
    """`(project, revert)` of any invertible cell; a plain cell's matrices stay inside `revert`."""
    if isinstance(cell, FactoredCell):
        return cell.project, cell.revert
    return (lambda input: input), cell.inverse


def emission_has_parameters(cell: Cell) -> bool:
    """Whether what `cell` emits depends on its parameters and not on its state alone."""
    parameters, rest = eqx.partition(cell, eqx.is_inexact_array)
    emit = lambda parameters, state: eqx.combine(parameters, rest).emit(state)  # noqa: E731
    program = jax.make_jaxpr(emit)(parameters, cell.initial_state()).jaxpr
    needed = {id(var) for var in program.outvars}
    for equation in reversed(program.eqns):
        if any(id(var) in needed for var in equation.outvars):
            needed |= {id(var) for var in equation.invars}
    return any(id(var) in needed for var in program.invars[: len(jax.tree.leaves(parameters))])


def summed_leaves(cell: Cell) -> PyTree | None:
    """Which leaves of a cell's recurrent drive are used only in their sum with the same leaf of its input drive.

    The error is then the same at both, and is kept only once. A tree of booleans like the drives; None for none at all.
    """
    project, recur, update = factor(cell)
    state = cell.initial_state()
    recurrent = jax.eval_shape(lambda: recur(cell.emit(state)))
    drive = jax.eval_shape(project, jax.ShapeDtypeStruct((cell.input_size,), jax.tree.leaves(state)[0].dtype))
    leaves, tree = jax.tree.flatten(recurrent)
    alike = [(leaf.shape, leaf.dtype) for leaf in leaves] == [(d.shape, d.dtype) for d in jax.tree.leaves(drive)]
    if not alike or tree != jax.tree.structure(drive):
        return None

    program = jax.make_jaxpr(update)(state, recurrent, drive).jaxpr
    after_state = program.invars[len(jax.tree.leaves(state)) :]

    def only_summed(r, d):
        pair = {id(r), id(d)}
        users = [step for step in program.eqns if pair & {id(var) for var in step.invars}]
        added = len(users) == 1 and users[0].primitive.name == "add" and pair == {id(var) for var in users[0].invars}
        return added and not pair & {id(var) for var in program.outvars}

    same = [only_summed(r, d) for r, d in zip(after_state[: len(leaves)], after_state[len(leaves) :], strict=True)]
    return jax.tree.unflatten(tree, same) if any(same) else None


def restart(cell: Cell, state: State, reset: Bool[Array, ""] | None) -> State:
    """The initial state where an episode begins, and else `state`."""
    if reset is None:
        return state
    return jax.tree.map(
        lambda first, leaf: jnp.where(reset, first.astype(leaf.dtype), leaf), cell.initial_state(), state
    )


def units(state: State) -> int:
    """Number of units of a layer with this state."""
    return jax.tree.leaves(state)[0].shape[0]


def positive_sizes(**sizes: int) -> None:
    """Raise a `ValueError` that names the first size which is not a positive integer."""
    for name, size in sizes.items():
        if not is_integer(size, 1):
            raise ValueError(f"`{name}` must be a positive integer, got {size!r}")


def per_unit(name: str, value: PerUnit, count: int) -> float | tuple[float, ...]:
    """`value` as a number or a tuple of `count` numbers, which a module holds as a constant and not as a parameter."""
    array = np.asarray(value, float)
    if array.shape not in ((), (count,)):
        raise ValueError(f"`{name}` must be one number or one for each of {count} units, got shape {array.shape}")
    return tuple(array.tolist()) if array.ndim else float(array)


def constant(value: PerUnit, like: Array) -> Array:
    """A constant of `per_unit` as an array of the type of `like`."""
    return jnp.asarray(np.asarray(value), like.dtype)


def uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    """Values drawn uniformly from [-bound, bound]."""
    return jax.random.uniform(key, shape, jnp.result_type(float), -bound, bound)
