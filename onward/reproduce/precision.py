"""How many digits it takes to run errors forward through a network that forgets, and which numbers give them."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from onward.figures import COLOURS, DASHES, GREY, TITLE
from onward.reproduce.numbers import KINDS, Exact, make_decimal
from onward.reproduce.study import Row, Study, panels

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]  # lambda, inputs, errors
METHODS = ("published", "accumulate", "backward")
FORWARD = METHODS[:2]
REFERENCE_DIGITS = 60
WANTED = 1e-2  # two digits of the gradient are right
SMALLEST_MODULUS = 0.1
NO_ERROR = Decimal(10) ** (-2 * REFERENCE_DIGITS)  # squared
COLOUR = {"float32": COLOURS[1], "float64": COLOURS[0], "double-double": COLOURS[2]}
TITLES = {"published": "published: eps_0 by shooting", "accumulate": "accumulate: eps_0 as a sum"}
MARKERS = ("o", "s", "^", "D")
SMALL_RIGHT: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "top"}
SMALL_END: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "bottom"}
SMALL_MIDDLE: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "center"}


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
        figure, axes = panels(2, 2, height=3.6)
        for axis, method in zip(axes[0], FORWARD, strict=True):
            _draw_errors(axis, rows, method)
        _draw_limits(axes[1][0], rows)
        _draw_digits(axes[1][1], rows)
        return {"precision": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        return "\n\n".join(
            part for part in (_say_limits(rows), _say_collapse(rows), _say_logs(rows), _say_digits(rows)) if part
        )


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


def _some(rows: Sequence[Row], **wanted) -> list[Row]:
    return sorted(
        (row for row in rows if all(row[key] == value for key, value in wanted.items())), key=lambda row: row["x"]
    )


def _lines(rows: Sequence[Row], kind: str, method: str) -> list[list[Row]]:
    """One for each T, in the order of x."""
    some = _some(rows, kind=kind, warmup=method)
    return [_some(some, T=length) for length in sorted({row["T"] for row in some})]


def exhausted(line: Sequence[Row]) -> float | None:
    """The x where the error becomes as large as the gradient, between two rows; None if it does not."""
    for before, row in zip((None, *line), line, strict=False):
        if row["log10_error"] >= 0:
            if before is None or not math.isfinite(row["log10_error"]):
                return float(row["x"])
            share = before["log10_error"] / (before["log10_error"] - row["log10_error"])
            return before["x"] + share * (row["x"] - before["x"])
    return None


def overflowed(line: Sequence[Row]) -> float | None:
    """The middle between the last x with finite results and the first without; None if all are finite."""
    for before, row in zip((None, *line), line, strict=False):
        if row["finite"] < 0.5:
            return float(row["x"]) if before is None else (before["x"] + row["x"]) / 2
    return None


def slope(rows: Sequence[Row], method: str) -> tuple[float, float] | None:
    """Digits needed as a + b x, by least squares: (b, a)."""
    some = _some(rows, kind="decimal", warmup=method)
    if len({row["x"] for row in some}) < 2:
        return None
    b, a = np.polyfit([row["x"] for row in some], [row["digits"] for row in some], 1)
    return float(b), float(a)


def _draw_errors(axis, rows: Sequence[Row], method: str) -> None:
    """Error against x: colour is the mantissa, dashes the log domain, markers T; pale, backward at the largest T."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axis.axhline(0, color=GREY, linewidth=0.8)
    for kind in KINDS:
        for line, marker in zip(_lines(rows, kind, method), MARKERS, strict=False):
            axis.plot(*_xy(line), marker=marker, markevery=4, markersize=3.2, linewidth=1, **_style(kind))
        ends = [x for x in map(exhausted, _lines(rows, kind, method)) if x is not None]
        if kind in COLOUR and ends:
            middle = float(np.median(ends))
            axis.axvline(middle, color=COLOUR[kind], linewidth=0.8, linestyle=DASHES[2])
            axis.text(middle + 0.4, -35.6, f"{middle:.1f}", color=COLOUR[kind], fontsize=8, va="bottom")
        for line in _lines(rows, kind, "backward")[-1:] if kind in COLOUR else []:
            axis.plot(*_xy(line), color=COLOUR[kind], alpha=0.45, linewidth=1.2)
            axis.text(49.5, line[-1]["log10_error"] - 0.6, "backward", color=COLOUR[kind], **SMALL_RIGHT)
    axis.set_xlim(0, 50)
    axis.set_ylim(-36, 6)
    axis.yaxis.set_major_locator(MultipleLocator(6))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:g}}}$"))
    axis.set_title(TITLES[method], **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|)")
    axis.set_ylabel("relative error of the gradient")
    axis.tick_params(length=0)
    if method == FORWARD[0]:
        legend = axis.legend(handles=_key(rows), fontsize=7.5, loc=(0.44, 0.17), ncols=2, columnspacing=0.8)
        legend.get_frame().set(alpha=1, edgecolor="none")


def _draw_limits(axis, rows: Sequence[Row]) -> None:
    """Two bars for each kind of numbers: dark as far as digits reach, pale as far as range does."""
    names = [(kind, method) for kind in KINDS for method in FORWARD if _some(rows, kind=kind, warmup=method)]
    for place, (kind, method) in enumerate(names):
        lines = _lines(rows, kind, method)
        ends = [x for x in map(exhausted, lines) if x is not None]
        overflows = [x for x in map(overflowed, lines) if x is not None]
        colour = _style(kind)["color"]
        reach = max(line[-1]["x"] for line in lines)
        far = float(np.median(overflows)) if overflows else reach
        axis.barh(place, far, color=colour, alpha=0.25, height=0.7)
        if ends:
            axis.barh(place, float(np.median(ends)), color=colour, height=0.7)
            axis.text(float(np.median(ends)) / 1.06, place, f"{np.median(ends):.1f}", color="white", **SMALL_MIDDLE)
        axis.text(
            far * 1.06, place, f"overflow at {far:.0f}" if overflows else "no overflow", fontsize=7.5, va="center"
        )
    axis.set_yticks(range(len(names)), [f"{kind}, {method}" for kind, method in names], fontsize=7.5)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1, 2500)
    axis.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    axis.minorticks_off()
    axis.grid(axis="y", visible=False)
    axis.set_title("Where digits (dark) and range (pale) end", **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|), medians over T")
    axis.tick_params(length=0)


def _draw_digits(axis, rows: Sequence[Row]) -> None:
    """Digits that decimals need, with the line fitted to them, and the digits that kinds of fixed length carry."""
    for index, method in enumerate(METHODS):
        some, colour = _some(rows, kind="decimal", warmup=method), COLOURS[(0, 1, 6)[index]]
        fit = slope(rows, method)
        if fit is None:
            continue
        ends = np.asarray([0, some[-1]["x"]])
        axis.plot(ends, fit[1] + fit[0] * ends, color=colour, linewidth=1, linestyle=DASHES[index])
        axis.plot(
            [row["x"] for row in some],
            [row["digits"] for row in some],
            linestyle="",
            marker="os^"[index],
            markersize=(6, 4, 4)[index],
            markerfacecolor="none" if index == 0 else colour,
            color=colour,
            label=f"{method}: {_linear(fit)}",
        )
    for kind, colour in COLOUR.items():
        digits, across = KINDS[kind].digits, axis.get_yaxis_transform()
        axis.axhline(digits, color=colour, linewidth=0.8, linestyle=DASHES[2])
        axis.text(1, digits + 1, f"{kind}, {digits:.1f}", transform=across, color=colour, **SMALL_END)
    axis.set_title("Digits needed for an error of 1%", **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|)")
    axis.set_ylabel("significant decimal digits")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.tick_params(length=0)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)


def _xy(line: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["x"] for row in line], [row["log10_error"] for row in line]


def _style(kind: str) -> dict[str, Any]:
    return {"color": COLOUR[kind.removeprefix("log ")], "linestyle": DASHES[1] if kind.startswith("log ") else "-"}


def _key(rows: Sequence[Row]) -> list[Any]:
    from matplotlib.lines import Line2D

    lengths = sorted({row["T"] for row in rows if row["kind"] in KINDS})
    return [Line2D([], [], label=kind, **_style(kind)) for kind in KINDS] + [
        Line2D([], [], label=f"T = {length:,}", color=GREY, linestyle="", marker=marker, markersize=4)
        for length, marker in zip(lengths, MARKERS, strict=False)
    ]


def _say_limits(rows: Sequence[Row]) -> str:
    """One line for each kind of numbers and warm-up: where digits and range end."""
    sentences = []
    for kind in KINDS:
        for method in FORWARD:
            lines = _lines(rows, kind, method)
            if lines:
                ends, overflows = list(map(exhausted, lines)), list(map(overflowed, lines))
                digits, last = lines[0][0]["digits"], max(line[-1]["x"] for line in lines)
                sentences.append(
                    f"- {kind} ({digits:.1f} digits), {method}: all digits are wrong {_from(ends, '.1f')}; overflow "
                    f"{_from(overflows, '.0f')} (measured up to {last:.0f})."
                )
    return "\n".join(sentences)


def _say_collapse(rows: Sequence[Row]) -> str:
    """Whether the error is a function of x: its slope before digits run out, and how far apart lengths are."""
    slopes, gaps, backward = [], [], []
    for kind in KINDS:
        for method in FORWARD:
            lines = _lines(rows, kind, method)
            for line in lines:
                some = [row for row in line if row["log10_error"] < 0]
                if len(some) > 2:
                    slopes.append(float(np.polyfit(*_xy(some), 1)[0]))
            for x in {row["x"] for line in lines for row in line}:
                at_x = [row["log10_error"] for row in _some(rows, kind=kind, warmup=method, x=x)]
                if len(at_x) > 1 and max(at_x) < 0:
                    gaps.append(max(at_x) - min(at_x))
        backward += [row["log10_error"] + row["digits"] for row in _some(rows, kind=kind, warmup="backward")]
    if not (slopes and gaps and backward):
        return ""
    return (
        f"The loss follows x: log10 of the error rises with slope {np.median(slopes):.2f} in x (median of all lines, "
        f"as far as digits are left), and at the same x lengths T differ by {np.median(gaps):.1f} digits (median; at "
        f"most {max(gaps):.1f}). Run backward, the same numbers lose at most "
        f"{max(backward):.1f} digits at any x: it is the inversion that loses them."
    )


def _say_logs(rows: Sequence[Row]) -> str:
    """Log-domain numbers against floats of the same mantissa."""
    sentences = []
    for name in KINDS:
        plain = {_place(row): row for row in rows if row["kind"] == name}
        logs = {key: row for row in rows if row["kind"] == f"log {name}" and (key := _place(row)) in plain}
        pairs = [(row, plain[key]) for key, row in logs.items() if row["warmup"] in FORWARD]
        lost = [log for log, other in pairs if other["finite"] < 0.5]
        worse = {}
        for log, other in pairs:
            if other["log10_error"] < 0:
                worse.setdefault(log["T"], []).append(log["log10_error"] - other["log10_error"])
        if worse:
            by_length = ", ".join(f"{np.median(worse[length]):.1f} at T = {length:,}" for length in sorted(worse))
            sentences.append(
                f"- log {name} is finite at {sum(row['finite'] == 1 for row in lost)} of the {len(lost)} points where "
                f"{name} overflows, and has a right digit at {sum(row['log10_error'] < 0 for row in lost)} of them. "
                f"Where {name} has digits left, its error is larger by so many digits (median): {by_length}."
            )
    if not sentences:
        return ""
    return (
        "What the log domain changes (the absolute error of a logarithm is the relative error of its number, and "
        "rises with the logarithm and with every step of a product):\n\n" + "\n".join(sentences)
    )


def _say_digits(rows: Sequence[Row]) -> str:
    fits = {method: fit for method in METHODS if (fit := slope(rows, method))}
    if not fits:
        return ""
    lines = "; ".join(f"{method} {_linear(fit)}" for method, fit in fits.items())
    return (
        f"Digits needed for a relative error of {WANTED:g}, by least squares: {lines}. A longer mantissa moves the "
        "end to a larger x; one that is long enough for every window grows with T, by log10(1 / |lambda|) digits a "
        "step for each unit, so that memory is no longer O(1). Segments keep several ordinary numbers instead."
    )


def _place(row: Row) -> tuple[str, int, Any]:
    return row["warmup"], row["T"], row["x"]


def _linear(fit: tuple[float, float]) -> str:
    return f"{fit[1]:.1f} {'-' if fit[0] < 0 else '+'} {abs(fit[0]):.3f} x"


def _from(values: Sequence[float | None], form: str) -> str:
    """From the least to the largest over T, of those that are known."""
    known = sorted({format(value, form) for value in values if value is not None}, key=float)
    return f"from x = {' to '.join(dict.fromkeys((known[0], known[-1])))}" if known else "nowhere"
