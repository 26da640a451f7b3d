"""How many digits it takes to run errors forward through a network that forgets, and which numbers give them."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from onward.reproduce.numbers import KINDS, Exact, make_decimal
from onward.reproduce.precision_report import METHODS, WANTED, describe, draw
from onward.reproduce.study import Row, Study

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]  # lambda, inputs, errors
REFERENCE_DIGITS = 60
SMALLEST_MODULUS = 0.1
NO_ERROR = Decimal(10) ** (-2 * REFERENCE_DIGITS)  # squared


@dataclass(frozen=True)
class Settings:
    """`repetitions` of a scalar recurrence, each with its own phase of lambda; |lambda| = 10^(-x / T).

    `xs`: values of x for all `lengths` T and kinds of numbers, where |lambda| is not below `SMALLEST_MODULUS`;
    `decimal_xs`, `decimal_lengths`: where digits needed are searched for.
    """

    xs: tuple[float, ...]
    lengths: tuple[int, ...]
    decimal_xs: tuple[float, ...]
    decimal_lengths: tuple[int, ...]
    repetitions: int


class Precision(Study):
    """What shooting forward takes from numbers: digits as fast as the network forgets, and range.

    h_{t+1} = lambda h_t + x_{t+1} with complex lambda, h_0 = 0, and given errors e_t = dL/dRe h_t + i dL/dIm h_t, so
    that the transposed Jacobian is a multiplication by conj(lambda). `ForwardErrors` and its equations in one unit:

        delta_{t+1} = eps_t / conj(lambda),  eps_{t+1} = delta_{t+1} - e_{t+1}                            (1)
        gradient    = sum_t conj(h_{t-1}) delta_t                                                        (2)
        eps_0       = -conj(lambda)^T eps'_T, from (1) with eps'_0 = 0            "published"            (3)
        eps_0       = sum_t conj(lambda)^t e_t                                    "accumulate"           (4)
        delta_t     = conj(lambda) delta_{t+1} + e_t                              "backward"             (5)

    Division by conj(lambda) magnifies an error of eps_0 by |lambda|^-T = 10^x until the window ends, with
    x = T log10(1 / |lambda|): of D digits, D - x remain, however eps_0 was found. (3) also passes through numbers of
    that size, whose range is the second limit; with (4) it is 10^D times further away.
    **Measured.** The relative error of (2), all of it in one kind of numbers, to (5) with 60 digits.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time", on instability and on
    generalised orders of magnitude as a possible cure.
    """

    name = "precision"
    summary = (
        "Digits needed against T log10(1 / |lambda|): float32, float64, double-double and log-domain numbers; "
        "what each cures and what it cannot."
    )
    full = Settings(
        xs=(*range(1, 36, 2), *range(36, 51), 60, 100, 200, 280, 296, *range(304, 336, 4), 340, 360, 400),
        lengths=(64, 512, 4096),
        decimal_xs=(2, 5, 10, 20, 40, 80, 160),
        decimal_lengths=(64, 256, 1024),
        repetitions=8,
    )
    quick = Settings(
        xs=(*range(1, 50, 4), 150, 290, 305, 320, 335, 350),
        lengths=(64, 512),
        decimal_xs=(5, 20, 60),
        decimal_lengths=(64, 256),
        repetitions=4,
    )

    def points(self, settings: Settings, seed: int) -> Sequence[Row]:
        named = [(kind, length, settings.xs) for length in settings.lengths for kind in KINDS]
        named += [("decimal", length, settings.decimal_xs) for length in settings.decimal_lengths]
        return [
            {"kind": kind, "warmup": method, "T": length, "x": float(x), "seed": seed}
            for kind, length, xs in named
            for method in METHODS
            for x in _possible(xs, length)
        ]

    def measure(self, settings: Settings, point: Row, earlier: Sequence[Row]) -> Row:
        """Medians over repetitions; `digits` are those carried, or for decimals the fewest that suffice.

        Every x of a line is computed with its first row, whose `seconds` are those of the line.
        """
        kind, method, length, x, seed = (point[key] for key in ("kind", "warmup", "T", "x", "seed"))
        if kind == "decimal":
            digits, errors = _fewest_digits((x,), length, settings.repetitions, seed, method, round(x) + 20)
        else:
            xs = tuple(_possible(settings.xs, length))
            errors = _errors(kind, method, xs, length, settings.repetitions, seed)[xs.index(x)]
            digits = KINDS[kind].digits
        return {
            "modulus": 10 ** (-x / length),
            "log10_error": float(np.median(errors)),
            "finite": float(np.isfinite(errors).mean()),
            "digits": float(digits),
        }

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        return draw(rows)

    def describe(self, rows: Sequence[Row]) -> str:
        return describe(rows)


def gradient(make: Callable[[np.ndarray], Any], lam: np.ndarray, inputs: np.ndarray, errors: np.ndarray, method: str):
    """Gradient of lambda in the numbers that `make` makes; `lam` [N, R], `inputs` and `errors` [T, 1, R], complex."""
    zero, one = make(np.zeros(lam.shape, complex)), make(np.ones(lam.shape, complex))
    steps = [(make(x), make(e)) for x, e in zip(inputs, errors, strict=True)]
    run = {"published": _published, "accumulate": _accumulate, "backward": _backward}[method]
    return run(make(lam), zero, one, steps)


def log10_errors(value: Exact, reference: Exact) -> np.ndarray:
    """Logarithm of |value - reference| / |reference|, by element; infinite for what is not finite."""

    def log10_error(real, imag, real_0, imag_0) -> float:
        if not (real.is_finite() and imag.is_finite()):
            return math.inf
        ratio = ((real - real_0) ** 2 + (imag - imag_0) ** 2) / (real_0**2 + imag_0**2)
        return float(max(ratio, NO_ERROR).log10()) / 2

    with localcontext(prec=REFERENCE_DIGITS):
        return np.vectorize(log10_error, otypes=[float])(*value, *reference)


def _published(lam, zero, one, steps):
    back, product, eps = lam.conjugate(), one, zero
    for _, e in steps:
        eps = eps / back - e
        product = product * back
    return _forward(lam, zero, zero - product * eps, steps)


def _accumulate(lam, zero, one, steps):
    back, product, eps = lam.conjugate(), one, zero
    for _, e in steps:
        product = product * back
        eps = eps + product * e
    return _forward(lam, zero, eps, steps)


def _forward(lam, zero, eps, steps):
    back, state, total = lam.conjugate(), zero, zero
    for x, e in steps:
        delta = eps / back
        total = total + state.conjugate() * delta
        eps = delta - e
        state = lam * state + x
    return total


def _backward(lam, zero, one, steps):
    states = [zero]
    for x, _ in steps[:-1]:
        states.append(lam * states[-1] + x)
    back, delta, total = lam.conjugate(), zero, zero
    for state, (_, e) in zip(reversed(states), reversed(steps), strict=True):
        delta = back * delta + e
        total = total + state.conjugate() * delta
    return total


def _possible(xs: Sequence[float], length: int) -> list[float]:
    return [x for x in xs if 10 ** (-x / length) >= SMALLEST_MODULUS]


def _problem(xs: Sequence[float], length: int, repetitions: int, seed: int) -> Problem:
    """Lambda, inputs and errors whose numbers are those of float32, whatever they are computed in."""
    rng = np.random.default_rng([seed, length])
    phases = rng.uniform(0, 2 * np.pi, repetitions)
    normal = rng.normal(size=(2, 2, length, 1, repetitions))
    lam = 10 ** (-np.asarray(xs, float)[:, None] / length) * np.exp(1j * phases)
    arrays = lam, normal[0, 0] + 1j * normal[0, 1], normal[1, 0] + 1j * normal[1, 1]
    lam, inputs, errors = (array.astype(np.complex64).astype(np.complex128) for array in arrays)
    return lam, inputs, errors


@functools.lru_cache(maxsize=2)
def _reference(xs: tuple[float, ...], length: int, repetitions: int, seed: int) -> Exact:
    """One lambda after the other, because every state is kept."""
    lam, inputs, errors = _problem(xs, length, repetitions, seed)
    with localcontext(prec=REFERENCE_DIGITS):
        values = [gradient(make_decimal, row[None], inputs, errors, "backward") for row in lam]
    return np.concatenate([z.real for z in values]), np.concatenate([z.imag for z in values])


@functools.lru_cache(maxsize=2)
def _errors(kind: str, method: str, xs: tuple[float, ...], length: int, repetitions: int, seed: int) -> np.ndarray:
    """`log10_errors` [x, repetition]."""
    with np.errstate(all="ignore"):
        value = gradient(KINDS[kind].make, *_problem(xs, length, repetitions, seed), method)
        return log10_errors(KINDS[kind].exact(value), _reference(xs, length, repetitions, seed))


def _fewest_digits(
    xs: tuple[float, ...], length: int, repetitions: int, seed: int, method: str, most: int
) -> tuple[int, np.ndarray]:
    """The fewest digits that make the median error `WANTED` or less, by bisection, and the errors then."""
    problem = _problem(xs, length, repetitions, seed)
    few, found = 0, (most, np.full(1, math.inf))
    while found[0] - few > 1:
        digits = (few + found[0]) // 2
        with localcontext(prec=digits):
            value = gradient(make_decimal, *problem, method)
        errors = log10_errors((value.real, value.imag), _reference(xs, length, repetitions, seed))
        if np.median(errors) <= math.log10(WANTED):
            found = digits, errors
        else:
            few = digits
    return found
