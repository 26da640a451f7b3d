"""From bytes to the rows of a stream: CSV or JSON lines, whatever comes.

A row is a line. What cannot be read is a row all the same, with the reason: nothing that an input holds ends the
reading, but for a first header that lacks a field that is asked for.
"""

import csv
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from onward.cli.errors import UsageError

Format = Literal["auto", "csv", "json"]
LONGEST = 1 << 20  # bytes in a line; of a longer one nothing is kept
SEPARATORS = ",;\t|"
_ODD = re.compile(rb'["\x00\r\x80-\xff]|^\s*$')
_UTF8, _UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


class Header(NamedTuple):
    """The fields of CSV rows, in their order, and what separates them."""

    separator: str
    fields: tuple[str, ...]


class Row(NamedTuple):
    """`number`: from 1, over all inputs. `place`: input and line, for messages. `record`: its cells by name, or None
    and a `reason`. `digest`: of all rows up to it. `header`: that of CSV rows."""

    number: int
    place: tuple[str, int]
    record: dict[str, Any] | None
    reason: str
    digest: int
    header: Header | None


class Splitter:
    """Cuts bytes into lines, without their ends; None stands for a line that is longer than `LONGEST`."""

    def __init__(self) -> None:
        self._rest, self._skipping = [], False
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that are complete now."""
        head, *lines = data.split(b"\n")
        self._keep(head)
        if not lines:
            return []
        whole: list[bytes | None] = [self._take()]
        whole += [line if len(line) <= LONGEST else None for line in lines[:-1]]
        self._keep(lines[-1])
        return whole

    def finish(self) -> list[bytes | None]:
        """The last line, if it has no end."""
        return [self._take()] if self._size or self._skipping else []

    def _keep(self, part):
        self._size += len(part)
        if self._size > LONGEST:
            self._rest, self._skipping = [], True
        elif part:
            self._rest.append(part)

    def _take(self):
        line = None if self._skipping else b"".join(self._rest)
        self._rest, self._skipping, self._size = [], False, 0
        return line


class RowReader:
    """Makes rows of the bytes of one input after another: `begin`, `feed` any number of times, `finish`.

    **Arguments.** `needed`: fields that the first header must have, the target first. `kind`: of all inputs, "auto" by
    what each starts with. `header`: of rows that went before, for inputs that go on after them without one.
    """

    def __init__(self, needed: Sequence[str], kind: Format = "auto", header: Header | None = None):
        self._needed, self._asked, self._header = tuple(needed), kind, header
        self._number = self._digest = 0
        self.begin("-")

    def go_on(self, number: int, digest: int) -> None:
        """Count on from a row that was read before."""
        self._number, self._digest = number, digest

    def begin(self, name: str) -> None:
        """A new input starts; `name` is what messages call it."""
        self._name, self._line, self._kind, self._first = name, 0, self._asked, True
        self._splitter = Splitter()

    def feed(self, data: bytes) -> list[Row]:
        """Rows that are complete now. **Raises.** `UsageError` if the first header lacks a needed field."""
        return self._read(self._splitter.feed(data))

    def finish(self) -> list[Row]:
        """The last row, if its line has no end. **Raises.** As `feed`."""
        return self._read(self._splitter.finish())

    def _read(self, lines) -> list[Row]:
        rows, target = [], self._needed[0]
        for raw in lines:
            header = self._header
            if raw and header is not None and self._kind == "csv" and not self._first and not _ODD.search(raw):
                cells = raw.decode().split(header.separator)  # the usual case, fast
                if len(cells) == len(header.fields) and target not in cells:
                    self._line += 1
                    self._number += 1
                    self._digest = digest = zlib.crc32(raw, self._digest + 1 & 0xFFFFFFFF)
                    record = dict(zip(header.fields, cells, strict=True))
                    rows.append(Row(self._number, (self._name, self._line), record, "", digest, header))
                    continue
            rows += self._rows([raw])
        return rows

    def _rows(self, lines) -> Iterator[Row]:
        for raw in lines:
            self._line += 1
            if self._line == 1 and raw is not None:
                if raw.startswith(_UTF16):
                    raise UsageError(f"{self._name} is UTF-16; convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8.")
                raw = raw.removeprefix(_UTF8)
            if raw is None:
                yield self._bad(b"", f"the line is longer than {LONGEST:,} bytes")
                continue
            raw = raw.removesuffix(b"\r")
            if not raw or raw.isspace():
                continue
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                yield self._bad(raw, f"byte {error.start + 1} is not UTF-8")
                continue
            if "\0" in text:
                yield self._bad(raw, "it holds NUL bytes")
                continue
            if self._kind == "auto":
                self._kind = "json" if text.lstrip()[0] in "{[" else "csv"
            yield from self._json(raw, text) if self._kind == "json" else self._csv(raw, text)

    def _json(self, raw, text) -> Iterator[Row]:
        try:
            record = json.loads(text)
        except RecursionError:
            yield self._bad(raw, "its JSON is nested too deeply")
            return
        except ValueError as error:
            yield self._bad(raw, f"it is no JSON ({error})")
            return
        if isinstance(record, dict):
            yield self._row(raw, record)
        else:
            yield self._bad(raw, "it is JSON, but no object with named fields")

    def _csv(self, raw, text) -> Iterator[Row]:
        header, first, self._first = self._header, self._first, False
        if header is None:
            self._header = self._first_header(text)
            return
        cells = _cells(text, header.separator)
        if cells is None:
            yield self._bad(raw, "a quote is not closed, or in the wrong place")
        elif self._needed[0] in cells and not any(map(_is_number, cells)):
            self._header = header._replace(fields=tuple(cell.strip() for cell in cells))
        elif first and (other := self._other_header(text)) is not None:  # this input has another separator
            self._header = other
        elif len(cells) != len(header.fields):
            yield self._bad(raw, f"it has {len(cells)} fields where the header has {len(header.fields)}")
        else:
            yield self._row(raw, dict(zip(header.fields, cells, strict=True)))

    def _first_header(self, text) -> Header:
        header = self._other_header(text)
        if header is None:
            separator = max(SEPARATORS, key=text.count)
            header = Header(separator, tuple(cell.strip() for cell in _cells(text, separator) or [text]))
        shown = ", ".join(map(repr, header.fields[:8])) + (", ..." if len(header.fields) > 8 else "")
        shown = shown if len(shown) <= 300 else shown[:300] + "..."
        for name in self._needed:
            if header.fields.count(name) != 1:
                what = "no field" if name not in header.fields else "more than one field"
                raise UsageError(
                    f"line {self._line} of {self._name} should name the fields and has {what} {name!r}, but {shown}; "
                    "name one that it has, or give the input a header."
                )
        return header

    def _other_header(self, text) -> Header | None:
        """Of the separators the first that makes a field of the target's name."""
        for separator in SEPARATORS:
            fields = tuple(cell.strip() for cell in _cells(text, separator) or ())
            if self._needed[0] in fields and not any(map(_is_number, fields)):
                return Header(separator, fields)
        return None

    def _row(self, raw, record, reason="") -> Row:
        self._number += 1
        self._digest = zlib.crc32(raw, self._digest + 1 & 0xFFFFFFFF)
        return Row(self._number, (self._name, self._line), record, reason, self._digest, self._header)

    def _bad(self, raw, reason) -> Row:
        return self._row(raw, None, reason)


def place_of(row: Row) -> str:
    """Where a row is, in words."""
    name, line = row.place
    return f"line {line:,}" + ("" if name == "-" else f" of {name}")


def _cells(text: str, separator: str) -> list[str] | None:
    """The fields of a line of CSV; None where its quotes make no sense."""
    if '"' not in text:
        return text.split(separator)
    try:
        rows = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
