"""A report as one HTML page that opens without a network: its frame, sections and tables."""

import html
import importlib.resources
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A heading, a line about what is below it, and that, as HTML."""

    heading: str
    text: str
    content: str


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells as text, the first with a key of a colour; `note` stands in place of the others."""

    cells: Sequence[str]
    colour: str = "transparent"
    note: str = ""


def page(
    title: str, summary: str, sections: Iterable[Section], *, facts: Mapping[str, str], config: str, footer: str
) -> str:
    """The page, as text: `summary` under the title, the sections, `facts` about the run and its configuration."""
    template = string.Template(importlib.resources.files("onward").joinpath("page_template.html").read_text("utf-8"))
    pairs = [(html.escape(name), html.escape(text)) for name, text in facts.items()]
    return template.substitute(
        title=html.escape(title),
        summary=html.escape(summary),
        sections="\n".join(map(_section, sections)),
        facts="".join(f"<tr><th scope=row>{name}</th><td>{text}</td></tr>" for name, text in pairs),
        config=html.escape(config),
        footer=html.escape(footer),
    )


def framed(svg: str) -> str:
    """A drawing as the content of a section."""
    return f"<figure>{svg}</figure>"


def table(head: Sequence[str], rows: Iterable[Row], *, left: int, notes: Iterable[str] = ()) -> str:
    """A table of figures as the content of a section, with remarks below; column `left` holds words."""
    side = lambda place: " class=left" if place == left else ""  # noqa: E731
    heads = "".join(f"<th scope=col{side(i)}>{html.escape(name)}</th>" for i, name in enumerate(head))
    body = []
    for row in rows:
        cells = [html.escape(text) for text in row.cells]
        key = f'<span class=key style="background:{row.colour}"></span>'
        rest = "".join(f"<td{side(i)}>{cell}</td>" for i, cell in enumerate(cells) if i)
        if row.note:
            rest = f"<td colspan={len(head) - 1}>{html.escape(row.note)}</td>"
        body.append(f"<tr><th scope=row>{key}{cells[0]}</th>{rest}</tr>")
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    whole = f"<table class=results><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f"<div class=scroll>{whole}</div>\n<ul>{listed}</ul>"


def _section(section: Section) -> str:
    text = f"<p>{html.escape(section.text)}</p>\n" if section.text else ""
    return f"<section>\n<h2>{html.escape(section.heading)}</h2>\n{text}{section.content}\n</section>"
