"""Reversible backpropagation: inverses, the cells made for them, what forgetting costs, what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests.claims import INPUT, OUTPUT, distance, flat, gradient_of, run, sample, windowed
from tests.reference.steps import sigmoid

KEYS = jax.random.split(jax.random.key(3), 8)
UNITS = 4


def indrnn():
    """A tanh IndRNN that keeps most of its state."""
    cell = ow.cells.IndRNN(INPUT, UNITS, activation="tanh", key=KEYS[0])
    return eqx.tree_at(lambda c: c.weight_hh, cell, jnp.array([0.95, -0.9, 1.05, 0.85]))


CELLS = {
    "LRU": lambda: ow.cells.LRU(INPUT, UNITS, r_min=0.9, key=KEYS[1]),
    "IndRNN": indrnn,
    "CumulativeMean": lambda: ow.cells.CumulativeMean(INPUT),
    "RevGRU": lambda: ow.cells.RevGRU(INPUT, UNITS, key=KEYS[2]),
    "RevLSTM": lambda: ow.cells.RevLSTM(INPUT, UNITS, key=KEYS[3]),
    "Leapfrog": lambda: ow.cells.Leapfrog(INPUT, UNITS, step=1.0, key=KEYS[4]),
}


def stack(cell):
    return ow.stack(cell, readout=eqx.nn.Linear(cell.output_size, OUTPUT, key=KEYS[5]))


def steps(cell, length=30, seed=0):
    """Inputs [length, INPUT] and the states before and after each step."""
    inputs = jnp.asarray(np.random.default_rng(seed).normal(size=(length, INPUT)))
    states = [cell.initial_state()]
    step = eqx.filter_jit(lambda c, s, x: c.transition(s, c.emit(s), x))
    for x in inputs:
        states.append(step(cell, states[-1], x))
    return inputs, states


@pytest.mark.parametrize("kind", CELLS)
def test_the_inverse_undoes_a_step(kind):
    cell = CELLS[kind]()
    inputs, states = steps(cell)
    back = eqx.filter_jit(lambda c, s, x: c.inverse(s, x))
    for each in (cell, cell.effective()) if kind == "LRU" else (cell,):
        assert each.invertible
        for x, before, after in zip(inputs, states[:-1], states[1:], strict=True):
            np.testing.assert_allclose(flat(back(each, after, x)), flat(before), rtol=0, atol=1e-12)
    assert np.std(flat(states[-1])) > 1e-2


@pytest.mark.parametrize("kind", ["LRU", "IndRNN", "RevGRU", "RevLSTM"])
def test_windows_have_the_gradients_of_bptt(kind):
    """Window by window, several reconstructed chunks in each; 29 steps leave a remainder."""
    net, window, edges = stack(CELLS[kind]()), sample(58), (29, 58)
    expected, _ = windowed(ow.BPTT(), net, window, edges)
    found, _ = windowed(ow.ReversibleBPTT(chunk=6), net, window, edges)
    for gradient, other in zip(found, expected, strict=True):
        assert distance(gradient, other) <= 1e-9


def test_a_long_window_with_a_remainder():
    """`chunk` as it is by default; loss, output and the carry are those of the forward pass."""
    net, window = stack(CELLS["Leapfrog"]()), sample(131)
    results = [run(a, net, a.init(net, batch=2), window) for a in (ow.ReversibleBPTT(checkpoints=9), ow.BPTT())]
    (carry, estimate), (expected_carry, expected) = results
    assert np.isclose(estimate.loss, expected.loss, rtol=1e-12)
    assert distance(estimate.output, expected.output) <= 1e-12
    assert distance(carry, expected_carry) <= 1e-12
    assert distance(estimate.gradient, expected.gradient) <= 1e-9


def by_hand(kind, p, halves, x, m):
    """One step of a reversible gated cell, unit by unit; `halves` are lists of (h, c) or (h,), each [units]."""
    halves = [list(half) for half in halves]
    for k in (0, 1):
        other, half = halves[1 - k][0], halves[k]
        new = [np.zeros(UNITS) for _ in half]
        for i in range(UNITS):
            a = p["weight_ih"][i, k] @ x + p["bias_ih"][i, k]
            b = p["weight_hh"][i, k] @ other + p["bias_hh"][i, k]
            if kind == "RevGRU":
                z = m + (1 - m) * sigmoid(a[1] + b[1])
                new[0][i] = (1 - z) * np.tanh(a[2] + sigmoid(a[0] + b[0]) * b[2]) + z * half[0][i]
            else:
                into, f, g, o, keep = a + b
                f, keep = m + (1 - m) * sigmoid(f), m + (1 - m) * sigmoid(keep)
                new[1][i] = f * half[1][i] + sigmoid(into) * np.tanh(g)
                new[0][i] = keep * half[0][i] + sigmoid(o) * np.tanh(new[1][i])
        halves[k] = new
    return halves


def oscillators(p, position, momentum, x, step, stiffness):
    """One step of UnICORNN, unit by unit: Rusch and Mishra 2021."""
    position, momentum = position.copy(), momentum.copy()
    for i in range(UNITS):
        s = step * sigmoid(p["rate"][i])
        pull = np.tanh(p["weight_hh"][i] * position[i] + p["weight_ih"][i] @ x + p["bias"][i])
        momentum[i] = momentum[i] - s * (pull + stiffness * position[i])
        position[i] = position[i] + s * momentum[i]
    return position, momentum


@pytest.mark.parametrize("kind", ["RevGRU", "RevLSTM", "Leapfrog"])
def test_steps_against_plain_numpy(kind):
    cell = CELLS[kind]()
    arrays, rest = eqx.partition(cell, eqx.is_inexact_array)
    rng = np.random.default_rng(2)
    cell = eqx.combine(jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.9, 0.9, leaf.shape)), arrays), rest)
    p = {name: np.asarray(leaf) for name, leaf in vars(cell).items() if eqx.is_array(leaf)}
    inputs, states = steps(cell, 8)
    zeros = np.zeros(UNITS)
    expected = (zeros, zeros) if kind == "Leapfrog" else [[zeros] * (1 + (kind == "RevLSTM"))] * 2
    for x, after in zip(np.asarray(inputs), states[1:], strict=True):
        if kind == "Leapfrog":
            expected = oscillators(p, *expected, x, cell.step, cell.stiffness)
            emitted = expected[0]
        else:
            expected = by_hand(kind, p, expected, x, cell.min_forget)
            emitted = np.concatenate([expected[0][0], expected[1][0]])
        np.testing.assert_allclose(flat(after), flat(expected), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(cell.emit(after), emitted, rtol=1e-12, atol=1e-14)


def test_a_leapfrog_step_is_symplectic():
    """J^T Omega J = Omega for the Jacobian of a step and Omega of canonical coordinates (y, p)."""
    cell = CELLS["Leapfrog"]()
    x, state = jnp.ones(INPUT), tuple(jax.random.normal(key, (UNITS,)) for key in KEYS[6:])

    def step(vector):
        state = tuple(jnp.split(vector, 2))
        return jnp.concatenate(cell.transition(state, cell.emit(state), x))

    jacobian = jax.jacobian(step)(jnp.concatenate(state))
    omega = np.kron(np.array([[0, 1], [-1, 0]]), np.eye(UNITS))
    np.testing.assert_allclose(jacobian.T @ omega @ jacobian, omega, atol=1e-14)


def single(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, tree)


def test_forgetting_costs_digits_and_checkpoints_save_them():
    """float32, 300 steps: at |lambda| = 0.8 the inverse grows to 10^29, between 15 checkpoints to 10^2."""
    window, errors = single(sample(300)), {}
    for modulus in (0.8, 0.999):
        net = single(stack(ow.cells.LRU(INPUT, 8, r_min=modulus, r_max=modulus, key=KEYS[1])))
        expected = gradient_of(ow.BPTT(), net, window)[1]
        for checkpoints in (0, 15):
            algorithm = ow.ReversibleBPTT(checkpoints=checkpoints, chunk=16)
            with np.errstate(all="ignore"):
                errors[modulus, checkpoints] = distance(gradient_of(algorithm, net, window)[1], expected)
    assert not errors[0.8, 0] < 1  # or NaN
    assert errors[0.8, 15] < 1e-4
    assert errors[0.999, 0] < 1e-4


def test_a_cell_without_an_inverse_is_refused():
    for kind in ("GRU", "IndRNN"):
        net = ow.stack(getattr(ow.cells, kind)(INPUT, 2, key=KEYS[0]))
        with pytest.raises(ValueError, match=rf"node '0_{kind.lower()}' \({kind}\) has no inverse; use BPTT\(check"):
            ow.ReversibleBPTT().init(net)
        assert not ow.ReversibleBPTT().exact_on(net)
    with pytest.raises(ValueError, match="activation='tanh' only, got 'relu'"):
        ow.cells.IndRNN(INPUT, 2, key=KEYS[0]).inverse(jnp.ones(2), jnp.ones(INPUT))
    with pytest.raises(NotImplementedError, match="GRU has no inverse"):
        ow.cells.GRU(INPUT, 2, key=KEYS[0]).inverse(jnp.ones(2), jnp.ones(INPUT))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ow.ReversibleBPTT(checkpoints=-1), "`checkpoints` must be an integer of at least 0, got -1"),
        (lambda: ow.ReversibleBPTT(chunk=0), "`chunk` must be a positive integer, got 0"),
        (lambda: ow.cells.RevGRU(2, 2, min_forget=1.0, key=KEYS[0]), r"`min_forget` must be in \(0, 1\), got 1.0"),
        (lambda: ow.cells.RevLSTM(2, 2, min_forget=0.0, key=KEYS[0]), r"`min_forget` must be in \(0, 1\], got 0.0"),
        (lambda: ow.cells.Leapfrog(2, 2, step=0.0, key=KEYS[0]), "`step` must be positive and `stiffness` not neg"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
