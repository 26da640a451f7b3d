"""The study of digits: its kinds of numbers are as precise as they claim, and they end where theory says."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onward.reproduce import precision
from onward.reproduce.numbers import KINDS, DoubleDouble, LogPolar, make_decimal
from onward.reproduce.precision import Precision, Settings, gradient
from onward.reproduce.precision_report import FORWARD, METHODS, exhausted, overflowed, slope
from onward.reproduce.study import run

DOUBLE_DOUBLE = 1e-31
SETTINGS = Settings(
    xs=(*range(1, 50, 6), 300, 312, 345),
    lengths=(64, 350),
    decimal_xs=(4, 12, 30),
    decimal_lengths=(32,),
    repetitions=3,
)


@pytest.fixture(scope="module")
def rows():
    """All kinds at T = 64, and two at T = 350, where |lambda| allows x to reach the range of float64."""
    study = Precision()
    points = [
        point
        for point in study.points(SETTINGS, 0)
        if point["T"] < 350 or (point["kind"] in ("float64", "log float64") and point["warmup"] in FORWARD)
    ]
    return [{**point, **study.measure(SETTINGS, point, [])} for point in points]


def line(rows, kind, method, length=64):
    """In the order of x."""
    wanted = {"kind": kind, "warmup": method, "T": length}
    return sorted((row for row in rows if wanted.items() <= row.items()), key=lambda row: row["x"])


def normal(seed, *shape):
    real, imag = np.random.default_rng(seed).normal(size=(2, *shape))
    return (real + 1j * imag).astype(np.complex64).astype(complex)


def problem(x=2.0, length=20):
    lam = 10 ** (-x / length) * np.exp(1j * np.asarray([[0.3, 2.0, -1.2]]))
    return lam, normal(1, length, 1, 3), normal(2, length, 1, 3)


def double_doubles(seed, count=200):
    """Values with all their digits, over forty orders of magnitude."""
    rng = np.random.default_rng(seed)
    high = rng.normal(size=count) * 10.0 ** rng.integers(-20, 20, count)
    return DoubleDouble(high, high * rng.uniform(-1, 1, count) * 2.0**-54)


def fractions(value):
    return [Fraction(high) + Fraction(low) for high, low in zip(value.high, value.low, strict=True)]


@pytest.mark.parametrize("operation", ["+", "-", "*", "/"])
def test_double_double_has_31_digits(operation):
    compute = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }[operation]
    a, b = double_doubles(0), double_doubles(1)
    found = compute(a, b)
    exact = [compute(p, q) for p, q in zip(fractions(a), fractions(b), strict=True)]
    errors = [abs(p / q - 1) for p, q in zip(fractions(found), exact, strict=True)]
    assert max(errors) < DOUBLE_DOUBLE
    alone = compute(a.high, b.high)  # the negative control: the leading parts have 16 digits
    assert max(abs(Fraction(p) / q - 1) for p, q in zip(alone, exact, strict=True)) > 1e-17


def test_double_double_keeps_what_cancels():
    one = DoubleDouble(np.ones(1), np.zeros(1))
    tiny = DoubleDouble(np.full(1, 2.0**-80), np.zeros(1))
    assert fractions((one + tiny) - one) == [Fraction(2) ** -80]
    assert (1.0 + 2.0**-80) - 1.0 == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_agree_with_complex128(kind):
    a, b = normal(3, 50), normal(4, 50)
    numbers, bound = KINDS[kind], 50 * 10 ** -min(KINDS[kind].digits, 16)
    p, q = numbers.make(a), numbers.make(b)
    pairs = [(p + q, a + b), (p - q, a - b), (p * q, a * b), (p / q, a / b), (p.conjugate(), a.conj())]
    for found, expected in pairs:
        real, imag = (part.astype(float) for part in numbers.exact(found))
        np.testing.assert_allclose(real + 1j * imag, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logs_have_zeros_and_no_overflow(dtype):
    numbers = KINDS[f"log {dtype}"]
    zero, one = numbers.make(np.zeros(1, complex)), numbers.make(np.ones(1, complex))
    with np.errstate(divide="ignore", invalid="ignore"):
        for total in (zero + one, one + zero, one - zero):
            assert (total.log, total.turns) == (0, 0)
        assert np.isneginf((zero + zero).log)
        assert np.isneginf((zero * one).log)
    large = LogPolar(np.full(1, 3000, dtype), np.zeros(1, dtype))
    assert (large * large).log == 6000
    assert (large + one).log == 3000
    assert large.log.dtype == (large + large).log.dtype == (large - one).turns.dtype == dtype


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [*KINDS, "decimal"])
def test_gradient_is_that_of_autodiff(kind, method):
    """sum_t Re(conj(e_t) h_t) has the given errors; its derivatives by the two parts of lambda are the gradient."""
    lam, inputs, errors = problem()

    def loss(parts):
        def step(h, t):
            h = (parts[0] + 1j * parts[1]) * h + t[0]
            return h, jnp.sum(jnp.real(jnp.conj(t[1]) * h))

        return jax.lax.scan(step, jnp.zeros(lam.shape, complex), (jnp.asarray(inputs), jnp.asarray(errors)))[1].sum()

    expected = jax.grad(loss)((jnp.asarray(lam.real), jnp.asarray(lam.imag)))
    make = make_decimal if kind == "decimal" else KINDS[kind].make
    with np.errstate(divide="ignore", invalid="ignore"):
        found = gradient(make, lam, inputs, errors, method)
    parts = (found.real, found.imag) if kind == "decimal" else KINDS[kind].exact(found)
    scale = np.abs(np.asarray(expected)).max()
    bound = (1e-2 if "float32" in kind else 1e-11) * scale
    for part, other in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part.astype(float), other, rtol=0, atol=bound)


@pytest.mark.parametrize("wrong", ["lambda", "errors"])
def test_gradient_sees_what_it_is_given(wrong):
    """The negative control: another lambda or other errors in the last step only, and the gradient is another."""
    lam, inputs, errors = problem()
    changed = lam * (1 + 1e-6) if wrong == "lambda" else lam
    other = errors * np.where(np.arange(len(errors)) == len(errors) - 1, 1 + 1e-6, 1)[:, None, None]
    exact = KINDS["float64"].exact
    make = KINDS["float64"].make
    reference = exact(gradient(make, lam, inputs, errors, "backward"))
    for method in METHODS:
        value = exact(gradient(make, changed, inputs, other if wrong == "errors" else errors, method))
        assert precision.log10_errors(value, reference).min() > -9


@pytest.mark.parametrize("method", FORWARD)
@pytest.mark.parametrize(("kind", "digits"), [("float32", 7.2), ("float64", 16.0), ("double-double", 31.9)])
def test_digits_end_where_x_reaches_them(rows, kind, digits, method):
    for name in {kind, f"log {kind}"} & set(KINDS):
        end = exhausted(line(rows, name, method))
        assert end is not None
        assert digits - 4 < end < digits + 2


def test_backward_loses_nothing_to_x(rows):
    """The negative control: what is lost is lost by the inversion, and not by the numbers."""
    for kind, numbers in KINDS.items():
        some = line(rows, kind, "backward")
        assert (exhausted(some), overflowed(some)) == (None, None)
        assert max(row["log10_error"] for row in some) < -numbers.digits + 4


def test_range_ends_for_floats_and_not_for_logs(rows):
    """Shooting passes through numbers of 10^x; the sum does not, so that its range ends as many digits later."""
    for kind, length, limit, digits in (("float32", 64, 38.5, 7.2), ("float64", 350, 308.3, 16.0)):
        for method, x in (("published", limit), ("accumulate", limit + digits)):
            end = overflowed(line(rows, kind, method, length))
            assert end is not None
            assert abs(end - x) < 10
            assert overflowed(line(rows, f"log {kind}", method, length)) is None


def test_each_power_of_ten_needs_a_digit(rows):
    for method in METHODS:
        fit = slope(rows, method)
        assert fit is not None
        assert abs(fit[0] - (method != "backward")) < 0.12
        assert 1 < fit[1] < 7


def test_figure_and_text(rows):
    study = Precision()
    assert set(study.draw(rows)) == {"precision"}
    text = study.describe(rows)
    for word in (*KINDS, *METHODS, "overflow nowhere", "log float32 is finite at", "Digits needed"):
        assert word in text
    assert study.describe([]) == ""
    assert study.draw(rows[:1])


def test_files(tmp_path, monkeypatch):
    """From measuring to the text, with rows as they are read from the table."""
    small = Settings(xs=(1, 12), lengths=(16,), decimal_xs=(5, 10), decimal_lengths=(16,), repetitions=2)
    monkeypatch.setattr(Precision, "quick", small)
    monkeypatch.setattr(Precision, "draw", lambda self, rows: {})  # slow, and tested above
    text = run(Precision(), tmp_path, quick=True, seed=0, resume=False, say=lambda line: None)
    assert text in (tmp_path / "findings.md").read_text()
    assert "float32 (7.2 digits), published: all digits are wrong from x = " in text
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 3 * (2 * len(KINDS) + 2)


def test_ends_between_rows():
    steps = [
        {"x": float(x), "log10_error": error, "finite": float(error < 9)} for x, error in enumerate((-3, -1, 1, 9))
    ]
    assert exhausted(steps) == 1.5
    assert overflowed(steps) == 2.5
    assert (exhausted(steps[:2]), overflowed(steps[:2])) == (None, None)
    assert exhausted(steps[2:]) == 2


def test_errors_are_exact():
    """1 + 10^-40 differs from 1 in the fortieth digit; what is not finite is infinitely wrong."""
    with localcontext(prec=60):
        value = np.asarray([1 + Decimal(10) ** -40, Decimal("NaN")], object)
    one, zero = np.asarray([Decimal(1)] * 2, object), np.asarray([Decimal(0)] * 2, object)
    found = precision.log10_errors((value, zero), (one, zero))
    assert math.isclose(found[0], -40)
    assert found[1] == math.inf
