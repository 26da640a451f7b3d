"""Real-time recurrent learning."""

from typing import ClassVar, Literal

import equinox as eqx

from onward.algorithms.base import Carry
from onward.algorithms.lazy import catch_up, init_postponed, run_step
from onward.algorithms.sensitivity import ForwardSensitivity
from onward.integers import is_integer
from onward.unroll import Rule


class RTRL(ForwardSensitivity):
    """Real-time recurrent learning: the exact gradient, forward in time, for any depth, any graph and any cell.

    The influence of every parameter on every state is carried along, so no past is stored:

        S_t      = M_t + decay J_{t-1} S_{t-1},   J_t = d s_{t+1} / d s_t,  M_t = partial s_t / partial theta     (1)
        gradient = sum_t e_t S_t,                 e_t = partial l_t / partial s_t                                 (2)

    A state of K components R^1 ... R^K, in the order of its leaves (LSTM: h and c; ALIF: voltage and adaptation), is K
    interacting loops, and (1) by components is the discrete forward sensitivity equation

        S^k_t = dR^k_t / d theta + decay sum_l (dR^k_t / dR^l_{t-1}) S^l_{t-1},    l over the terms kept          (3)

    `cross_terms="all"` keeps every l; "directional" drops dR^k_t / dR^l_{t-1} for l < k, so that a component hears of
    itself and of later ones (LSTM: h of c, c not of h); "reversed" drops those for l > k. What a component does through
    the emission is part of these terms. Across layers nothing is dropped: a graph is directional by itself, and blocks
    that are zero (states of layers below a parameter's) are neither computed nor stored.

    **Shapes.** N units with K components, P parameters below or in the layer: influence [N K, P]; for diagonal cells
    (LRU, IndRNN) and their own parameters [K, P].
    **Units.** `decay` in (0, 1], a factor per step.
    **Exactness.** Exact with decay 1, all cross terms and parameters that stay fixed; with decay < 1 biased towards
    short dependencies. Where parameters change between windows the carried influence belongs to the older parameters:
    the gradient is that by a common shift of the parameters of all steps so far, each at its own values. With half of
    the cross terms exact for cells of one component (RNN, GRU), which have none, and biased elsewhere: the source's
    "recurrency-abstraction theorem" says that one direction of each pair vanishes, but in an LSTM neither does, nor
    in two tanh loops that read each other concatenated (`onward reproduce iterative-bptt` measures it).
    **Cost.** Memory O(N P), none in T. Time a step: O(N^2 P) for windows of one step, O(N P) for windows of N steps
    or more (errors swept back inside a window, influence moved once at its edge) and O(N P + N^2 P / k) for those of
    one step with `lazy=k`; O(P) for diagonal cells.
    **Arguments.** `decay`: attenuation against temporal gradient explosion. `lazy`, for windows of one step: the
    influence of the parameters of dense cells is brought up to date once in so many steps, by one product, and errors
    are taken back through the steps since; the same gradient to rounding, also where parameters change at every step,
    for a fraction of the time (16 was best for 128 units) and `lazy` (K^2 N^2 + K P) more memory for a layer and
    sequence. Other nodes' influence (embeddings, maps, diagonal cells) moves at every step. A longer window first
    catches up. `cross_terms`: which terms of (3) are kept; dropping some saves no time here, since the influence moves
    by one product of all components.
    **Raises.** `ValueError` where `decay` is outside (0, 1], `lazy` no positive integer or `cross_terms` another word.
    **Source.** Williams and Zipser 1989, eq. 12, doi:10.1162/neco.1989.1.2.270; the windowed form Schmidhuber 1992,
    doi:10.1162/neco.1992.4.2.243. (3), `decay` and the claim about cross terms: "Exact iterative BPTT", eqs 1-5 and
    sections 2.1.1 and 2.2.
    **Departures.** The note's eq. 5 goes from the loss to R_{t-1}, across the present step's terms; here (2) goes to
    R_t, so that terms which are dropped are dropped at the present step too.
    **Example.**

        >>> import onward as ow
        >>> ow.RTRL(), ow.RTRL(decay=0.99)
        (RTRL(), RTRL(decay=0.99))
    """

    decay: float = eqx.field(static=True, default=1.0)
    lazy: int | None = eqx.field(static=True, default=None)
    cross_terms: Literal["all", "directional", "reversed"] = eqx.field(static=True, default="all")
    source: ClassVar[str] = "Williams and Zipser 1989; Exact iterative BPTT"
    summary: ClassVar[str] = "exact forward gradient; carries the influence of every parameter on every state"

    def __check_init__(self):
        if not 0 < self.decay <= 1:
            raise ValueError(
                f"`decay` must be in (0, 1], got {self.decay}; 1 is exact, smaller forgets older influence"
            )
        if self.lazy is not None and not is_integer(self.lazy, 1):
            raise ValueError(f"`lazy` must be None or a positive number of steps, got {self.lazy!r}; try 16")
        if self.cross_terms not in ("all", "directional", "reversed"):
            raise ValueError(f"`cross_terms` must be 'all', 'directional' or 'reversed', got {self.cross_terms!r}")

    def init_memory(self, network):
        return super().init_memory(network) if self.lazy is None else init_postponed(network, self.rule, self.lazy)

    def run_window(self, network, loss, carry, window):
        if self.lazy is None:
            return super().run_window(network, loss, carry, window)
        if window.length == 1:
            return run_step(network, self.rule, loss, carry, window)
        memory = catch_up(network, self.rule, carry.memory)
        carry, *rest = super().run_window(network, loss, Carry(carry.states, memory.influence), window)
        return Carry(carry.states, memory._replace(influence=carry.memory)), *rest

    @property
    def rule(self) -> Rule:
        return Rule(time="all", depth="all", decay=float(self.decay), cross_terms=self.cross_terms)
