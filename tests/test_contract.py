"""The unit-local contract: cells that keep it are accepted, each way of breaking it is named."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import onward as ow


class Coupled(ow.cells.Cell):
    weight: jax.Array
    coupling: str = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)

    def initial_state(self):
        return jnp.zeros(self.output_size)

    def emit(self, state):
        return state

    def transition(self, state, emission, input):
        weight = self.weight
        if self.coupling == "parameter":
            weight = jnp.roll(weight, 2, axis=0)
        if self.coupling == "state":
            state = jnp.roll(state, 2)
        if self.coupling == "pairs":
            state = jnp.where(jnp.arange(self.output_size) % 2 == 0, jnp.roll(state, -1), 0.0)
        return jnp.tanh(weight @ emission + state + jnp.sum(input))


@pytest.mark.parametrize("units", [1, 4, 5])
def test_a_cell_that_keeps_the_contract_is_accepted(units):
    ow.stack(Coupled(jnp.ones((units, units)), "none", 2, units))


class Started(Coupled):
    start: jax.Array
    held: bool = eqx.field(static=True)

    def initial_state(self):
        return jax.lax.stop_gradient(jnp.tanh(self.start)) if self.held else jnp.tanh(self.start)


@pytest.mark.parametrize("unit_local", [True, False])
def test_an_initial_state_that_would_have_to_be_learnt_is_refused(unit_local, monkeypatch):
    monkeypatch.setattr(Started, "unit_local", unit_local)
    arguments = jnp.ones((3, 3)), "none", 2, 3, jnp.ones(3)
    with pytest.raises(
        ValueError, match=r"the initial state of Started depends on its parameter `start` which no algo"
    ):
        ow.stack(Started(*arguments, held=False))
    net = ow.stack(Started(*arguments, held=True))
    assert float(net.initial_state()["0_started"][0]) == pytest.approx(float(jnp.tanh(1.0)))


@pytest.mark.parametrize(
    ("coupling", "named"),
    [("parameter", "parameter `weight` of Coupled"), ("state", "state of"), ("pairs", "state of")],
)
@pytest.mark.parametrize("units", [4, 5])
def test_every_coupling_is_found_and_named(coupling, named, units):
    with pytest.raises(ValueError, match=f"(?s){named}.*contract"):
        ow.stack(Coupled(jnp.ones((units, units)), coupling, 2, units))


def test_a_parameter_without_the_unit_axis_is_named():
    with pytest.raises(ValueError, match=r"`weight` of Coupled has shape \(5, 4\)"):
        ow.stack(Coupled(jnp.ones((5, 4)), "none", 2, 4))


def test_a_diagonal_cell_that_reads_its_emission_is_refused():
    class Claims(Coupled):
        recurrence = "diagonal"

    with pytest.raises(ValueError, match="declares `recurrence = 'diagonal'`"):
        ow.stack(Claims(jnp.ones((4, 4)), "none", 2, 4))


def test_a_cell_that_declares_itself_coupled_trains_exactly_where_it_can():
    class Free(Coupled):
        unit_local = False

    net = ow.stack(Free(jnp.eye(4) * 0.5, "state", 2, 4))
    rng = jax.random.split(jax.random.key(0), 2)
    sample = ow.Sample(jax.random.normal(rng[0], (6, 2)), jax.random.normal(rng[1], (6, 4)), jnp.ones(6))
    bptt, rtrl = (
        ow.value_and_grad(net, ow.losses.squared_error, sample, algorithm=a)[1] for a in (ow.BPTT(), ow.RTRL())
    )
    error = jnp.linalg.norm(bptt.nodes["0_free"].weight - rtrl.nodes["0_free"].weight)
    assert error <= 1e-12 * jnp.linalg.norm(bptt.nodes["0_free"].weight)
    assert jnp.any(bptt.nodes["0_free"].weight != 0)
    with pytest.raises(ValueError, match="unit_local = False"):
        ow.value_and_grad(net, ow.losses.squared_error, sample, algorithm=ow.SnAp(1))


def test_sizes_that_are_no_sizes_are_refused():
    kinds = "RNN", "GRU", "LSTM", "LRU", "IndRNN", "LeakyRNN", "AntisymmetricRNN", "RevGRU", "RevLSTM", "Leapfrog"
    kinds += "RTU", "ElementwiseLSTM", "LIF", "ALIF"
    for kind in kinds:
        with pytest.raises(ValueError, match="`hidden_size` must be a positive integer, got -1"):
            getattr(ow.cells, kind)(2, -1, key=jax.random.key(0))
