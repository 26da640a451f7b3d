"""E-prop: eligibility traces inside units."""

import functools
from typing import ClassVar, Literal

import equinox as eqx

from onward.algorithms.feedback import check_matrices, fed_cells, sweep
from onward.algorithms.sensitivity import ForwardSensitivity, exact_nodes, run_window
from onward.integers import is_integer
from onward.modules import Feedback
from onward.network import Network
from onward.unroll import Rule


class EProp(ForwardSensitivity):
    """E-prop: traces that follow a parameter's influence inside its unit, with what units broadcast held fixed.

    With D_t = partial s_{t+1} / partial s_t at a fixed emission:

        trace_t  = M_t + D_{t-1} trace_{t-1}                                        (1)
        gradient = sum_t e_t trace_t                                                (2)

    `depth="spatial"`: own-layer traces times the error backpropagated through the network at step t, the common
    choice. `depth="traces"`: Millidge's nested recursion, in which traces are handed up, with m any cell above the
    parameters and p the cells that it reads:

        trace^m_t = D^m_{t-1} trace^m_{t-1} + sum_p (partial s^m_t / partial emission^p_t) trace^p_t       (3)

    `feedback` says how the error gets from the output to what cells emit. "symmetric": through the weights. Otherwise

        e^m_t = B_m (partial l_t / partial output_t)                                (4)

    with "random" matrices that stay, or "adaptive" ones that learn what a readout would, sum_t emission^m_t (partial
    l_t / partial output_t)^T, and so align with it where both have the same updates and weight decay. With "spatial"
    every cell below the output gets (4), and nothing is handed down from cell to cell; with "traces" only cells that
    reach the output through memoryless nodes do, and the influence of lower ones is in the traces. Memoryless nodes
    between cells and output learn by the true error, those below a cell by what its step makes of (4); a cell that is
    the output itself has no weights above it, and keeps the true error. **RFLO** is
    `EProp(feedback="random")` on a `LeakyRNN` layer.

    **Shapes.** K components a unit, P parameters: own-layer trace [K, P]; with "traces" also [N_m K_m, P] for every
    cell m above, whose units each mix all of the layer below. B_m: [emission of m, output].
    **Exactness.** As SnAp for diagonal layers; biased for cells that read their own emission (tanh, GRU, LSTM), where
    it drops the paths through it. With "traces" exact for stacks of diagonal cells. With "random" and "adaptive"
    feedback, exact only for what is above the top cell; the gradient of adaptive matrices is none of the loss's.
    **Cost.** "spatial": memory O(P), time O(P) a step. "traces": memory O(N_m P).
    **Arguments.** `depth`: "spatial" or "traces". `feedback`: "symmetric", "random" or "adaptive". `seed`: of random
    matrices, which depend on it, on the cells' names and on sizes alone; a network with matrices of its own
    (`onward.with_feedback`) has those used instead.
    **Raises.** `ValueError` for other values; for "adaptive" on a network without matrices.
    **Source.** Bellec et al. 2020, eqs 2-4 (and random and adaptive e-prop), doi:10.1038/s41467-020-17236-y;
    Millidge, "Deep e-prop", eqs 9-11; Murray 2019 (RFLO), doi:10.7554/eLife.43299; Kolen and Pollack 1994.
    """

    depth: Literal["spatial", "traces"] = eqx.field(static=True, default="spatial")
    feedback: Literal["symmetric", "random", "adaptive"] = eqx.field(static=True, default="symmetric")
    seed: int = eqx.field(static=True, default=0)
    source: ClassVar[str] = "Bellec et al. 2020; Millidge (deep e-prop); Murray 2019 (RFLO)"
    summary: ClassVar[str] = "eligibility traces inside units, emissions held fixed; depth spatial or nested traces"

    def __check_init__(self):
        if self.depth not in ("spatial", "traces"):
            raise ValueError(f"`depth` must be 'spatial' or 'traces', got {self.depth!r}")
        if self.feedback not in ("symmetric", "random", "adaptive"):
            raise ValueError(f"`feedback` must be 'symmetric', 'random' or 'adaptive', got {self.feedback!r}")
        if not is_integer(self.seed, 0):
            raise ValueError(f"`seed` must be an integer of at least 0, got {self.seed!r}")

    @property
    def rule(self) -> Rule:
        return Rule(time="within", depth="spatial" if self.depth == "spatial" else "all")

    def check(self, network: Network) -> None:
        super().check(network)
        if self.feedback != "symmetric":
            check_matrices(network, self.rule, adaptive=self.feedback == "adaptive")

    def run_window(self, network, loss, carry, window):
        if self.feedback == "symmetric":
            return super().run_window(network, loss, carry, window)
        options = {"seed": self.seed, "adaptive": self.feedback == "adaptive"}
        errors = functools.partial(sweep, network, self.rule, **options)
        return run_window(network, self.rule, loss, carry, window, errors)

    def exact_nodes(self, network: Network) -> frozenset[str]:
        nodes = exact_nodes(network, self.rule)
        if self.feedback == "symmetric":
            return nodes
        below = [network.ancestors(cell) for cell in fed_cells(network, self.rule)]
        learnt = [name for name, node in network.nodes.items() if isinstance(node, Feedback)]
        return nodes.difference(*below, learnt if self.feedback == "adaptive" else ())
