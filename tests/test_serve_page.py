"""The page of `onward serve`, in a headless Chromium."""

import dataclasses
import itertools
import re

import pytest

pytest.importorskip("starlette", reason="Starlette and uvicorn are not installed")
pytest.importorskip("uvicorn", reason="Starlette and uvicorn are not installed")
pytest.importorskip("httpx")
pytest.importorskip("websockets")

from onward.records import RecordStream
from onward.serve import page
from onward.serve.engine import Engine
from tests import devtools
from tests.serving import SETTINGS, learnt, new, records, served, serving

pytestmark = pytest.mark.skipif(devtools.CHROMIUM is None, reason="there is no Chromium; install the package chromium")
TOKEN = "a-token-that-nobody-guesses"
SHOWN = "!document.getElementById('{}').hidden"


@pytest.fixture(scope="module")
def tab():
    with devtools.browser() as tab:
        yield tab


def text_of(tab, name):
    return tab.evaluate(f"document.getElementById('{name}').textContent")


def test_the_page_is_one_file_that_asks_only_its_server():
    text = page.text()
    links = re.findall(r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)""", text)
    assert [link for link in links if not link.startswith("data:")] == []
    assert not re.search(r"@import|url\(|\son[a-z]+=|\sstyle=|eval\(|innerHTML", text)
    for addressed in re.findall(r"https?://[^\s\"'`]+", text):
        assert addressed.startswith("http://www.w3.org/")  # names of SVG, not places
    policy = dict(part.split(" ", 1) for part in page.policy().split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in page.policy()


def test_from_nothing_to_a_live_forecast(tab):
    tab.resize(1200, 1400)
    engine = served()
    with serving(engine) as client:
        tab.open(f"{client.base_url}/")
        tab.wait(SHOWN.format("empty"))
        assert not tab.evaluate(SHOWN.format("live"))
        assert "curl" in text_of(tab, "example")
        assert text_of(tab, "status") == "Waiting for records"
        sent = records(60)
        learnt(client, sent[:50])
        tab.wait(f"{SHOWN.format('live')} && document.getElementById('samples').textContent === '50'")
        assert text_of(tab, "status") == "Live"
        assert text_of(tab, "target") == "load"
        last = learnt(client, sent[50:])[-1]
        tab.wait("document.getElementById('samples').textContent === '60'")
        tab.wait("state.frames.at(-1).samples === 60")
        assert text_of(tab, "forecast") == f"{last['forecast']:.3f}".rstrip("0")
        assert text_of(tab, "observed-note") == sent[-1]["at"].replace("T", " ")
        check_drawings(tab, client.get("/history").json())
        images = {}
        for scheme in ("light", "dark"):
            tab.scheme(scheme)
            tab.wait("state.reply && true")
            images[scheme] = tab.screenshot()
            assert contrast_of(tab) >= 4.5
        assert images["light"] != images["dark"]
        tab.resize(360, 800)
        tab.wait("document.querySelector('#forecast-chart svg').viewBox.baseVal.width <= 360")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.wait("document.getElementById('status').dataset.state === 'lost'")
    refused = [one for one in tab.complaints if "ERR_CONNECTION" not in str(one)]
    assert refused == []


def check_drawings(tab, history):
    """What the charts show is what the server says."""
    observed = path_of(tab, "#forecast-chart .series.observed")
    ours = path_of(tab, "#forecast-chart .series.ours")
    known = [one for one in history["outcomes"] if one["value"] is not None]
    assert len(observed) == len(known) < 60
    assert len(ours) == sum(one["due"] is not None for one in history["outcomes"]) + 2
    assert ours[-1][0] > observed[-1][0]  # two steps ahead
    highest = max(range(len(known)), key=lambda place: known[place]["value"])
    assert min(observed, key=lambda point: point[1]) == observed[highest]
    steps = [after["number"] - before["number"] for before, after in itertools.pairwise(known)]
    widths = [after[0] - before[0] for before, after in itertools.pairwise(observed)]
    for step, width in zip(steps, widths, strict=True):
        assert width == pytest.approx(step * widths[0] / steps[0], abs=0.11)
    for kind in ("ours", "naive", "seasonal"):
        assert len(path_of(tab, f"#error-chart .series.{kind}")) == len(history["frames"])
    pixels = tab.evaluate(
        "(() => { const canvas = document.querySelector('#heat canvas');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "return [canvas.height, new Set(new Uint32Array(data.buffer)).size]; })()"
    )
    assert pixels[0] == len(history["frames"][-1]["activity"])
    assert pixels[1] > 3
    assert "60 observations" in tab.evaluate("document.querySelector('#forecast-chart svg').getAttribute('aria-label')")
    tab.evaluate("document.querySelector('details').open = true")
    tab.wait("document.querySelectorAll('#rows tr').length === 25")
    assert tab.evaluate("document.querySelector('#rows td').textContent") == "60"


def path_of(tab, selector):
    drawn = tab.evaluate(f"document.querySelector('{selector}').getAttribute('d')")
    return [tuple(map(float, point.split())) for point in re.findall(r"[-\d.]+ [-\d.]+", drawn)]


def contrast_of(tab):
    """The least contrast of text to what is behind it, as WCAG 2 has it."""
    return tab.evaluate(
        """(() => {
        const light = (css) => css.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
          .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
          .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
        const behind = (one) => { const css = getComputedStyle(one).backgroundColor;
          return css === "rgba(0, 0, 0, 0)" ? behind(one.parentElement) : css; };
        const of = (one) => { const svg = one.closest("svg"), css = getComputedStyle(one);
          const pair = [css[svg ? "fill" : "color"], behind(svg ? svg.parentElement : one)].map(light);
          return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05); };
        const seen = [...document.querySelectorAll("h1, h1 span, h2, p, dt, dd, button, td, th, footer, text")];
        return Math.min(...seen.filter((one) => one.textContent && one.getClientRects().length).map(of));
        })()"""
    )


def test_the_page_asks_for_the_token_and_takes_no_other(tab):
    tab.resize(1000, 800)
    tab.complaints.clear()
    stream = new()
    stream.update_many(records(20))
    with serving(served(stream), token=TOKEN, hosts=None) as client:
        tab.open(f"{client.base_url}/")
        tab.wait(SHOWN.format("sign-in"))
        assert not tab.evaluate(SHOWN.format("live"))
        for token, shown in (("wrong", "sign-in-note"), (TOKEN, "live")):
            tab.evaluate(f"document.getElementById('token').value = '{token}'")
            tab.evaluate("document.querySelector('form').requestSubmit()")
            tab.wait(f"{SHOWN.format(shown)} && document.getElementById('{shown}').textContent !== ''")
        tab.wait("document.getElementById('samples').textContent === '20'")
        tab.evaluate("window.before = true; location.reload()")
        tab.wait("window.before === undefined && document.getElementById('samples')?.textContent === '20'")
        assert not tab.evaluate(SHOWN.format("sign-in"))
    assert [one for one in tab.complaints if "401" not in str(one) and "ERR_CONN" not in str(one)] == []


def test_nothing_in_a_stream_is_taken_for_code(tab):
    """Names and time stamps from outside are shown as they are."""
    evil = "<img src=x onerror=\"document.title='taken'\">"
    tab.complaints.clear()
    settings = dataclasses.replace(SETTINGS, target=evil, features=())
    with serving(Engine(lambda record: RecordStream(settings, record)), settings) as client:
        tab.open(f"{client.base_url}/")
        tab.wait(SHOWN.format("empty"))
        assert text_of(tab, "target") == evil
        learnt(client, [{evil: float(step % 4), "x": 1.0} for step in range(12)])
        tab.wait(SHOWN.format("live"))
        assert tab.evaluate("document.images.length") == 0
        assert tab.evaluate("document.title") == f"{evil} · Onward"
    assert [one for one in tab.complaints if "ERR_CONN" not in str(one)] == []
