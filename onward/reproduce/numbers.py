"""Complex numbers of several kinds, by element over NumPy arrays, for recurrences that outgrow ordinary ones.

`Complex` is made of two real arrays, which may be of float32, of float64, of `decimal.Decimal` (as objects, in the
precision of the current context) or `DoubleDouble`. `LogPolar` keeps the logarithm of the modulus and the phase.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

Exact = tuple[np.ndarray, np.ndarray]  # real and imaginary parts, as objects of type Decimal
TURN = 2 * math.pi
EXACT_DIGITS = 50  # more than any kind here carries
SPLITTER = 2.0**27 + 1  # cuts the 53 bits of a float64 into halves


class Number(abc.ABC):
    """An array of complex numbers; `other` is of the same kind."""

    @abc.abstractmethod
    def __add__(self, other: Any) -> "Number": ...

    @abc.abstractmethod
    def __sub__(self, other: Any) -> "Number": ...

    @abc.abstractmethod
    def __mul__(self, other: Any) -> "Number": ...

    @abc.abstractmethod
    def __truediv__(self, other: Any) -> "Number": ...

    @abc.abstractmethod
    def conjugate(self) -> "Number": ...


@dataclass(frozen=True)
class Complex(Number):
    """Real and imaginary part: two arrays of any real numbers that add, subtract, multiply and divide."""

    real: Any
    imag: Any

    def __add__(self, other):
        return Complex(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other):
        return Complex(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other):
        return Complex(
            self.real * other.real - self.imag * other.imag,
            self.real * other.imag + self.imag * other.real,
        )

    def __truediv__(self, other):
        above = self * other.conjugate()
        below = other.real * other.real + other.imag * other.imag
        return Complex(above.real / below, above.imag / below)

    def conjugate(self):
        return Complex(self.real, -self.imag)


@dataclass(frozen=True)
class LogPolar(Number):
    """Log of the modulus, and phase in turns: products are sums, and sums a complex log-sum-exp.

    The generalised orders of magnitude of Heinsen and Kozachkov 2025 (arXiv:2510.03426), who apply them to real
    numbers. The range is without practical limits. The relative precision is the absolute precision of a logarithm,
    and falls as the modulus gets far from 1. Phases are kept within half a turn of 0, which in turns is exact.
    """

    log: np.ndarray
    turns: np.ndarray

    def __add__(self, other):
        swap = other.log > self.log
        log, smaller = np.where(swap, other.log, self.log), np.where(swap, self.log, other.log)
        turns, small_turns = np.where(swap, other.turns, self.turns), np.where(swap, self.turns, other.turns)
        ratio = np.where(np.isneginf(smaller), 0, np.exp(smaller - log)).astype(log.dtype)  # log 0 is -inf
        angle = TURN * (small_turns - turns)
        real, imag = 1 + ratio * np.cos(angle), ratio * np.sin(angle)
        return LogPolar(log + np.log(np.hypot(real, imag)), _near_zero(turns + np.arctan2(imag, real) / TURN))

    def __sub__(self, other):
        return self + LogPolar(other.log, _near_zero(other.turns + 0.5))

    def __mul__(self, other):
        return LogPolar(self.log + other.log, _near_zero(self.turns + other.turns))

    def __truediv__(self, other):
        return LogPolar(self.log - other.log, _near_zero(self.turns - other.turns))

    def conjugate(self):
        return LogPolar(self.log, -self.turns)


@dataclass(frozen=True)
class DoubleDouble:
    """Real numbers of about 31 digits: the unevaluated sum of two float64 arrays, of which `low` is a rounding error.

    Every operation is made of error-free transformations, which give the rounding error of a float64 sum (Knuth) or
    product (Dekker, Veltkamp) as a float64. The range is that of float64, short of its last eight digits.
    **Source.** Dekker 1971, doi:10.1007/BF01397083. Joldes, Muller and Popescu 2017, doi:10.1145/3121432, bound the
    relative error of this sum and this product by a few 2^-106.
    """

    high: np.ndarray
    low: np.ndarray

    def __add__(self, other):
        high, error = _two_sum(self.high, other.high)
        low, rest = _two_sum(self.low, other.low)
        high, error = _quick_two_sum(high, error + low)
        return DoubleDouble(*_quick_two_sum(high, error + rest))

    def __sub__(self, other):
        return self + -other

    def __neg__(self):
        return DoubleDouble(-self.high, -self.low)

    def __mul__(self, other):
        high, error = _two_product(self.high, other.high)
        return DoubleDouble(*_quick_two_sum(high, error + (self.high * other.low + self.low * other.high)))

    def __truediv__(self, other):
        """Long division: each quotient of leading parts is a digit in base 2^53."""
        first = self.high / other.high
        rest = self - other * DoubleDouble(first, np.zeros_like(first))
        second = rest.high / other.high
        rest = rest - other * DoubleDouble(second, np.zeros_like(second))
        high, low = _quick_two_sum(first, second)
        return DoubleDouble(*_quick_two_sum(high, low + rest.high / other.high))


@dataclass(frozen=True)
class Kind:
    """A kind of numbers: `digits` carried, `make` from a complex128 array, and the `exact` value of what was made."""

    digits: float
    make: Callable[[np.ndarray], Any]
    exact: Callable[[Any], Exact]


def make_decimal(values: np.ndarray) -> Complex:
    """Every value exactly; results of operations on them are rounded to the current context's precision."""
    return Complex(_decimal(np.real(values)), _decimal(np.imag(values)))


def _floats(dtype) -> Kind:
    def make(values: np.ndarray) -> Complex:
        return Complex(np.real(values).astype(dtype), np.imag(values).astype(dtype))

    return Kind(_digits(dtype), make, lambda z: (_decimal(z.real), _decimal(z.imag)))


def _logs(dtype) -> Kind:
    def make(values: np.ndarray) -> LogPolar:
        with np.errstate(divide="ignore"):
            return LogPolar(np.log(np.abs(values)).astype(dtype), (np.angle(values) / TURN).astype(dtype))

    def exact(z: LogPolar) -> Exact:
        """To float64's precision, in which cosines and sines are computed."""
        modulus, angle = _exp(_decimal(z.log)), TURN * z.turns.astype(float)
        return modulus * _decimal(np.cos(angle)), modulus * _decimal(np.sin(angle))

    return Kind(_digits(dtype), make, exact)


def _make_double_double(values: np.ndarray) -> Complex:
    return Complex(*(DoubleDouble(part, np.zeros_like(part)) for part in (np.real(values), np.imag(values))))


def _exact_double_double(z: Complex) -> Exact:
    with localcontext(prec=EXACT_DIGITS):
        real, imag = (_decimal(part.high) + _decimal(part.low) for part in (z.real, z.imag))
    return real, imag


def _digits(dtype) -> float:
    """From the largest relative error of rounding."""
    return -math.log10(float(np.finfo(dtype).eps) / 2)


def _decimal(values: np.ndarray) -> np.ndarray:
    """Exactly; what is not finite becomes NaN, with which `decimal` computes without complaint."""
    return _to_decimal(np.where(np.isfinite(values), values, np.nan).astype(float))


_to_decimal = np.vectorize(lambda value: Decimal(float(value)), otypes=[object])
_exp = np.vectorize(Decimal.exp, otypes=[object])


def _near_zero(turns: np.ndarray) -> np.ndarray:
    return turns - np.round(turns)


def _two_sum(a, b):
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _quick_two_sum(a, b):
    """For |a| >= |b|."""
    total = a + b
    return total, b - (total - a)


def _two_product(a, b):
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a):
    scaled = SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


KINDS: dict[str, Kind] = {
    "float32": _floats(np.float32),
    "log float32": _logs(np.float32),
    "float64": _floats(np.float64),
    "log float64": _logs(np.float64),
    "double-double": Kind(106 * math.log10(2), _make_double_double, _exact_double_double),
}
