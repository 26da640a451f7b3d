"""Cells around a cell whose weights they change: some are dropped for a while, or were never there."""

import abc
from typing import Any

import equinox as eqx

from onward.cells.base import Cell, FactoredCell


def _of_cell(name: str) -> Any:
    return property(lambda self: getattr(self.cell, name))


class Wrapped(FactoredCell):
    """A cell that acts as `masked()` does, which is `cell` in other weights; what the cell is, it stays."""

    cell: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def masked(self) -> Any:
        """The cell in the weights with which it acts now."""

    input_size = _of_cell("input_size")
    output_size = _of_cell("output_size")
    recurrence = _of_cell("recurrence")
    unit_local = _of_cell("unit_local")
    recurrent = _of_cell("recurrent")
    invertible = _of_cell("invertible")

    def initial_state(self):
        return self.cell.initial_state()

    def emit(self, state):
        return self.masked().emit(state)

    def transition(self, state, emission, input):
        return self.masked().transition(state, emission, input)

    def project(self, input):
        return self.masked().project(input)

    def recur(self, emission):
        return self.masked().recur(emission)

    def update(self, state, recurrent, drive):
        return self.masked().update(state, recurrent, drive)

    def revert(self, state, drive):
        return self.masked().revert(state, drive)


def is_its_own(cell: Cell) -> bool:
    """Whether the parameters of `cell` are the ones that keep the unit-local contract."""
    return type(cell).effective is Cell.effective
