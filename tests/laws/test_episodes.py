"""Laws of episodes: what comes before the beginning of one reaches neither its states nor its gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests.claims import (
    BY_ID,
    CLAIMS,
    autodiff,
    distance,
    flat,
    gradient_of,
    network,
    run,
    sample,
    total,
    windowed,
)

EPISODIC = [claim for claim in CLAIMS if claim.algorithm.episodes]
BEGINS = 4


def last_episode(seed=0, reset=True):
    """Nine steps of two sequences with losses from step 4 on, where an episode begins; another one at step 7 of one."""
    window = sample()
    shift = np.random.default_rng(seed).normal(size=(2, BEGINS, window.input.shape[-1])) * (seed > 0)
    window = eqx.tree_at(lambda w: w.input, window, window.input.at[:, :BEGINS].add(shift))
    window = eqx.tree_at(lambda w: w.weight, window, window.weight.at[:, :BEGINS].set(0.0))
    flags = np.zeros((2, 9), bool)
    flags[:, BEGINS] = reset
    flags[1, 7] = reset
    return ow.Sample(window.input, window.target, window.weight, jnp.asarray(flags))


def episodes_at_the_start(window):
    """The episodes of `last_episode` at the start of windows without flags, as long as it, losses of other steps 0."""
    inputs, targets, weights = (np.asarray(leaf) for leaf in (window.input, window.target, window.weight))
    found = []
    for episodes in (((0, 4, 9), (1, 4, 7)), ((1, 7, 9),)):
        moved = [np.zeros_like(leaf) for leaf in (inputs, targets, weights)]
        for sequence, start, stop in episodes:
            for to, leaf in zip(moved, (inputs, targets, weights), strict=True):
                to[sequence, : stop - start] = leaf[sequence, start:stop]
        found.append(ow.Sample(*map(jnp.asarray, moved)))
    return found


@pytest.mark.parametrize("claim", EPISODIC, ids=lambda c: c.id)
def test_an_episode_knows_nothing_of_the_one_before(claim):
    net = network(claim.laws_on[0])
    one, other = (gradient_of(claim.algorithm, net, last_episode(seed))[1] for seed in (0, 1))
    np.testing.assert_array_equal(flat(one), flat(other))
    if claim.algorithm.stochastic:
        return
    alone = [gradient_of(claim.algorithm, net, moved)[1] for moved in episodes_at_the_start(last_episode())]
    assert distance(one, total(alone)) <= 1e-11
    if (
        claim.algorithm != ow.SpatialBP()
    ):  # without the boundary it would have known; states do even where errors do not
        assert distance(gradient_of(claim.algorithm, net, last_episode(0, False))[1], one) > 1e-3


@pytest.mark.parametrize("claim", [c for c in EPISODIC if c.window_law], ids=lambda c: c.id)
def test_windows_of_one_step_begin_episodes_too(claim):
    net, window = network(claim.laws_on[0]), last_episode()
    whole, _ = windowed(claim.algorithm, net, window, (9,))
    steps, _ = windowed(claim.algorithm, net, window, range(1, 10))
    assert distance(total(steps), whole[0]) <= 1e-11


@pytest.mark.parametrize("name", ["RTRL", "BPTT", "BPTT-checkpoint"])
def test_episodes_on_a_graph_are_those_of_autodiff(name):
    net, window = network("dag"), last_episode()
    gradient = gradient_of(BY_ID[name].algorithm, net, jax.tree.map(lambda leaf: leaf[0], window))[1]
    tail = jax.tree.map(lambda leaf: leaf[0, BEGINS:], ow.Sample(window.input, window.target, window.weight))
    assert distance(gradient, autodiff(net, tail)[1]) <= 1e-9


@pytest.mark.parametrize("algorithm", [ow.ForwardErrors(), ow.ReversibleBPTT()])
def test_what_runs_backwards_refuses(algorithm):
    net = network("LRU x 1")
    with pytest.raises(ValueError, match=r"cannot cross the beginning of an episode.*BPTT or RTRL"):
        run(algorithm, net, algorithm.init(net, batch=2), last_episode())


@pytest.mark.usefixtures("unchecked")
def test_flags_must_be_flags_of_every_step():
    net, window = network("RNN x 1"), sample()
    for reset, error, words in (
        (jnp.zeros((2, 9)), TypeError, "must hold booleans"),
        (jnp.zeros((2, 8), bool), ValueError, "`reset`"),
    ):
        with pytest.raises(error, match=words):
            ow.value_and_grad(
                net,
                ow.losses.squared_error,
                ow.Sample(window.input, window.target, window.weight, reset),
                algorithm=ow.RTRL(),
            )
