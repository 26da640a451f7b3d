"""Sparse n-step approximation of real-time recurrent learning."""

from typing import ClassVar

import equinox as eqx

from onward.algorithms.sensitivity import ForwardSensitivity
from onward.unroll import Rule


class SnAp(ForwardSensitivity):
    """SnAp-1: real-time recurrent learning that keeps a parameter's influence on its own unit only.

    Within a layer, with D_t the diagonal blocks of the layer's Jacobian (a unit's new state by its own old state, its
    own emission included):

        S_t      = M_t + D_{t-1} S_{t-1}                                     (1)
        gradient = sum_t e_t S_t                                             (2)

    Across layers e_t is the error backpropagated through the network at step t (spatial credit), as in online
    learning of linear recurrent units (Zucchet et al. 2023).

    **Shapes.** K state components a unit, P parameters of the layer: trace [K, P].
    **Exactness.** Exact for a diagonal layer (LRU, IndRNN) with no parameters below it, and for everything above the
    top recurrent layer; elsewhere biased by the influence between units and through the time of upper layers.
    **Cost.** Memory O(P), none in T; time O(P) a step.
    **Arguments.** `n`: the number of steps after which influence is dropped; 1 is supported. Raises `ValueError`
    otherwise.
    **Departures.** Menick et al. take the sparsity pattern of the whole network's step, in which a lower layer's
    parameters touch upper states at once; here patterns are per layer, as above.
    **Source.** Menick et al. 2021, section 3, arXiv:2006.07232; Zucchet et al. 2023, arXiv:2305.15947.
    """

    n: int = eqx.field(static=True, default=1)
    source: ClassVar[str] = "Menick et al. 2021; Zucchet et al. 2023"
    summary: ClassVar[str] = "diagonal RTRL: each parameter's influence on its own unit; spatial credit in depth"

    def __check_init__(self):
        if self.n != 1:
            raise ValueError(
                f"SnAp keeps influences of one step (`n` = 1), got n = {self.n!r}; for all of them use RTRL"
            )

    @property
    def rule(self) -> Rule:
        return Rule(time="own", depth="spatial")
