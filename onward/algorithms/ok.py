"""Optimal Kronecker-sum approximation of real-time recurrent learning."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from onward.algorithms.base import Algorithm
from onward.algorithms.kronecker import init_products, products, run_step
from onward.algorithms.windows import in_steps
from onward.integers import is_integer


class OK(Algorithm):
    """Optimal Kronecker-sum approximation: the influence of a matrix of weights as r Kronecker products.

    Weights that enter a step by the product z = W v have the influence sum_i A_i u_i^T. A step makes r + 1 products
    of the r,

        (J_{t-1} A_i, u_i) for i = 1 ... r,  and  (d s_t / d z, v_t),                             (1)

    which are one matrix of rank r + 1. Of its singular values d_1 >= ... >= d_{r+1} the first k are kept, k being the
    smallest with (r - k) d_{k+1} <= d_{k+1} + ... + d_{r+1} = d; the others are mixed into r - k by

        X X^T, where X = (d / (r - k))^(1/2) diag(c) Z                                            (2)

    with c random signs and Z an orthonormal basis of what is orthogonal to z_i = (1 - d_i (r - k) / d)^(1/2). The mean
    of (2) over c is diag(d_{k+1} ... d_{r+1}), and no unbiased reduction to rank r has less variance.

    **Shapes.** As `KFRTRL`, r times.
    **Exactness.** Unbiased for every rank, as `KFRTRL` is, with less variance than it; exact where that is, and in
    layers whose influence has a rank of at most r (sequences of at most r steps).
    **Cost.** r times KFRTRL's, and a QR decomposition of r + 1 columns a step.
    **Arguments.** `rank`: r, a positive integer, else `ValueError`.
    **Source.** Benzing, Gauy, Mujika, Martinsson and Steger 2019, section 3, arXiv:1902.03993.
    """

    rank: int = eqx.field(static=True, default=4)
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "online"
    memory: ClassVar[str] = "O(1)"
    source: ClassVar[str] = "Benzing et al. 2019"
    summary: ClassVar[str] = "influence of each weight matrix as r Kronecker products; unbiased, least variance"
    stochastic: ClassVar[bool] = True

    def __check_init__(self):
        if not is_integer(self.rank, 1):
            raise ValueError(f"`rank` must be a positive number of Kronecker products, got {self.rank!r}; try 4")

    def init_memory(self, network):
        return init_products(network, self.rank)

    def exact_nodes(self, network):
        return frozenset(network.nodes) - {product.node for product in products(network)}

    def run_window(self, network, loss, carry, window):
        return in_steps(self, network, lambda c, step: run_step(network, loss, c, step, _reduce), carry, window)


def _reduce(key, left, right):
    """One product fewer than r + 1."""
    bases, triangles = zip(*(jnp.linalg.qr(a.reshape(len(a), -1).T) for a in (left, right)), strict=True)
    u, values, v = jnp.linalg.svd(triangles[0] @ triangles[1].T)
    mixed = _mix(key, jnp.pad(values, (0, len(left) - len(values))))
    return tuple(
        (base @ side @ mixed[: side.shape[1]]).T.reshape(-1, *old.shape[1:])
        for base, side, old in zip(bases, (u, v.T), (left, right), strict=True)
    )


def _mix(key, values):
    """X of equation (2), with the square roots of the values that are kept: [r + 1, r]."""
    count = len(values)
    rank = count - 1
    tails = jnp.cumsum(values[::-1])[::-1]
    to_fill = rank - jnp.arange(count)
    kept = jnp.argmax(to_fill * values <= tails * (1 + 1e-6))
    tail, fill = tails[kept], to_fill[kept]
    is_kept = jnp.arange(count) < kept
    share = jnp.where(tail > 0, values * fill / jnp.where(tail > 0, tail, 1), fill / (fill + 1))
    z = jnp.where(is_kept, 0, jnp.sqrt(jnp.maximum(1 - share, 0)))
    z = z / jnp.linalg.norm(z)
    mirror = z - jnp.eye(count, dtype=z.dtype)[-1]  # the reflection that takes the last axis to z
    square = mirror @ mirror
    basis = jnp.eye(count, dtype=z.dtype) - 2 * jnp.outer(mirror, mirror) / jnp.where(square > 0, square, 1)
    signs = jax.random.rademacher(key, (count,), values.dtype)
    scale = jnp.where(is_kept, jnp.sqrt(values), signs * jnp.sqrt(tail / fill))
    return scale[:, None] * basis[:, :-1]
