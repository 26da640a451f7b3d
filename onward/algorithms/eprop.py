"""E-prop: eligibility traces inside units."""

from typing import ClassVar, Literal

import equinox as eqx

from onward.algorithms.sensitivity import ForwardSensitivity
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

    **Shapes.** K components a unit, P parameters: own-layer trace [K, P]; with "traces" also [N_m K_m, P] for every
    cell m above, whose units each mix all of the layer below.
    **Exactness.** As SnAp for diagonal layers; biased for cells that read their own emission (tanh, GRU, LSTM), where
    it drops the paths through it. With "traces" exact for stacks of diagonal cells.
    **Cost.** "spatial": memory O(P), time O(P) a step. "traces": memory O(N_m P).
    **Arguments.** `depth`: "spatial" or "traces". Raises `ValueError` otherwise.
    **Source.** Bellec et al. 2020, eqs 2-4, doi:10.1038/s41467-020-17236-y; Millidge, "Deep e-prop", eqs 9-11.
    """

    depth: Literal["spatial", "traces"] = eqx.field(static=True, default="spatial")
    source: ClassVar[str] = "Bellec et al. 2020; Millidge (deep e-prop)"
    summary: ClassVar[str] = "eligibility traces inside units, emissions held fixed; depth spatial or nested traces"

    def __check_init__(self):
        if self.depth not in ("spatial", "traces"):
            raise ValueError(f"`depth` must be 'spatial' or 'traces', got {self.depth!r}")

    @property
    def rule(self) -> Rule:
        return Rule(time="within", depth="spatial" if self.depth == "spatial" else "all")
