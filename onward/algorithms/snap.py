"""Sparse n-step approximation of real-time recurrent learning."""

from typing import ClassVar

import equinox as eqx

from onward.algorithms.pattern import pattern
from onward.algorithms.sensitivity import ForwardSensitivity
from onward.algorithms.sparse_influence import init_sparse, run_step
from onward.algorithms.windows import in_steps
from onward.integers import is_integer
from onward.network import Network
from onward.unroll import Rule


class SnAp(ForwardSensitivity):
    """Real-time recurrent learning that keeps a parameter's influence only on what it reaches in n steps.

    With D_t the Jacobian of the network's step and M_t its immediate derivative, n >= 2 keeps their pattern P:

        S_t      = P o (M_t + D_{t-1} S_{t-1}),   P = pattern of (1 + D + ... + D^{n-1}) M       (1)
        gradient = sum_t e_t S_t                                                                 (2)

    n = 1 keeps less and costs what backpropagation costs: within a layer influence on the own unit alone, so that D_t
    has its diagonal blocks only (the unit's own emission included), and across layers e_t is the error backpropagated
    through the network at step t (spatial credit), as Zucchet et al. (2023) do for linear recurrent units.

    **Shapes.** K state components a unit, P parameters: trace [K, P] for n = 1. For n >= 2 of each unit the components
    it reaches times its parameters, padded to the largest number of each among a layer's units.
    **Exactness.** n = 1: exact for a diagonal layer (LRU, IndRNN) with no parameters below it, and for everything above
    the top recurrent layer; elsewhere biased. n >= 2: exact where nothing more is reached after n steps, which is soon
    the case in dense networks: with one dense layer at n = 2. It is for `Sparse` cells.
    **Cost.** n = 1: memory O(P), time O(P) a step. n >= 2, with k components reached of N and p parameters a unit:
    memory O(N k p), time O(N k^2 p) a step, and that of a few sweeps back through a step. None in T.
    **Arguments.** `n`: the number of steps after which influence is dropped, a positive integer.
    **Departures.** At n = 1 Menick et al. keep influence on upper layers, which parameters below touch at once. At
    n >= 2 parameters of memoryless nodes, and of cells that do not keep the unit-local contract, keep all influence.
    **Source.** Menick et al. 2021, section 3, arXiv:2006.07232; Zucchet et al. 2023, arXiv:2305.15947.
    """

    n: int = eqx.field(static=True, default=1)
    source: ClassVar[str] = "Menick et al. 2021; Zucchet et al. 2023"
    summary: ClassVar[str] = "influence on what is reached in n steps; n = 1 the own unit, with spatial credit in depth"

    def __check_init__(self):
        if not is_integer(self.n, 1):
            raise ValueError(f"`n` must be a positive number of steps, got {self.n!r}; 1 keeps the own unit")

    @property
    def rule(self) -> Rule:
        return Rule(time="own", depth="spatial") if self.n == 1 else Rule()

    def check(self, network: Network) -> None:
        if self.n == 1:
            super().check(network)

    def init_memory(self, network):
        return init_sparse(network, self.n) if self._is_sparse(network) else super().init_memory(network)

    def run_window(self, network, loss, carry, window):
        if not self._is_sparse(network):
            return super().run_window(network, loss, carry, window)
        run = lambda carry, step: run_step(network, self.n, loss, carry, step)  # noqa: E731
        return in_steps(self, network, run, carry, window)

    def exact_nodes(self, network: Network) -> frozenset[str]:
        if self.n == 1:
            return super().exact_nodes(network)
        supports = pattern(network.effective(), self.n).supports
        return frozenset(name for name in network.nodes if name not in supports or supports[name].closed)

    def _is_sparse(self, network):
        """Whether there is influence that n steps leave out; if not, this is real-time recurrent learning."""
        return self.n > 1 and bool(pattern(network, self.n).supports)
