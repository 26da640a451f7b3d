"""Tables on the screen."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from onward import gradient_report, report
from onward.cli.running import Job
from onward.diagnostics import Cost
from onward.gradient_report import GradientReport
from onward.report import Comparison

GRADIENT = report.COLUMNS.index("gradient")


def estimates(jobs: Sequence[Job], costs: Mapping[str, Cost]) -> Table:
    """What each algorithm will cost on this network."""
    steps = jobs[0].steps
    table = _table(f"Estimated for {steps:,} batches of {jobs[0].config.batch_size}")
    table.add_column("algorithm", style="bold", no_wrap=True)
    table.add_column("gradient")
    for name in ("carries", "memory", "s / batch", "training"):
        table.add_column(name, justify="right")
    for job in jobs:
        cost = costs[job.choice.slug]
        exact = job.choice.exact_on(job.network, job.task.length)
        total = "–" if cost.seconds is None else duration(cost.seconds * steps)
        table.add_row(
            job.choice.label,
            report.exactness(exact, 0.0, job.choice.algorithm.stochastic),
            report.size(cost.carry),
            report.size(cost.memory),
            report.number(cost.seconds, 3),
            "[red]declined[/red]" if cost.declined else total,
        )
    declined = [
        f"{job.choice.label}: {costs[job.choice.slug].declined}." for job in jobs if costs[job.choice.slug].declined
    ]
    if declined:
        table.caption = " ".join(declined) + " --force runs it all the same."
    return table


def results(comparison: Comparison) -> Table:
    """What came of each algorithm: the table of the report, in fewer words so that it fits a narrow screen."""
    table = _table(f"{comparison.title}: test set, after {comparison.steps:,} batches of {comparison.batch_size}")
    short = {"test loss": "loss", "cosine mean": "cosine", "cosine last": "at end"}
    for index, name in enumerate(report.columns(comparison)):
        text = short.get(name, name).removeprefix("test ").replace(" / ", "/")
        if index == 0:
            table.add_column(text, style="bold", overflow="fold")
        else:
            table.add_column(text, no_wrap=True, justify="left" if index == GRADIENT else "right")
    for result in comparison.results:
        row = report.row(comparison, result)
        row[GRADIENT] = report.exactness(result.exact, 0.0, result.stochastic)
        if result.status != "finished":
            row[1] = f"[red]{result.status}[/red]"
        table.add_row(*row)
    table.caption = "memory: of the compiled training step; gradient, cosine: against BPTT's of the whole sequence"
    return table


def gradients(found: GradientReport, names: Sequence[str]) -> Table:
    """How far each algorithm's gradient is from the exact one, and what it costs; `names`: short ones of them."""
    table = _table(f"{found.title}: {found.facts['Stream']}; weights {found.facts['Weights']}")
    for index, name in enumerate(gradient_report.COLUMNS):
        side = "left" if index < 2 else "right"
        table.add_column(name.replace(" / ", "/"), style="bold" if index == 0 else "", justify=side, no_wrap=index > 0)
    declined = dict(zip(names, found.comparison.declined, strict=True))
    for name, row in zip(names, found.rows(), strict=True):
        table.add_row(escape(name), row[1], "[red]declined[/red]" if declined[name] else row[2], *row[3:])
    reasons = [f"{name}: {reason}." for name, reason in declined.items() if reason]
    reading = "against the exact gradient of each window, through the whole past; ±: what chance adds to the bias"
    table.caption = escape(" ".join([*reasons, reading]))
    return table


def gradient_groups(found: GradientReport, names: Sequence[str]) -> Table:
    """Cosine by group of parameters, coloured."""
    cosines = found.comparison.overall("cosine")
    table = _table("Cosine with the exact gradient, by group of parameters")
    table.add_column("", style="bold", overflow="fold")
    for place in found.run:
        table.add_column(escape(names[place]), justify="right", overflow="fold")
    for group, name in enumerate(found.comparison.groups):
        table.add_row(escape(name), *(_coloured(float(cosines[place, group])) for place in found.run))
    return table


def _coloured(cosine: float) -> str:
    colours = ((0.99, "green"), (0.9, "bright_green"), (0.5, "yellow"), (-1.1, "red"))
    style = next((name for least, name in colours if cosine >= least), "dim")
    return f"[{style}]{report.number(cosine, 3)}[/{style}]"


def duration(seconds: float) -> str:
    """A time that a person can read, such as `2 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if seconds < 600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def metrics(title: str, values: Mapping[str, float]) -> str:
    """What an evaluation found, as a few lines."""
    shown = {
        name: f"{100 * value:.2f} %" if name == "accuracy" else report.number(value) for name, value in values.items()
    }
    width = max(map(len, shown))
    return "\n".join([title, *(f"  {name.replace('_', ' '):<{width}}  {text}" for name, text in shown.items())])
