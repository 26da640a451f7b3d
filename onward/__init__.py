"""Onward trains recurrent networks forward in time: every alternative to BPTT behind one interface."""

from onward import cells as cells
from onward import interop as interop
from onward import losses as losses
from onward import networks as networks
from onward import optimizers as optimizers
from onward import tasks as tasks
from onward.algorithms import BPTT as BPTT
from onward.algorithms import RTRL as RTRL
from onward.algorithms import Algorithm as Algorithm
from onward.algorithms import Carry as Carry
from onward.algorithms import EProp as EProp
from onward.algorithms import ForwardErrors as ForwardErrors
from onward.algorithms import NthOrder as NthOrder
from onward.algorithms import ReversibleBPTT as ReversibleBPTT
from onward.algorithms import SnAp as SnAp
from onward.algorithms import SpatialBP as SpatialBP
from onward.gradients import value_and_grad as value_and_grad
from onward.network import Network as Network
from onward.network import is_recurrent as is_recurrent
from onward.network import stack as stack
from onward.sample import Estimate as Estimate
from onward.sample import Sample as Sample
from onward.training import Trained as Trained
from onward.training import evaluate as evaluate
from onward.training import train as train
