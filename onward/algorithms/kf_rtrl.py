"""Kronecker-factored real-time recurrent learning."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from onward.algorithms.base import Algorithm
from onward.algorithms.kronecker import init_products, products, run_step
from onward.algorithms.uoro import balance
from onward.algorithms.windows import in_steps


class KFRTRL(Algorithm):
    """Kronecker-factored RTRL: the influence of a matrix of weights as one Kronecker product, right in the mean.

    Weights that enter a step by the product z = W v have the influence A u^T. With c random signs, drawn anew at every
    step, and B_t = d s_t / d z:

        u_t      = c_1 p_1 u_{t-1} + c_2 p_2 v_t                                            (1)
        A_t      = c_1 / p_1 J_{t-1} A_{t-1} + c_2 / p_2 B_t                                (2)
        p_1^2    = |J_{t-1} A_{t-1}| / |u_{t-1}|,   p_2^2 = |B_t| / |v_t|                   (3)
        gradient = sum_t (e_t J_{t-1} A_{t-1}) u_{t-1}^T + e_t M_t                          (4)

    **Shapes.** A layer of N states with G N outputs z that reads a vector of size V (input, emission and 1): A
    [N, G N], u [V]; N counts the states of all layers above too.
    **Exactness.** Unbiased: its mean over keys is RTRL's gradient, for every network. A GRU's weights on inputs and on
    emissions are two products, drawn apart. Exact for parameters above the top cell, and for those below that do not
    act by a product (diagonal recurrences, norms, embeddings, MLPs), whose influence is kept as RTRL keeps it.
    **Cost.** Memory O(N^2 + V) in place of RTRL's O(N^3), none in T; time O(N^3) a step in place of O(N^4).
    **Departures.** As UORO's. Deeper layers and graphs, which the source leaves out, are treated as one layer is.
    **Source.** Mujika, Meier and Steger 2018, algorithm 1, arXiv:1805.10842.
    """

    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "online"
    memory: ClassVar[str] = "O(1)"
    source: ClassVar[str] = "Mujika, Meier and Steger 2018"
    summary: ClassVar[str] = "influence of each weight matrix as one random Kronecker product; unbiased"
    stochastic: ClassVar[bool] = True

    def init_memory(self, network):
        return init_products(network, 1)

    def exact_nodes(self, network):
        return frozenset(network.nodes) - {product.node for product in products(network)}

    def run_window(self, network, loss, carry, window):
        return in_steps(self, network, lambda c, step: run_step(network, loss, c, step, _reduce), carry, window)


def _reduce(key, left, right):
    """Equations (1) to (3)."""
    signs = jax.random.rademacher(key, (2,), left.dtype)
    scale = balance(jnp.linalg.norm(left, axis=(1, 2)), jnp.linalg.norm(right, axis=1))
    return jnp.einsum("i,inz->nz", signs / scale, left)[None], ((signs * scale) @ right)[None]
