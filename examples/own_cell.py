"""A cell of one's own: written once, trained with every algorithm.

    python examples/own_cell.py

The task is to say at each step what the input was three steps before. For each algorithm the table shows the angle of
its first gradient to BPTT's (cosine 1: the same direction), and the loss before and after training on the same batches.
`docs/bring-your-own-cell.md` explains every line.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import onward as ow


class MinimalGatedUnit(ow.cells.Cell):
    """A GRU with one gate: Zhou et al. 2016, arXiv:1603.09420, with the gate after the matrix product."""

    weight_ih: jax.Array  # [units, 2, input_size]
    weight_hh: jax.Array  # [units, 2, units]
    bias: jax.Array  # [units, 2]
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)

    def __init__(self, input_size, units, *, key):
        self.input_size, self.output_size = input_size, units
        key_ih, key_hh = jax.random.split(key)
        self.weight_ih = jax.random.normal(key_ih, (units, 2, input_size)) / input_size**0.5
        self.weight_hh = jax.random.normal(key_hh, (units, 2, units)) / units**0.5
        self.bias = jnp.zeros((units, 2))

    def initial_state(self):
        return jnp.zeros(self.output_size)

    def emit(self, state):
        return state

    def transition(self, state, emission, input):
        drive, recurrent = self.weight_ih @ input + self.bias, self.weight_hh @ emission
        gate = jax.nn.sigmoid(drive[:, 0] + recurrent[:, 0])
        return (1 - gate) * state + gate * jnp.tanh(drive[:, 1] + gate * recurrent[:, 1])


class PaperMinimalGatedUnit(MinimalGatedUnit):
    """As printed in the paper: the gate comes before the product, so each unit's gate reaches all units at once."""

    def transition(self, state, emission, input):
        drive = self.weight_ih @ input + self.bias
        gate = jax.nn.sigmoid(drive[:, 0] + self.weight_hh[:, 0] @ emission)
        return (1 - gate) * state + gate * jnp.tanh(drive[:, 1] + self.weight_hh[:, 1] @ (gate * emission))


class DensePaperMinimalGatedUnit(PaperMinimalGatedUnit):
    """The same, admitting it: served by the algorithms that need no contract (BPTT, NthOrder, RTRL)."""

    unit_local = False


ALGORITHMS = {
    "BPTT()": ow.BPTT(),
    "NthOrder(3)": ow.NthOrder(3),
    "SpatialBP()": ow.SpatialBP(),
    "RTRL()": ow.RTRL(),
    "SnAp(1)": ow.SnAp(1),
    "EProp()": ow.EProp(),
}
UNITS, DELAY, TIME, BATCH = 16, 3, 16, 32


def batch(seed):
    """Random signs, and the same signs `DELAY` steps later; the first steps, which have no answer, have weight 0."""
    signs = jnp.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], size=(BATCH, TIME, 1)))
    weight = jnp.broadcast_to(jnp.arange(TIME) >= DELAY, (BATCH, TIME)) / (TIME - DELAY)
    return ow.Sample(signs, jnp.roll(signs, DELAY, axis=1), weight)


def network(cell, units=UNITS):
    keys = jax.random.split(jax.random.key(0))
    return ow.stack(cell(1, units, key=keys[0]), readout=eqx.nn.Linear(units, 1, key=keys[1]))


def cosine(one, other):
    """Between two gradients of the cell's parameters."""
    trees = [next(iter(gradient.nodes.values())) for gradient in (one, other)]
    one, other = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in trees)
    return float(one @ other / (jnp.linalg.norm(one) * jnp.linalg.norm(other)))


def train(net, algorithm, steps):
    """Mean loss of the first and the last ten batches."""
    trained = ow.train(
        net,
        (batch(step) for step in range(steps)),
        algorithm=algorithm,
        optimizer=optax.adam(1e-2),
        loss=ow.losses.squared_error,
        keep_best=False,
    )
    losses = [event["loss"] for event in trained.history if event["event"] == "train"]
    return float(np.mean(losses[:10])), float(np.mean(losses[-10:]))


def main(steps=300, names=tuple(ALGORITHMS)):
    net = network(MinimalGatedUnit)
    _, exact = ow.value_and_grad(net, ow.losses.squared_error, batch(0), algorithm=ow.BPTT())
    print(f"{'algorithm':14}{'cosine to BPTT':>16}{'exact':>8}{'loss before':>14}{'after':>8}")
    rows = {}
    for name in names:
        algorithm = ALGORITHMS[name]
        _, gradient = ow.value_and_grad(net, ow.losses.squared_error, batch(0), algorithm=algorithm)
        rows[name] = cosine(gradient, exact), *train(net, algorithm, steps)
        angle, before, after = rows[name]
        print(f"{name:14}{angle:16.6f}{algorithm.exact_on(net)!s:>8}{before:14.3f}{after:8.3f}")

    print("\nA cell that breaks the unit-local contract is refused when the network is built:")
    try:
        network(PaperMinimalGatedUnit)
    except ValueError as error:
        print(f"  ValueError: {error}")
    dense = network(DensePaperMinimalGatedUnit)
    print("\nWith `unit_local = False` it is served by the algorithms that need no contract:")
    _, exact = ow.value_and_grad(dense, ow.losses.squared_error, batch(0), algorithm=ow.BPTT())
    _, gradient = ow.value_and_grad(dense, ow.losses.squared_error, batch(0), algorithm=ow.RTRL())
    print(f"  RTRL's cosine to BPTT: {cosine(gradient, exact):.6f}")
    try:
        ow.value_and_grad(dense, ow.losses.squared_error, batch(0), algorithm=ow.SnAp(1))
    except ValueError as error:
        print(f"  ValueError: {error}")
    return rows


if __name__ == "__main__":
    main()
