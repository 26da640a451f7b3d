"""`onward stream`: what it makes of its input, that it goes on to the same bits, and that nothing ends it."""

import contextlib
import csv
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward import baselines, checkpoint
from onward.cli import main, rows, stream_output
from onward.cli.errors import UsageError
from onward.cli.rows import RowReader
from onward.judge import Judge
from onward.readings import Reader, RecordError, seconds
from onward.records import CHUNK, RecordStream, StreamSettings
from tests.reference.combination import mixed

SETTINGS = StreamSettings("y", horizon=2, season=3, time="t", units=2)
OPTIONS = ["--target", "y", "--horizon", "2", "--season", "3", "--time", "t", "--units", "2"]


def records(count, seed=0):
    rng = np.random.default_rng(seed)
    y = np.sin(np.arange(count)) + 0.1 * rng.normal(size=count) + 5
    return [
        {"t": f"2026-01-{1 + i // 24 % 28:02}T{i % 24:02}", "y": f"{y[i]:.6g}", "a": f"{i % 7}"} for i in range(count)
    ]


def table(some, header="t,y,a"):
    return "\n".join([header, *(",".join(record.values()) for record in some), ""])


def run(*words):
    return main(["stream", *map(str, words)])


# The reader


def read(data, needed=("y",), **options):
    reader = RowReader(needed, **options)
    return reader.feed(data) + reader.finish()


@pytest.mark.parametrize(
    ("data", "expected"),
    {
        "plain": (b"y,a\n1,2\n3,4\n", ["1", "3"]),
        "no end": (b"y,a\n1,2\n3,4", ["1", "3"]),
        "carriage returns": (b"y,a\r\n1,2\r\n3,4\r\n", ["1", "3"]),
        "byte order mark": (b"\xef\xbb\xbfy,a\n1,2\n", ["1"]),
        "blank lines": (b"\n\ny,a\n\n1,2\n  \n3,4\n", ["1", "3"]),
        "semicolons": (b"y;a\n1;2\n", ["1"]),
        "tabs": (b"a\ty\n2\t1\n", ["1"]),
        "quotes": (b'"y","a b, c"\n"1","x, ""y"""\n2,3\n', ["1", "2"]),
        "spaces": (b"y , a\n1 , 2\n", ["1 "]),
        "the same header again": (b"y,a\n1,2\ny,a\n3,4\n", ["1", "3"]),
        "another header": (b"y,a\n1,2\na,b,y\n3,4,5\n", ["1", "5"]),
        "too few": (b"y,a\n1\n3,4\n", ["it has 1 fields where the header has 2", "3"]),
        "too many": (b"y,a\n1,2,3\n3,4\n", ["it has 3 fields where the header has 2", "3"]),
        "open quote": (b'y,a\n"1,2\n3,4\n', ["a quote is not closed, or in the wrong place", "3"]),
        "nul": (b"y,a\n1,\x002\n3,4\n", ["it holds NUL bytes", "3"]),
        "no UTF-8": (b"y,a\n1,\xff\n3,4\n", ["byte 3 is not UTF-8", "3"]),
        "long": (b"y,a\n" + b"1" * (rows.LONGEST + 1) + b"\n3,4\n", ["the line is longer than 1,048,576 bytes", "3"]),
        "long, no end": (b"y,a\n3,4\n" + b"1" * (rows.LONGEST + 1), ["3", "the line is longer than 1,048,576 bytes"]),
        "JSON": (b'{"y": 1}\n\n{"a": 2, "y": 3}', [1, 3]),
        "no JSON": (b'{"y": 1}\nyes\n{"y": 3}\n', [1, "it is no JSON (Expecting value: line 1 column 1 (char 0))", 3]),
        "no object": (b'[1]\n{"y": 3}\n', ["it is JSON, but no object with named fields", 3]),
        "deep": (b'{"y": 3}\n' + b'{"y":' * 100_000 + b"\n", [3, "its JSON is nested too deeply"]),
    }.values(),
)
def test_what_is_made_of_lines(data, expected):
    found = read(data)
    assert [row.record["y"] if row.record else row.reason for row in found] == expected
    assert [row.number for row in found] == list(range(1, len(expected) + 1))


@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [b"y,a\n", b"1,2\n", b'"', b"\r\n", b'{"y": 1}\n', b"[", b"y;a\n", b"\xef\xbb\xbf", b"3", b"\0"]
            ),
        ),
        max_size=12,
    ),
    start=st.sampled_from([b"", b"y,a\n", b'{"y": 1}\n']),
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_end_the_reading(parts, start):
    """In whatever pieces they come, the rows are the same, and only a first header can be refused."""
    whole = start + b"".join(parts)
    reader, found, refusal = RowReader(("y",)), [], ""
    try:
        for part in (start, *parts):
            found += reader.feed(part)
        found += reader.finish()
    except UsageError as error:
        refusal = str(error)
    if refusal:
        assert "should name the fields" in refusal or "UTF-16" in refusal
        with pytest.raises(UsageError, match=re.escape(refusal)):
            read(whole)
    else:
        assert read(whole) == found
    stream = Reader("y", ("a",), "t")
    for row in found:
        assert bool(row.record is None) == bool(row.reason)
        if row.record is not None:
            with contextlib.suppress(RecordError):
                stream.read(row.record)


def test_a_second_input_may_have_another_header_or_none():
    reader = RowReader(("y",))
    assert [row.record for row in reader.feed(b"y,a\n1,2\n")] == [{"y": "1", "a": "2"}]
    reader.begin("b.csv")
    assert [row.record for row in reader.feed(b"a;y\n3;4\n")] == [{"a": "3", "y": "4"}]
    reader.begin("c.csv")
    (row,) = reader.feed(b"5;6\n")
    assert (row.record, row.number, rows.place_of(row)) == ({"a": "5", "y": "6"}, 3, "line 1 of c.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n", "has no field 'y', but 'a', 'b'; name one that it has"),
        (b"y,y\n1,2\n", "has more than one field 'y'"),
        (b"\xff\xfey\0,\0", "is UTF-16; convert it"),
    ],
)
def test_headers_that_are_refused(data, message):
    with pytest.raises(UsageError, match=message):
        read(data)


# Records


@pytest.mark.parametrize(
    "value", ["", " ", "NaN", "NA", "null", "None", "n/a", "?", None, math.nan, "inf", "-inf", 1e999]
)
def test_missing_values(value):
    reader = Reader("y", ("a",))
    assert all(map(math.isnan, reader.read({"y": value, "a": value}).values))
    y, a = reader.read({"y": True}).values
    assert y == 1
    assert math.isnan(a)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": 1}, "the target field 'y' is not there (fields: 'a'); name one that is"),
        ({"y": "much"}, "field 'y' holds 'much' instead of a number; leave it empty where it is missing"),
        (
            {"y": 1, "a": [1, 2]},
            "field 'a' holds a nested value, [1, 2], instead of a number; put its numbers beside it",
        ),
        ({"y": {"z": 1}}, "field 'y' holds a nested value, {'z': 1}, instead of a number; put its numbers beside it"),
        ({"y": 1e16}, "field 'y' is 1e+16, beyond 1e+15; give it in larger units"),
        ({"y": 10**400}, "field 'y' is an integer of too many digits; give it in larger units"),
        (
            {"y": 1, "t": "noon"},
            "field 't' holds 'noon', which is no time; give ISO 8601 (2026-01-31T12:00) or seconds",
        ),
        ([1], "a record must be a mapping from names to values, got [1]; give one with 'y'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_records_change_nothing(record, message):
    stream = RecordStream(SETTINGS, {"y": 1, "a": 2})
    with pytest.raises(RecordError, match=re.escape(message)):
        stream.update_many([{"y": 2}, record])
    assert stream.samples == 0


def test_times():
    for text in ("2026-01-31T12:30", "2026-01-31 12:30:00+05:00", "20260131T1230"):
        assert seconds("t", text) == 1769862600
    assert seconds("t", 1769862600) == seconds("t", "1769862600") == seconds("t", 1769862600000) == 1769862600
    assert math.isnan(seconds("t", ""))
    assert math.isnan(seconds("t", None))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"horizon": 0}, "`horizon` must be at least 1"),
        ({"season": 1.5}, "`season` must be an integer"),
        ({"units": 0}, "`units` must be at least 1"),
        ({"learning_rate": -1.0}, "`learning_rate` must be a number above 0"),
        ({"cell": "gruu"}, "unknown cell 'gruu'; did you mean gru"),
        ({"cell": "gru:leak=1"}, "has the option 'leak', which gru does not take"),
        ({"algorithm": "rtrl@3"}, "has a window after @"),
        ({"features": ("a", "a")}, "`features` must be different fields"),
        ({"features": "abc"}, "`features` must be several names"),
        ({"time": "y"}, "`time` is 'y', which is the target or a feature too"),
        ({"target": ""}, "must be names of fields"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        StreamSettings(**({"target": "y"} | wrong))


# The stream of records


def test_the_same_bits_however_records_come_and_after_a_restart(tmp_path):
    some = records(CHUNK + 70)
    some[40]["y"] = some[41]["a"] = ""
    whole, single = RecordStream(SETTINGS, some[0]), RecordStream(SETTINGS, some[0])
    outcomes = whole.update_many(some)
    one_by_one = [single.update(record) for record in some[:50]]
    single.save(tmp_path / "s", note=3)
    again, header = RecordStream.load_with_header(tmp_path / "s")
    assert header["note"] == 3
    assert again.forecast() == single.forecast() == one_by_one[-1].forecast
    one_by_one += again.update_many(some[50:60]) + again.update_many(some[60:])
    assert one_by_one == outcomes
    assert again.figures() == whole.figures()
    assert whole.figures()["missing"] == 2
    for mine, theirs in zip(again.state.arrays, whole.state.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert whole._advance._cache_size() == 1  # nothing was compiled but at the start


def test_outcomes_are_the_learners_and_the_baselines():
    """Forecasts: what the learner gives sample by sample. Errors: what comparing whole series gives."""
    some = records(60)
    stream = RecordStream(SETTINGS, some[0])
    outcomes = stream.update_many(some)
    values = np.array([float(record["y"]) for record in some])
    naive, seasonal = baselines.forecasts(values, 2), baselines.forecasts(values, 2, 3)
    base = mixed(values, np.stack([naive, seasonal], 1), 2)
    missed = values - np.append([np.nan] * 2, base[:-2])
    learner, state, whole = stream.learner, stream.learner.init(), []
    for i in range(len(outcomes)):
        hour, day = i % 24, (3 + i // 24) % 7  # it was a Thursday
        turns = [hour / 24, hour / 24 + 0.25, day / 7, day / 7 + 0.25]
        x = np.array([values[i], i % 7, seasonal[i], *np.sin(2 * np.pi * np.array(turns)), missed[i]])
        whole.append(base[i] + learner.predict(state, x)[0])
        state = learner.learn(state, x, missed[i : i + 1])
    made = np.array([outcome.forecast for outcome in outcomes])
    np.testing.assert_allclose(made, mixed(values, np.stack([naive, seasonal, whole], 1), 2), rtol=1e-5)
    scores = baselines.compare(values, {"model": made}, 2, 3)
    figures = stream.figures()
    found = [figures[name] for name in ("mae", "naive_mae", "seasonal_mae")]
    np.testing.assert_allclose(found, list(scores.mae(rolling=True).values()), rtol=1e-9)
    assert (figures["samples"], figures["judged"], figures["failed"]) == (60, 58, 0)
    for late, early in zip(outcomes[2:], outcomes, strict=False):
        assert late.due == early.forecast
        assert late.error == late.due - late.value
        assert late.naive == early.value
        assert late.seasonal_error == late.seasonal - late.value
    assert outcomes[1].due is outcomes[1].error is outcomes[1].naive is None


def test_it_starts_as_the_naive_forecast():
    values = [3.0, 4.0, 7.0]
    stream = RecordStream(StreamSettings("y", units=2, learning_rate=1e-12), {"y": 1})
    values = values * 60
    made = [outcome.forecast for outcome in stream.update_many([{"y": value} for value in values])]
    np.testing.assert_allclose(made[-20:], values[-20:], rtol=0.01)  # the target's statistics are those before it


def test_windows_of_several_samples():
    some = records(30)
    plan = StreamSettings("y", units=2, window=4, algorithm="bptt", cell="gru")
    one, other = RecordStream(plan, some[0]), RecordStream(plan, some[0])
    assert one.update_many(some) == other.update_many(some[:5]) + [other.update(record) for record in some[5:]]


# The command


@pytest.fixture
def data(tmp_path):
    """A file with some bad rows."""
    lines = table(records(700)).split("\n")
    lines[5], lines[9], lines[300] = "x,y,z,1", "2026-01-01T08,oops,1", "2026-01-01T08,,"
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines))
    return path


def test_forecasts_of_a_file(data, capsys):
    assert run(data, *OPTIONS) == 0
    out, err = capsys.readouterr()
    found = list(csv.DictReader(io.StringIO(out)))
    assert len(found) == 698
    assert [row["number"] for row in found] == [str(i + 1) for i in range(698)]
    for early, late in zip(found, found[2:], strict=False):
        assert late["due"] == early["forecast"]
    assert found[297]["value"] == found[297]["error"] == ""
    assert "line 6 of " in err
    assert "is skipped: it has 4 fields where the header has 3." in err
    assert "field 'y' holds 'oops' instead of a number" in err
    assert re.search(
        r"698 samples  error [\d.]+ \(naive [\d.]+, seasonal [\d.]+\)  drift [\d.]+  2 bad rows  2 missing", err
    )


@given(
    rows=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    b'{"y": 1, "t": NaN}',
                    b'{"y": 1e400, "t": 3.5}',
                    b'{"y": 1, "t": "2026-01-01\\ud80012:00"}',
                    b"\0",
                    b"2026-01-01,1,2",
                    b"t,y,a",
                    b"a,y,t",
                    b'"2026-01-01",1,"2',
                    b"2026-01-01\xc3\xa912:00,1,1",
                    b",,",
                    b"nan,1,2",
                ]
            ),
        ),
        max_size=8,
    ),
    start=st.sampled_from([b"", b"t,y,a\n", b'{"t": 1, "y": 1, "a": 2}\n']),
    form=st.sampled_from(["csv", "json"]),
)
@settings(max_examples=30, deadline=None)
def test_no_input_ends_the_command_but_with_a_sentence(tmp_path_factory, rows, start, form):
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(start + b"\n".join(rows))
    out, err = io.TextIOWrapper(io.BytesIO(), "ascii"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(path, *OPTIONS, "--output", form)
    assert code in (0, 1, 2)
    assert all(line.startswith("onward stream: ") for line in err.getvalue().splitlines())
    text = out.buffer.getvalue().decode("ascii")
    lines = list(csv.reader(io.StringIO(text))) if form == "csv" else text.splitlines()
    for number, line in enumerate(lines if form == "json" else lines[1:], 1):
        found = (
            json.loads(line, parse_constant=pytest.fail) if form == "json" else dict(zip(lines[0], line, strict=True))
        )
        assert int(found["number"]) == number


def test_drift_is_the_late_error_beside_the_earlier():
    judge, fast, slow = Judge(1, None), 1.0, 1.0
    errors = [1.0] * 2500 + [3.0] * 50
    judge.judge(np.zeros(2551), np.array([*errors, 0.0])[:, None].repeat(3, 1))
    for _ in range(50):
        fast, slow = fast + (3 - fast) / 100, slow + (3 - slow) / 2000
    np.testing.assert_allclose(judge.drift(), fast / slow, rtol=1e-9)


def test_json_in_and_out(tmp_path, capsys):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(record | {"note": 'a "b"'}) for record in records(8)))
    assert run(path, *OPTIONS, "--output", "json") == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["number"] for row in found] == list(range(1, 9))
    assert found[0]["due"] is None
    assert found[7]["time"] == "2026-01-01T07"
    assert "reads 'y', 'a', 't'; not 'note'." in err


def test_it_goes_on_where_it_was(data, tmp_path, capsys, monkeypatch):
    """Stopped by SIGTERM between rows, then again by the end of its input: the output is that of one run."""
    assert run(data, *OPTIONS, "--out", tmp_path / "whole.csv", "--quiet") == 0
    kept = ["--checkpoint", tmp_path / "c", "--out", tmp_path / "o.csv"]
    write = stream_output.Writer.write

    def interrupted(self, outcomes):
        write(self, outcomes)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(stream_output.Writer, "write", interrupted)
        assert run(data, *OPTIONS, *kept) == 130
    assert "stopped after 254 samples; go on with --resume" in capsys.readouterr().err
    with open(tmp_path / "o.csv", "a") as file:
        file.write("what came after the checkpoint\n")
    text = data.read_text()
    part = tmp_path / "part.csv"
    part.write_text("\n".join(text.split("\n")[:400]))
    assert run(part, *kept, "--resume") == 0
    assert run(data, *kept, "--resume", "--target", "y") == 0
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert "698 samples" in capsys.readouterr().err
    more = tmp_path / "more.csv"
    more.write_text("2026-02-01T00,5,1\n2026-02-01T01,5,2\n")
    assert run(more, *kept, "--resume", "--follow-on") == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[-1].startswith("700,2026-02-01T01,5,")
    data.write_text(text.rstrip("\n") + "\n" + more.read_text())
    assert run(data, *OPTIONS, "--out", tmp_path / "longer.csv", "--quiet") == 0
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "longer.csv").read_bytes()


def test_rows_that_cannot_be_read_may_stop_it(data, tmp_path, capsys):
    kept = [*OPTIONS, "--checkpoint", tmp_path / "c", "--out", tmp_path / "o.csv"]
    assert run(data, *kept, "--on-error", "stop") == 1
    assert "onward stream: line 6 of " in (err := capsys.readouterr().err)
    assert "cannot be read: it has 4 fields where the header has 3; mend it, or pass over" in err
    assert RecordStream.load(tmp_path / "c").samples == 4
    lines = data.read_text().split("\n")
    data.write_text("\n".join([*lines[:5], "2026-01-01T04,5,1", *lines[6:]]))  # mended
    assert run(data, *kept, "--resume", "--on-error", "stop") == 1
    assert "field 'y' holds 'oops' instead of a number" in capsys.readouterr().err
    assert RecordStream.load(tmp_path / "c").samples == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --target FIELD"),
        (["--target", "y", "--horizon", "0"], "--horizon must be at least 1"),
        (["--target", "y", "--cell", "x"], "unknown cell 'x'"),
        (["--target", "z"], "should name the fields and has no field 'z', but 't', 'y', 'a'"),
        (["--target", "y", "--features", "b"], "has no field 'b'"),
        (["--target", "y", "--resume"], "--resume needs --checkpoint FILE"),
        (["--target", "y", "--follow-on"], "--follow-on says how --resume reads the input"),
        (["--target", "y", "--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["--target", "y", "--checkpoint", "nowhere/c"], "nowhere/c cannot be written"),
        (["--target", "y", "--out", "nowhere/o"], "nowhere/o cannot be written"),
        (["--target", "y", "--targets", "3"], "did you mean --target"),
    ],
)
def test_requests_that_make_no_sense(data, capsys, words, message):
    assert run(data, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_checkpoints_and_outputs_are_not_replaced(data, tmp_path, capsys):
    few = tmp_path / "few.csv"
    few.write_text(table(records(5)))
    kept = ["--checkpoint", tmp_path / "c", "--out", tmp_path / "o.csv"]
    assert run(few, *OPTIONS, *kept, "--resume") == 0  # there is nothing to go on from yet
    before = (tmp_path / "c").read_bytes(), (tmp_path / "o.csv").read_bytes()
    capsys.readouterr()
    other = tmp_path / "other.csv"
    other.write_text(table(records(9, seed=1)))
    (tmp_path / "short.csv").write_text("")
    checkpoint.save(tmp_path / "foreign", {}, config={}, step=0)
    for words, message in (
        ([few, *OPTIONS, *kept], "is there; go on from it with --resume"),
        ([few, *OPTIONS, *kept[2:]], "is there and not empty"),
        ([few, *kept, "--resume", "--horizon", "3"], "--horizon differs from that of"),
        ([other, *kept, "--resume"], "the input does not begin with the 5 rows"),
        ([tmp_path / "short.csv", *kept, "--resume"], "the input ends after 0 rows, before the 5"),
        ([few, *kept[:2], "--resume", "--out", tmp_path / "short.csv"], "has 0 bytes, but had"),
        ([few, "--checkpoint", tmp_path / "foreign", "--resume"], "not one of a stream"),
        ([few, "--checkpoint", few, "--resume"], "is truncated, or is no checkpoint"),
        ([tmp_path / "none.csv", *OPTIONS], "none.csv is not there"),
    ):
        assert run(*words) == 2, message
        assert message in capsys.readouterr().err
    assert before == ((tmp_path / "c").read_bytes(), (tmp_path / "o.csv").read_bytes())


def test_inputs_with_nothing_to_learn(tmp_path, capsys):
    path = tmp_path / "data.csv"
    path.write_text("")
    assert run(path, *OPTIONS) == 0
    assert "there were no rows" in capsys.readouterr().err
    path.write_text("t,y,a\n1,2\nx,y z,3\n")
    assert run(path, *OPTIONS) == 1
    assert "no row could be read" in capsys.readouterr().err


def test_the_live_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    monitor = stream_output.Monitor(quiet=False, out=out)
    figures = {
        "samples": 1234,
        "mae": 0.5,
        "naive_mae": 1.0,
        "seasonal_mae": None,
        "drift": 1.2,
        "missing": 0,
        "refused": 0,
    }
    monitor.show(figures)
    assert re.fullmatch(r"\r\x1b\[2K1,234 samples  [\d,.e+]+/s  error 0.5 \(naive 1\)  drift 1.20", out.getvalue())
    monitor.reject("line 3", "it is bad")
    assert out.getvalue().endswith("\r\x1b[2Konward stream: line 3 is skipped: it is bad.\n")


def start(*words, **options):
    environment = os.environ | {"JAX_ENABLE_X64": "1"}  # as here
    command = [sys.executable, "-m", "onward", "stream", *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, **options)


def test_killed_at_any_moment(tmp_path):
    """By SIGKILL while it writes checkpoint after checkpoint; then the output goes on as if nothing had been."""
    path, whole, out, kept = (tmp_path / name for name in ("data.csv", "whole.csv", "o.csv", "c"))
    path.write_text(table(records(60)))
    assert run(path, *OPTIONS, "--out", whole, "--quiet") == 0
    process = start(*OPTIONS, "--checkpoint", kept, "--checkpoint-every", 1, "--out", out, "--quiet")
    lines = path.read_bytes().splitlines(keepends=True)
    process.stdin.write(lines[0])
    for line in lines[1:41]:
        process.stdin.write(line)
        process.stdin.flush()
        time.sleep(0.002)
    deadline = time.monotonic() + 120
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    process.stdin.close()
    assert 1 <= RecordStream.load(kept).samples <= 40
    assert run(path, "--checkpoint", kept, "--resume", "--out", out, "--quiet") == 0
    assert out.read_bytes() == whole.read_bytes()


def test_slow_rows_are_answered_at_once_and_a_broken_pipe_ends_quietly(tmp_path):
    kept = tmp_path / "c"
    process = start(*OPTIONS, "--checkpoint", kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = table(records(5)).encode().splitlines(keepends=True)
    process.stdin.write(lines[0])
    for number, line in enumerate(lines[1:5], 1):
        process.stdin.write(line)
        process.stdin.flush()
        if number == 1:
            assert process.stdout.readline().startswith(b"number,time,value")
        assert process.stdout.readline().startswith(b"%d,2026-01-01T" % number)
    process.stdout.close()
    process.stdin.write(lines[5])
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b"onward stream: forecasts 'y', reads 'y', 'a', 't'.\n"
    process.stderr.close()
    assert RecordStream.load(kept).samples == 5
