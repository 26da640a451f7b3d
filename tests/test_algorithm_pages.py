"""Every algorithm has a page in the template of its docstring, and the page's example prints what it says."""

import inspect
import re
from pathlib import Path

import pytest

import onward as ow
from tests.claims import CLAIMS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted((DOCS / "algorithms").glob("*.md"))
PARTS = ("Idea", "Equations", "Shapes", "Units", "Exactness", "Cost", "Arguments", "Returns", "Raises", "Departures")
PARTS += ("Source", "Example")


def said(code):
    """What a program's comments say that each `print` prints: after it, or in the line below."""
    return re.findall(r"^print\(.*\)(?:  |\n)# (.*)$", code, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_prints_what_it_says(page, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    exec(compile(code, page.name, "exec"), {})
    assert capsys.readouterr().out.splitlines() == said(code) != []
    assert code.count("print(") == len(said(code))


def test_every_algorithm_has_a_page_that_names_its_parts_and_its_arguments():
    found = {page.read_text().splitlines()[0].removeprefix("# "): page.read_text() for page in PAGES}
    algorithms = {type(claim.algorithm) for claim in CLAIMS}  # a law holds these against what is exported
    assert set(found) == {algorithm.__name__ for algorithm in algorithms}
    overview = (DOCS / "algorithms.md").read_text()
    for algorithm in algorithms:
        text = found[algorithm.__name__]
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.M) == list(PARTS), algorithm
        for argument in list(inspect.signature(algorithm.__init__).parameters)[1:]:
            assert re.search(rf"^\*\*Arguments.*`{argument}`", text, re.M | re.S), (algorithm, argument)
    for page in PAGES:
        assert f"(algorithms/{page.name})" in overview, page


def test_links_lead_to_what_there_is():
    anchors = lambda path: {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings(path)}  # noqa: E731
    headings = lambda path: re.findall(r"^#+ (.*)$", path.read_text(), re.M)  # noqa: E731
    for page in (*PAGES, DOCS / "algorithms.md"):
        for target, _, anchor in re.findall(r"\]\((?!http)([^)#]*)(#([^)]*))?\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists(), (page.name, target)
            assert not anchor or anchor in anchors(path), (page.name, anchor)


def test_the_equations_are_those_of_the_docstrings():
    """A page repeats what the docstring has, so that neither goes its own way: every numbered line is in both."""
    for page in PAGES:
        text = page.read_text()
        lines = {squeezed(line) for line in text.splitlines()}
        algorithm = getattr(ow, text.splitlines()[0].removeprefix("# "))
        mine = [line for line in (inspect.getdoc(algorithm) or "").splitlines() if re.search(r" = .*\(\d\)$", line)]
        assert mine
        for line in mine:
            assert squeezed(line) in lines, (algorithm, line)


def squeezed(line):
    return re.sub(r"\s", "", line)
