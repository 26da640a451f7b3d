"""Forward propagation of errors: gradients from passes that all run forward in time."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import equinox as eqx
import jax

from onward.algorithms.base import Algorithm, Carry, remembering_descendants
from onward.algorithms.error_passes import CHUNK, EXACT, Plan, levels_of
from onward.algorithms.error_pieces import Edge, Stretch
from onward.algorithms.windows import chunk_length
from onward.integers import is_integer
from onward.jacobian import as_matrix
from onward.network import Network

MOST_EDGES = 64  # errors are kept at so many edges at a time; a longer window is cut at two or more levels


class ForwardErrors(Algorithm):
    """Propagates errors forward in time: a warm-up finds the error at the start, from which it runs on with the states.

    BPTT's errors delta obey a recursion that can be inverted, so that they can be had in the order of time once one
    of them is known; it is linear, so that one forward pass finds that one. With e_t the spatial error at the state
    s_t and eps_t = delta_t - e_t the error that reaches it from later steps (so that eps_T = 0):

        delta_t   = J_t^T delta_{t+1} + e_t                        BPTT                               (1)
        delta_t+1 = J_t^{-T} eps_t,  eps_{t+1} = delta_{t+1} - e_{t+1}                                (2)
        eps_0     = sum_t P_t e_t,   P_t = J_0^T ... J_{t-1}^T     `warmup="accumulate"`              (3)
        eps_0     = -P_T eps'_T,     eps' by (2) from eps'_0 = 0   `warmup="shoot"`, as published     (4)
        eps_0     = -Q^{-1} eps'_T,  Q u = eps''_T - eps'_T,       `warmup="probe"`                   (5)
                                     eps'' by (2) from eps''_0 = u, the unit vectors one by one
        gradient  = sum_t M_t^T delta_t                                                               (6)

    A stack of L layers takes L + 1 passes, the top layer's errors first; a graph the longest path plus one. Probing
    keeps no product P, and takes one more pass for each component that errors may mix: K, or N K in a dense layer.

    (2) loses digits as fast as the network forgets. **Segments** (multiple shooting) keep P and eps over pieces of the
    window; a short sweep over the pieces' edges gives the exact eps at each, where (2) starts anew. With
    `segments="auto"` a piece is a chunk of at most 64 steps, and inside a chunk errors are swept back from its end:
    nothing is inverted, forgetting and singular Jacobians do no harm, and the gradient is exact to rounding. More than
    64 chunks are cut at two levels, more than 64 x 64 at three, so that at most 64 edges of each are kept at a time.

    **Shapes.** N units with K components: eps [N, K]; P [N, K, K] where units do not see each other, [N K, N K]
    elsewhere; at every edge both.
    **Exactness.** Exact on the window (like BPTT it sees nothing of earlier windows). In floating point (2) multiplies
    rounding by the growth of its inverse over a segment: T log10(1 / |lambda|) digits for a diagonal cell.
    **Cost.** Memory besides the inputs: O(1) for one segment, O(n) for n, O(log T) with "auto", which at each level
    of cutting also runs the passes of the layers above once more. Time, per pass, that of a forward pass and of P: O(N)
    a step for a diagonal cell, O(N^3) for others.
    **Arguments.**
    `warmup`: (3), which inverts nothing, (4) or (5).
    `precision`: "float32" or "float64", of errors and Jacobians in (2) to (5); None is the network's.
    `inverse`: "exact", or "first-order": 2 I - J^T for the inverse, right where J is close to I (small time steps).
    `passes`: at least 1; layers that fewer passes do not reach get spatial errors, so that 1 is `SpatialBP`.
    `segments`: None for the whole window in one, a number of equal pieces (at most one a step), or "auto". With
    "auto", options that are about the inverse ("shoot", "probe", "first-order", a precision) mean one segment, since
    nothing else is inverted.
    Warns where the pieces' maps are more numbers than the states that BPTT would keep, as with many pieces of a wide
    dense layer. Raises `ValueError` for values that make no sense, and for "float64" without JAX's 64-bit mode.
    **Departures.** The post's printed formulas have the wrong sign and transposes for the start, and start the second
    phase from 0; (4) is derived anew. Gradients are accumulated, where the authors' code keeps all of T.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time". Segments: Ascher and
    Petzold 1998 on multiple shooting.
    **Example.**

        >>> import onward as ow
        >>> ow.ForwardErrors(), ow.ForwardErrors(warmup="shoot", segments=None)  # the second is as published
        (ForwardErrors(), ForwardErrors(warmup='shoot', segments=None))
    """

    warmup: Literal["accumulate", "shoot", "probe"] = eqx.field(static=True, default="accumulate")
    precision: Literal["float32", "float64"] | None = eqx.field(static=True, default=None)
    inverse: Literal["exact", "first-order"] = eqx.field(static=True, default="exact")
    passes: int | None = eqx.field(static=True, default=None)
    segments: int | Literal["auto"] | None = eqx.field(static=True, default="auto")
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "multi-pass"
    pass_count: ClassVar[str] = "L + 1"
    episodes: ClassVar[bool] = False
    memory: ClassVar[str] = "O(log T) + inputs"
    source: ClassVar[str] = "Zucchet, Pourcel and Ernoult 2026"
    summary: ClassVar[str] = "errors run forward in time from a start that a warm-up pass finds"

    def __check_init__(self):
        known = {
            "warmup": ("accumulate", "shoot", "probe"),
            "precision": (None, "float32", "float64"),
            "inverse": ("exact", "first-order"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"`{name}` must be one of {', '.join(map(repr, values))}, got {getattr(self, name)!r}")
        for name, words in (("passes", (None,)), ("segments", (None, "auto"))):
            value = getattr(self, name)
            if not is_integer(value, 1) and value not in words:
                raise ValueError(
                    f"`{name}` must be a positive integer or {' or '.join(map(repr, words))}, got {value!r}"
                )

    def init_memory(self, network: Network):
        return {}

    def check(self, network: Network) -> None:
        if self.precision == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                '`precision` is "float64", but JAX\'s 64-bit mode is off; call jax.config.update("jax_enable_x64", '
                "True) first, or leave `precision` out"
            )

    def exact_nodes(self, network: Network) -> frozenset[str]:
        levels, above = levels_of(network), remembering_descendants(network)
        reached = math.inf if self.passes is None else self.passes
        reached = 0 if self.inverse == "first-order" else reached
        return frozenset(name for name in network.nodes if all(levels[cell] < reached for cell in above[name]))

    def run_window(self, network, loss, carry, window):
        levels = levels_of(network)
        needed = max(levels.values(), default=0) + 1
        plan = Plan(self, network, loss, window, levels, min(self.passes or needed, needed))
        inverts = self.warmup != "accumulate" or self.inverse != "exact" or self.precision is not None
        if self.segments == "auto" and not inverts:
            sizes, leaf = _auto_sizes(window.length), plan.swept_chunk
        else:
            pieces = min(self.segments, window.length) if isinstance(self.segments, int) else 1
            sizes, leaf = (-(-window.length // pieces),), plan.forward_segment
        _report_memory(network, levels, sizes, window.length)
        nothing = {name: plan.identity(name, carry.states).constant for name in levels}
        edges = {name: Edge(eps, eps) for name, eps in nothing.items()}
        states, (gradients, value, output) = plan.span(
            sizes, leaf, carry.states, Stretch(0, window.length), edges, None
        )
        return Carry(states, {}), gradients, value, output


def _report_memory(network: Network, levels: Mapping[str, int], sizes: Sequence[int], length: int) -> None:
    """Warn where the maps that are kept at a time are more numbers than the states that BPTT would keep."""
    pieces = sum(-(-whole // size) for whole, size in zip((length, *sizes), sizes, strict=False))
    for name in levels:
        state = as_matrix(network.nodes[name].initial_state())
        block = state.shape[1] if EXACT.stays_within(network.nodes[name]) else state.size
        if pieces > 1 and pieces * (block + 1) > length:
            warnings.warn(
                f"ForwardErrors keeps {pieces} maps of {block} x {block + 1} numbers for node {name!r}, which is more "
                f"than the {length} states of BPTT; fewer segments, or BPTT(checkpoint='sqrt'), need less memory",
                stacklevel=2,
            )


def _auto_sizes(length: int) -> tuple[int, ...]:
    sizes = (chunk_length(length, CHUNK),)
    while length > MOST_EDGES * sizes[0]:
        sizes = (MOST_EDGES * sizes[0], *sizes)
    return sizes
