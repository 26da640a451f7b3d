"""Spatial backpropagation: no credit through time."""

from typing import ClassVar

from onward.algorithms.sensitivity import ForwardSensitivity
from onward.unroll import Rule


class SpatialBP(ForwardSensitivity):
    """Backpropagation through the network of each step alone; nothing passes through time.

        gradient = sum_t e_t M_t,     e_t = partial l_t / partial s_t through everything memoryless      (1)

    **Exactness.** Exact for what is above the top recurrent layer; elsewhere biased by all dependence on the past.
    The lower bound of what online learning must beat. The same as `NthOrder(0)`.
    **Cost.** Memory O(1), time O(P) a step.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time" (their baseline).
    """

    source: ClassVar[str] = "Zucchet, Pourcel and Ernoult 2026"
    summary: ClassVar[str] = "backpropagation within each step only; ignores time"

    @property
    def rule(self) -> Rule:
        return Rule(time="none", depth="spatial")
