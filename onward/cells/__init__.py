"""Recurrent layers as pure functions of one step."""

from onward.cells.base import Cell as Cell
from onward.cells.base import FactoredCell as FactoredCell
from onward.cells.diagonal import LRU as LRU
from onward.cells.diagonal import RTU as RTU
from onward.cells.diagonal import IndRNN as IndRNN
from onward.cells.dropout import LockedDropout as LockedDropout
from onward.cells.dropout import WeightDrop as WeightDrop
from onward.cells.gated import GRU as GRU
from onward.cells.gated import LSTM as LSTM
from onward.cells.gated import ElementwiseLSTM as ElementwiseLSTM
from onward.cells.pooling import CumulativeMean as CumulativeMean
from onward.cells.reversible import Leapfrog as Leapfrog
from onward.cells.reversible import RevGRU as RevGRU
from onward.cells.reversible import RevLSTM as RevLSTM
from onward.cells.rnn import RNN as RNN
from onward.cells.rnn import AntisymmetricRNN as AntisymmetricRNN
from onward.cells.rnn import LeakyRNN as LeakyRNN
from onward.cells.sparse import Sparse as Sparse
from onward.cells.spiking import ALIF as ALIF
from onward.cells.spiking import LIF as LIF
