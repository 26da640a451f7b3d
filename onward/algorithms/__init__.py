"""Credit-assignment algorithms: one interface, one file each."""

from onward.algorithms.base import Algorithm as Algorithm
from onward.algorithms.base import Carry as Carry
from onward.algorithms.bptt import BPTT as BPTT
from onward.algorithms.eprop import EProp as EProp
from onward.algorithms.forward_errors import ForwardErrors as ForwardErrors
from onward.algorithms.kf_rtrl import KFRTRL as KFRTRL
from onward.algorithms.nth_order import NthOrder as NthOrder
from onward.algorithms.ok import OK as OK
from onward.algorithms.reversible import ReversibleBPTT as ReversibleBPTT
from onward.algorithms.rtrl import RTRL as RTRL
from onward.algorithms.snap import SnAp as SnAp
from onward.algorithms.spatial import SpatialBP as SpatialBP
from onward.algorithms.uoro import UORO as UORO
